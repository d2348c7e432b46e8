"""Threads and bounded queues between a source, a session, a tracker and sinks."""
