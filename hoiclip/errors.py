"""The errors a caller may want to catch; each knows the exit code it ends the command line with.

A message is one line: what was expected, what was found, what to do.
"""

from __future__ import annotations


class HoiclipError(Exception):
    """Base of every error this project raises on purpose."""

    exit_code = 1


class UsageError(HoiclipError):
    """The command or its arguments make no sense."""

    exit_code = 2


class SourceError(HoiclipError):
    """Nothing can be read from the source: missing, empty, without video, or not decodable at all."""

    exit_code = 3


class DataError(HoiclipError):
    """Annotations or pictures of a data set are damaged, missing or do not fit together."""

    exit_code = 3


class ModelError(HoiclipError):
    """A model file, checkpoint or engine is damaged, foreign or does not fit."""

    exit_code = 4


class EngineClosed(ModelError):
    """The engine was closed while a stream of it was still iterated."""


class BackendMissing(HoiclipError):
    """The backend, or a package it needs, is not installed; the message names what to install."""

    exit_code = 5


class GateFailed(HoiclipError):
    """What was made loses more accuracy than it may, or is slower than it may be; nothing was kept."""

    exit_code = 6


class SinkError(HoiclipError):
    """A result could not be written (disk full, folder missing, encoder refused)."""

    exit_code = 7
