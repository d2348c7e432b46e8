"""A video archive looked at by many processes: files are cut into parts, parts are looked at, and each file is tracked
once over the looks of all its parts.

Nothing here but ray_pool.py knows Ray; what a worker does is plain calls on files below one folder, so that whoever
dies leaves a state that says what is left to do. docs/archive.md is for users.
"""
