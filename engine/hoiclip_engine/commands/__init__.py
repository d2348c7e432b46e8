"""What the command line does, one file per command. Arguments come typed; argv is cli.py's alone."""
