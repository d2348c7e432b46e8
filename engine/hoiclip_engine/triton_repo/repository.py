"""Arranges an exported graph into a model repository."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from hoiclip.errors import UsageError
from hoiclip_engine import sidecar
from hoiclip_engine.triton_repo.config_text import config_text
from hoiclip_engine.triton_repo.configs import configs
from hoiclip_engine.triton_repo.form import ModelNames, RepositoryForm

VERSION = "1"
_HEAD = "# Written by hoiclip export --triton-repo; docs/triton.md says what may be changed.\n"


def require_room(repository: Path, model: str) -> None:
    """Raises UsageError: a folder that would be replaced is not one that an export has written."""
    for name in ModelNames.of(model).all:
        folder = repository / name
        if folder.exists() and not (folder / VERSION / sidecar.NAME).is_file():
            raise UsageError(f"{folder} is there and was not written by hoiclip export; choose another repository")


def arrange(room: Path, model: str, form: RepositoryForm) -> str:
    """Makes folders of models of what lies in a folder: a whole graph and its sidecar.

    Args:
        model: its name.

    Returns:
        The name of the ensemble, whose folder needs all others.

    Raises:
        OSError: the folder cannot be written.
    """
    said = json.loads((room / sidecar.NAME).read_text(encoding="utf-8"))
    graph = said["graphs"][0]
    names = ModelNames.of(model)
    files = [path for path in room.iterdir() if path.is_file()]
    for name, config in configs(names, graph, form.backend).items():
        (room / name / VERSION).mkdir(parents=True)
        (room / name / "config.pbtxt").write_text(_HEAD + config_text(config), encoding="utf-8")
        shutil.copyfile(room / sidecar.NAME, room / name / VERSION / sidecar.NAME)
    for path in files:
        if path.name != sidecar.NAME:
            path.rename(room / names.graph / VERSION / path.name)
    (room / sidecar.NAME).unlink()
    code = {names.preprocess: "preprocess_model.py", names.postprocess: "postprocess_model.py"}
    if form.backend == "python":
        code[names.graph] = "graph_model.py"
    for name, file in code.items():
        shutil.copyfile(Path(__file__).with_name(file), room / name / VERSION / "model.py")
    _write_labels(room / names.ensemble, said["vocabulary"]["labels"])
    return names.ensemble


def _write_labels(folder: Path, vocabulary: dict[str, Any]) -> None:
    """A name a line, by index."""
    for what in ("objects", "verbs"):
        text = "".join(f"{name}\n" for name in vocabulary[what])
        (folder / f"{what}.txt").write_text(text, encoding="utf-8")
