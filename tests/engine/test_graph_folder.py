"""A folder of `hoiclip export --with-model`: what it is run from, and that nothing in it is taken on trust."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoiclip.checkpoint.model_file import load_model_file
from hoiclip.errors import ModelError
from hoiclip_engine import Engine, EngineConfig
from hoiclip_engine.graph_folder import graph_beside, model_in
from hoiclip_engine.graph_form import GRAPH_VERSION
from hoiclip_engine.models import find_model
from hoiclip_engine.onnx_files import external_files
from tests.engine.saying import Cli
from tests.engine.untrained import untrained_folder

Sidecar = dict[str, Any]
NAME = "model.json"


@pytest.fixture(scope="module")
def folder() -> Path:
    return untrained_folder()


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(folder, tmp_path / "own"))


def told_by(folder: Path) -> Sidecar:
    return dict(json.loads((folder / NAME).read_text(encoding="utf-8")))


def tell(folder: Path, told: object) -> None:
    (folder / NAME).write_text(json.dumps(told), encoding="utf-8")


def graph_of(folder: Path, memory: str = "projected") -> Path | None:
    return graph_beside(load_model_file(model_in(folder)), memory)


def test_the_folder_holds_what_run_takes(folder: Path) -> None:
    model = find_model(folder)
    assert model.parent == folder
    assert graph_of(folder) == folder / "model.onnx"
    told = told_by(folder)
    assert told["model"]["file"] == model.name
    assert told["model"]["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert told["graph_version"] == GRAPH_VERSION
    assert external_files(folder / "model.onnx") == set()


def test_an_engine_computes_with_the_graph_that_is_there(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOICLIP_CACHE", str(tmp_path / "empty"))
    picture = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    for backend in ("onnxruntime", "openvino"):
        with Engine.load(folder, EngineConfig(backend=backend)) as engine:
            assert len(engine.detect(picture)) > 0
    assert not list(tmp_path.rglob("*.onnx"))


def test_the_other_way_of_looking_at_memory_will_do(folder: Path) -> None:
    assert graph_of(folder, "absorbed") == folder / "model.onnx"


def test_a_model_beside_somebody_elses_json_is_exported_as_ever(own: Path) -> None:
    model = load_model_file(model_in(own))
    for foreign in ("{}", "not json", '{"schema": "hoiclip-graph/1", "model": {"name": "another"}}', "[]"):
        (own / NAME).write_text(foreign)
        assert graph_beside(model, "projected") is None


def outside(told: Sidecar) -> None:
    told["graphs"][0]["file"] = "../model.onnx"


Damage = Callable[[Sidecar], object]
DAMAGES: dict[str, tuple[Damage, str]] = {
    "another version": (lambda t: t.update(graph_version=GRAPH_VERSION - 1), "are of version"),
    "no version": (lambda t: t.pop("graph_version"), "are of version None"),
    "another graph": (lambda t: t["graphs"][0].update(sha256="0" * 64), "model.onnx is damaged or another file"),
    "missing graph": (lambda t: t["graphs"][0].update(file="other.onnx"), "other.onnx is missing"),
    "a path": (outside, "expected the name of a .onnx"),
    "an engine": (lambda t: t["graphs"][0].update(file="model.engine"), "expected the name of a .onnx"),
    "a part": (lambda t: t["graphs"][0]["form"].update(part="detector"), "expected a whole, plain graph"),
    "a plugin": (lambda t: t["graphs"][0]["form"].update(attention="plugin"), "expected a whole, plain graph"),
    "one canvas": (lambda t: t["graphs"][0]["form"].update(canvas_hw=[64, 64]), "of any size"),
    "any batch": (lambda t: t["graphs"][0]["form"].update(batch=None), "for one picture"),
    "8 bits": (lambda t: t["graphs"][0].update(precision={"name": "int8"}), "in fp32"),
    "a new opset": (lambda t: t["graphs"][0]["form"].update(opset=99), "expected a whole, plain graph"),
    "a strange form": (lambda t: t["graphs"][0]["form"].update(colour="red"), "model.json is damaged"),
    "no graphs": (lambda t: t.pop("graphs"), "found none"),
    "another model": (lambda t: t["model"].update(sha256="0" * 64), "safetensors is damaged or another file"),
    "a model elsewhere": (lambda t: t["model"].update(file="/etc/passwd"), "expected the name of a .safetensors"),
    "no model": (lambda t: t["model"].pop("file"), "without their model file"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_does_not_match_is_one_line(own: Path, cli: Cli, clip: Path, name: str) -> None:
    damage, said = DAMAGES[name]
    told = told_by(own)
    damage(told)
    tell(own, told)
    found = cli("run", clip, "--model", own, "--backend", "onnxruntime", "--jsonl", os.devnull)
    assert found.is_one_error(4)
    assert said in found.err
    assert "hoiclip export MODEL -o DIR --with-model" in found.err


@pytest.mark.parametrize("which", ["model.onnx", "untrained"])
def test_a_changed_byte_is_found(own: Path, which: str) -> None:
    (path,) = own.glob(f"{which}*")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match="is damaged or another file"):
        graph_of(own)


def test_a_link_out_of_the_folder_is_not_followed(own: Path, tmp_path: Path) -> None:
    os.replace(own / "model.onnx", tmp_path / "moved.onnx")
    (own / "model.onnx").symlink_to(tmp_path / "moved.onnx")
    with pytest.raises(ModelError, match=r"model\.onnx is missing"):
        graph_of(own)


PLACES = st.lists(st.integers(0, 200), max_size=6)
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20) | st.just("../x"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def replaced(told: Any, places: list[int], junk: object) -> Any:
    """One value of it, somewhere, is something else."""
    if not places or not isinstance(told, (dict, list)) or not told:
        return junk
    key: Any = list(told)[places[0] % len(told)] if isinstance(told, dict) else places[0] % len(told)
    told[key] = replaced(told[key], places[1:], junk)
    return told


def test_a_damaged_sidecar_is_one_line_or_does_no_harm(folder: Path, own: Path) -> None:
    good = told_by(folder)
    good = {key: good[key] for key in ("schema", "graph_version", "model", "graphs")}

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(PLACES, JUNK)
    def damaged(places: list[int], junk: object) -> None:
        tell(own, replaced(copy.deepcopy(good), places, junk))
        said = ""
        try:
            assert graph_of(own) in (own / "model.onnx", None)
        except ModelError as error:
            said = str(error)
        assert "\n" not in said
        assert len(said) < 600

    damaged()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(max_size=200))
def test_a_sidecar_of_any_bytes_is_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / NAME).write_bytes(content)
    with pytest.raises(ModelError):
        model_in(folder)


# Weights outside the graph.


def external(path: Path, location: str) -> Path:
    """A graph whose weight lies in another file; the last byte of it is that of the file's name."""
    onnx = pytest.importorskip("onnx")
    weight = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[4], data_location="EXTERNAL")
    weight.external_data.add(key="offset", value="0")
    weight.external_data.add(key="location", value=location)
    add = onnx.helper.make_node("Add", ["x", "w"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [4]) for name in "xy")
    path.write_bytes(onnx.helper.make_model(onnx.helper.make_graph([add], "g", [x], [y], [weight])).SerializeToString())
    return path


@pytest.mark.parametrize("location", ["model.onnx.data", "../secret", "/etc/passwd", "*/_ORT_MEM_ADDR_/*"])
def test_a_graph_tells_which_files_it_reads(tmp_path: Path, location: str) -> None:
    assert external_files(external(tmp_path / "model.onnx", location)) == {location}


@pytest.mark.parametrize("name", ["model.onnx.data", "../model.onnx.data", "other.data"])
def test_only_files_whose_hashes_are_told_are_read(own: Path, name: str) -> None:
    graph = external(own / "model.onnx", name)
    (own / "model.onnx.data").write_bytes(bytes(16))
    told = told_by(own)
    told["graphs"][0]["sha256"] = hashlib.sha256(graph.read_bytes()).hexdigest()
    tell(own, told)
    with pytest.raises(ModelError, match="reads a file that"):
        graph_of(own)
    told["graphs"][0]["data"] = {name: hashlib.sha256(bytes(16)).hexdigest()}
    tell(own, told)
    if name == "model.onnx.data":
        assert graph_of(own) == graph
        (own / name).write_bytes(bytes(17))
    with pytest.raises(ModelError, match=r"is damaged|expected the name of|is missing"):
        graph_of(own)


def test_every_way_to_a_tensor_is_walked() -> None:
    """The fields are those of the onnx package: messages below which a tensor's external data may lie."""
    onnx = pytest.importorskip("onnx")
    from hoiclip_engine.onnx_files import INSIDE

    wanted = "StringStringEntryProto"

    def leads(message: Any, seen: frozenset[str]) -> bool:
        if message.name == "TensorProto":
            return True
        below = (one.message_type for one in message.fields if one.message_type is not None)
        return any(one.name not in seen and leads(one, seen | {one.name}) for one in below)

    known = {"ModelProto", *INSIDE}
    for name in known:
        fields = getattr(onnx, name).DESCRIPTOR.fields
        messages = {one.number: one.message_type for one in fields if one.message_type is not None}
        if name == "TensorProto":
            assert INSIDE[name] == {onnx.TensorProto.DESCRIPTOR.fields_by_name["external_data"].number: wanted}
        else:
            assert INSIDE[name] == {n: one.name for n, one in messages.items() if leads(one, frozenset({name}))}


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.binary(min_size=1, max_size=200))
def test_any_bytes_are_a_graph_or_an_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(content)
    with contextlib.suppress(ValueError):
        external_files(path)
