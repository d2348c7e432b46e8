"""Refuses outputs that would overwrite an input or each other, before anything is opened.

Files are compared by device and inode, so that hard links, symbolic links and other spellings are found;
a file that does not exist yet by its real path. An input that is a folder stands for every file in it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

from hoiclip.core.errors import UsageError

if TYPE_CHECKING:
    from hoiclip_engine.sources.uri import SourceAddress


STDIO = "-"
Name: TypeAlias = Union[str, "os.PathLike[str]"]


def require_distinct(
    inputs: Iterable[Name | None],
    outputs: Iterable[Name | None],
    folders: Iterable[Name | None] = (),
    sources: Iterable[str] = (),
) -> None:
    """Checks that no output is an input or another output; opens and makes nothing.

    Args:
        inputs: files and folders that are read; "-" is standard input, None is left out.
        outputs: files that are written; "-" is standard output, None is left out.
        folders: folders that files are written into; they may be shared by outputs, but are never an input.
        sources: as written by the user. A folder among them is never written into; but files in it that are no source,
            such as earlier results, may be.

    Raises:
        UsageError: an output is an input or lies in a folder that is one, or two outputs are one file.
    """
    read = [name for name in inputs if name is not None]
    trees = [name for name in read if os.path.isdir(name)]
    by_identity: dict[object, Name] = {identity: name for name in read if (identity := _identity(name, 0)) is not None}
    written: dict[object, Name] = {}
    for output in (name for name in outputs if name is not None):
        identity = _identity(output, 1)
        if identity is None:
            continue
        conflict = by_identity.get(identity) or _tree_of(output, trees) or written.get(identity)
        if conflict is not None:
            raise _error(output, conflict)
        written[identity] = output
    by_identity |= {_identity(name, 0): name for name in sources if os.path.isdir(name)}
    for folder in (name for name in folders if name is not None):
        if (conflict := by_identity.get(_identity(folder, 1))) is not None:
            raise _error(folder, conflict)


def source_inputs(texts: Iterable[str], addresses: Iterable[SourceAddress]) -> Iterator[Name]:
    """Files that sources read: lists, every file they stand for, and the files that belong to it.

    In a folder, those are all that have the name of an image or video but for the suffix, such as its ground truth.
    Other files of the folder are not read: results may lie there.
    """
    yield from (text for text in texts if os.path.isfile(text))
    media = [address.location for address in addresses if address.kind in ("file", "stdin")]
    yield from media
    for folder in filter(os.path.isdir, texts):
        stems = {os.path.splitext(os.path.basename(name))[0] for name in media}
        yield from (entry.path for entry in os.scandir(folder) if os.path.splitext(entry.name)[0] in stems)


def model_inputs(model: Path, vocabulary: str | None = None) -> list[Path]:
    """The files that belong to a model file: itself, the graphs exported with it, and its new words."""
    from hoiclip_engine.export.graph_spec import METADATA_FILE

    beside = [METADATA_FILE, "*.onnx", "*.onnx.*"] if (model.parent / METADATA_FILE).is_file() else []
    words = [] if vocabulary is None else [Path(vocabulary)]
    return [model, *words, *(path for pattern in beside for path in model.parent.glob(pattern))]


def existing(folder: Path | None, *patterns: str) -> list[Path]:
    """Files in a folder that a command would write over, by the patterns of the names it gives."""
    return [] if folder is None else [path for pattern in patterns for path in folder.glob(pattern)]


def _identity(name: Name, standard_stream: int) -> object:
    """Equal for two names of one file; None for devices such as /dev/null, which any number may share."""
    try:
        status = os.fstat(standard_stream) if str(name) == STDIO else os.stat(name)
    except (OSError, ValueError):
        return os.path.realpath(str(name).replace("\0", ""))
    if str(name) == STDIO and not stat.S_ISREG(status.st_mode):
        return STDIO if standard_stream else None  # a terminal or a pipe may be both; it takes only one output
    return None if stat.S_ISCHR(status.st_mode) else (status.st_dev, status.st_ino)


def _tree_of(output: Name, trees: Sequence[Name]) -> Name | None:
    """The folder among inputs that holds an existing output, directly, deeper down, or as a hard link."""
    if not trees or not os.path.isfile(output):
        return None
    status = os.stat(output)
    above = {_identity(parent, 1) for parent in Path(os.path.realpath(output)).parents}
    for tree in trees:
        if _identity(tree, 0) in above:
            return tree
        if status.st_nlink > 1 and any(_identity(path, 0) == (status.st_dev, status.st_ino) for path in _files(tree)):
            return tree
    return None


def _files(tree: Name) -> Iterator[str]:
    for folder, _, names in os.walk(tree):
        yield from (os.path.join(folder, name) for name in names)


def _error(output: Name, conflict: Name) -> UsageError:
    from hoiclip_engine.sources.uri import redact

    return UsageError(
        f"inputs and outputs must be different files, found {redact(str(output))} to be, or to be in, "
        f"{redact(str(conflict))}; choose another name for the output"
    )
