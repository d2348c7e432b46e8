"""Model files, and what becomes one."""
