"""The command line: `main.py` reads argv and calls a command, each of which has a file of its own."""
