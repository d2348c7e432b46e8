"""Who decides which implementation runs, and what is said where that makes no sense."""

from __future__ import annotations

import builtins
import sys

import pytest

from hoiclip_engine.cli.main import main
from hoiclip_kernels import dispatch
from hoiclip_kernels.box_iou import NUMBA_CELLS, box_iou, example_inputs
from hoiclip_kernels.dispatch import VARIABLE, KernelError, implementations, named

FEW = example_inputs(3, 4)


@pytest.fixture(autouse=True)
def _no_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def test_every_operator_has_a_reference() -> None:
    assert set(implementations()) == {
        "bias_relu", "box_iou", "dual_attention", "pair_decode", "pair_nms", "preprocess",
    }  # fmt: skip
    for known in implementations().values():
        assert known[0] == "reference"


def test_operator_chooses_and_says_what_it_used() -> None:
    box_iou(*FEW)
    assert dispatch.used["box_iou"] == "reference"
    box_iou(*example_inputs(NUMBA_CELLS, 1))
    assert dispatch.used["box_iou"] == "numba"


def test_argument_goes_before_the_environment_and_that_before_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "numba")
    box_iou(*FEW)
    assert dispatch.used["box_iou"] == "numba"
    box_iou(*FEW, implementation="reference")
    assert dispatch.used["box_iou"] == "reference"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", "numba"),
        ("reference", "reference"),
        ("box_iou=reference", "numba"),
        ("reference, pair_nms=numba", "numba"),
        ("pair_nms=numba,reference,", "reference"),
    ],
)
def test_words_of_the_environment(monkeypatch: pytest.MonkeyPatch, words: str, expected: str) -> None:
    monkeypatch.setenv(VARIABLE, words)
    assert named("pair_nms", None, "numba") == expected


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("numpy", "expected OPERATOR=NAME or one of"),
        ("pair_nmz=numba", "got operator 'pair_nmz'"),
        ("box_iou=cuda", "box_iou has the implementations reference, numba, got 'cuda'"),
        ("=numba", "got operator ''"),
    ],
)
def test_wish_nobody_can_fulfil_is_one_line(monkeypatch: pytest.MonkeyPatch, words: str, said: str) -> None:
    monkeypatch.setenv(VARIABLE, words)
    with pytest.raises(KernelError, match=said) as caught:
        box_iou(*FEW)
    assert VARIABLE in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_argument_is_refused() -> None:
    with pytest.raises(KernelError, match="box_iou has the implementations reference, numba, got 'abacus'"):
        box_iou(*FEW, implementation="abacus")


def test_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_numba(name: str, *args: object, **kwargs: object) -> object:
        if name == "numba":
            raise ModuleNotFoundError("No module named 'numba'", name="numba")
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.delitem(sys.modules, "hoiclip_kernels.box_iou.numba_impl", raising=False)
    monkeypatch.setattr(builtins, "__import__", without_numba)
    with pytest.raises(KernelError, match="box_iou: implementation numba needs numba; pip install numba"):
        box_iou(*FEW, implementation="numba")


def test_command_line_says_it_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(VARIABLE, "pair_nms=abacus")
    assert main(["doctor"]) == 2
    assert capsys.readouterr().err == (
        f"hoiclip: {VARIABLE}: pair_nms has the implementations reference, numba, triton, got 'abacus'\n"
    )
