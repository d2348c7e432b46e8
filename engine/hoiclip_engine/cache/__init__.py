"""Cached graphs and engines of this machine, and the signed folders they lie in."""
