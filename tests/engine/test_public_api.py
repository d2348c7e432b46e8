"""The public names of hoiclip_engine: each can be imported, none is imported before it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import hoiclip_engine
from hoiclip_engine import Event, FrameResult, Interaction, TrackedPairs
from hoiclip_engine.types.frame import Frame
from tests.engine.frame_results import VOCABULARY, Row, tracked
from tests.without_torch import HAS_TORCH

HEAVY = ("torch", "av", "cv2", "openvino", "onnxruntime", "hoiclip_engine.engine", "hoiclip_engine.backends")
ROOT = Path(hoiclip_engine.__file__).parent


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def modules_after(code: str) -> set[str]:
    paths = [str(ROOT.parents[1]), str(ROOT.parent), str(ROOT.parents[1] / "kernels")]
    return set(run_python(f"import sys; sys.path[:0] = {paths}; {code}; print(*sys.modules)").split())


@pytest.mark.parametrize("name", hoiclip_engine.__all__)
def test_public_name_can_be_imported(name: str) -> None:
    if name == "train_model" and not HAS_TORCH:
        pytest.skip("training needs torch")
    assert getattr(hoiclip_engine, name) is not None


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Workers'"):
        hoiclip_engine.Workers  # noqa: B018


def test_dir_lists_public_names() -> None:
    assert set(hoiclip_engine.__all__) <= set(dir(hoiclip_engine))


def test_public_names_are_listed_once_for_type_checkers_and_once_for_import() -> None:
    """mypy sees what is imported under TYPE_CHECKING, Python what _MODULES says: both from the same modules."""
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    (guarded,) = [node for node in tree.body if isinstance(node, ast.If)]
    imported = {
        alias.name: node.module for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert imported == hoiclip_engine._MODULES
    assert {*imported, "__version__"} == set(hoiclip_engine.__all__)


@pytest.mark.parametrize(
    "code", ["import hoiclip_engine", "from hoiclip_engine.track import EntityTracker, PairTracker"]
)
def test_import_loads_nothing_heavy(code: str) -> None:
    assert modules_after(code).isdisjoint(HEAVY)


@pytest.mark.parametrize("name", ["PairTracker", "EntityTracker", "TrackedPairs", "HOIDetections", "FrameResult"])
def test_public_name_that_needs_no_torch_loads_none(name: str) -> None:
    assert modules_after(f"from hoiclip_engine import {name}").isdisjoint(HEAVY)


def result_of(pairs: TrackedPairs) -> FrameResult:
    frame = Frame(np.zeros((4, 4, 3), np.uint8), 0.5, 3)
    return FrameResult(frame=frame, detected=True, pairs=pairs, events=(), vocabulary=VOCABULARY)


def test_interactions_are_active_verbs_in_words_best_first() -> None:
    rows = (
        Row(pair=1, human=1, object=2, label=1, verbs={2: 0.5, 3: 0.9, 0: 0.7}, active=(2, 3)),
        Row(pair=4, human=1, object=-1, label=-1, verbs={0: 0.8}, active=(0,)),
    )
    found = result_of(tracked(*rows)).interactions()
    assert [(i.human_id, i.verb, i.object_id, i.object) for i in found] == [
        (1, "throw", 2, "sports_ball"),
        (1, "hold", 2, "sports_ball"),
        (1, "ride", -1, ""),
    ]
    assert [i.score for i in found] == pytest.approx([0.9, 0.5, 0.8])
    assert all(isinstance(i, Interaction) and isinstance(i.human_box_xyxy[0], float) for i in found)


def test_interactions_without_vocabulary_are_refused() -> None:
    frame = Frame(np.zeros((4, 4, 3), np.uint8), 0.5, 3)
    with pytest.raises(ValueError, match="pass vocabulary="):
        FrameResult(frame=frame, detected=True, pairs=tracked(Row()), events=()).interactions()


def test_event_gets_the_words_of_its_verb_and_object() -> None:
    event = Event(event="start", pair=1, human=1, object=2, label_index=1, verb_index=4, pts_s=1.0)
    named = event.with_words(VOCABULARY)
    assert (named.verb, named.label, named.verb_index, named.label_index) == ("catch", "sports_ball", 4, 1)
    alone = Event(event="end", pair=1, human=1, object=-1, label_index=-1, verb_index=0, pts_s=1.0)
    assert (alone.with_words(VOCABULARY).verb, alone.with_words(VOCABULARY).label) == ("ride", "")
