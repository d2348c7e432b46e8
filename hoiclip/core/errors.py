"""Errors that callers may catch, each with its exit code of the command line.

A message is one line: what was expected, what was found, what to do.
"""

from __future__ import annotations

PARTIAL = 7
"""Exit code: some results were written before something failed."""


class HoiclipError(Exception):
    """Base of every error this project raises on purpose."""

    exit_code = 1


class UsageError(HoiclipError):
    """The command or its arguments make no sense."""

    exit_code = 2


class SourceError(HoiclipError):
    """The source cannot be read: missing, empty, without video, or not decodable."""

    exit_code = 3


class DataError(HoiclipError):
    """Annotations or images of a dataset are damaged, missing or do not fit together."""

    exit_code = 3


class ModelError(HoiclipError):
    """A model file, checkpoint or engine is damaged, foreign or does not fit."""

    exit_code = 4


class EngineClosed(ModelError):
    """A session, or its engine, was closed while it was still in use."""


class BackendMissing(HoiclipError):
    """The backend, or a package it needs, is not installed; the message names what to install."""

    exit_code = 5


class GateFailed(HoiclipError):
    """An accuracy gate or regression gate failed: less accurate or slower than allowed; nothing was kept."""

    exit_code = 6


class SinkError(HoiclipError):
    """A result could not be written (disk full, folder missing, encoder refused)."""

    exit_code = PARTIAL
