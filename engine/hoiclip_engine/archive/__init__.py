"""A video archive processed by many processes: files are split into segments, each segment is inferred by a worker, and
each file is tracked once over the detections of all its segments.

Only ray_pool.py knows Ray; a worker makes plain calls on files below one folder, so that a process that dies leaves a
state that shows what is left to do. docs/archive.md is for users.
"""
