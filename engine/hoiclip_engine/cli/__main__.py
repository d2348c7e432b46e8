"""`python -m hoiclip_engine.cli`: the program `hoiclip`."""

from hoiclip_engine.cli.main import command

command()
