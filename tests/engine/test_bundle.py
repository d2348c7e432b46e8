"""A bundle, the folder of `hoiclip export --with-model`: it runs, and no file of it is taken on trust."""

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

from hoiclip.core.errors import ModelError
from hoiclip.core.model_file import load_model_file
from hoiclip_engine import Engine, EngineConfig
from hoiclip_engine.export.bundle import bundled_graph, bundled_model, external_files
from hoiclip_engine.export.graph_spec import GRAPH_VERSION
from hoiclip_engine.models import find_model
from tests.engine.command_output import Cli
from tests.engine.untrained import untrained_folder

pytestmark = pytest.mark.thorough

Metadata = dict[str, Any]
NAME = "model.json"


@pytest.fixture(scope="module")
def folder() -> Path:
    return untrained_folder()


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(folder, tmp_path / "own"))


def read_json(folder: Path) -> Metadata:
    return dict(json.loads((folder / NAME).read_text(encoding="utf-8")))


def write_json(folder: Path, metadata: object) -> None:
    (folder / NAME).write_text(json.dumps(metadata), encoding="utf-8")


def graph_of(folder: Path, memory: str = "projected") -> Path | None:
    return bundled_graph(load_model_file(bundled_model(folder)), memory)


def test_bundle_holds_model_and_graph_for_a_run(folder: Path) -> None:
    model = find_model(folder)
    assert model.parent == folder
    assert graph_of(folder) == folder / "model.onnx"
    metadata = read_json(folder)
    assert metadata["model"]["file"] == model.name
    assert metadata["model"]["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert metadata["graph_version"] == GRAPH_VERSION
    assert external_files(folder / "model.onnx") == set()


def test_engine_computes_with_the_graph_of_the_bundle(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOICLIP_CACHE", str(tmp_path / "empty"))
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    for backend in ("onnxruntime", "openvino"):
        with Engine.load(folder, EngineConfig(backend=backend)) as engine:
            assert len(engine.detect(image)) > 0
    assert not list(tmp_path.rglob("*.onnx"))


def test_bundle_serves_the_other_memory_form_too(folder: Path) -> None:
    assert graph_of(folder, "absorbed") == folder / "model.onnx"


def test_model_beside_a_foreign_json_is_no_bundle(own: Path) -> None:
    model = load_model_file(bundled_model(own))
    for foreign in ("{}", "not json", '{"schema": "hoiclip-graph/1", "model": {"name": "another"}}', "[]"):
        (own / NAME).write_text(foreign)
        assert bundled_graph(model, "projected") is None


def point_outside(metadata: Metadata) -> None:
    metadata["graphs"][0]["file"] = "../model.onnx"


Damage = Callable[[Metadata], object]
DAMAGES: dict[str, tuple[Damage, str]] = {
    "another version": (lambda t: t.update(graph_version=GRAPH_VERSION - 1), "are of version"),
    "no version": (lambda t: t.pop("graph_version"), "are of version None"),
    "another graph": (lambda t: t["graphs"][0].update(sha256="0" * 64), "model.onnx is damaged or another file"),
    "missing graph": (lambda t: t["graphs"][0].update(file="other.onnx"), "other.onnx is missing"),
    "a path": (point_outside, "expected the name of a .onnx"),
    "an engine": (lambda t: t["graphs"][0].update(file="model.engine"), "expected the name of a .onnx"),
    "a part": (lambda t: t["graphs"][0]["form"].update(part="detector"), "expected a whole, plain graph"),
    "a plugin": (lambda t: t["graphs"][0]["form"].update(attention="plugin"), "expected a whole, plain graph"),
    "one padded size": (lambda t: t["graphs"][0]["form"].update({"canvas_hw": [64, 64]}), "of any size"),
    "any batch": (lambda t: t["graphs"][0]["form"].update(batch=None), "for one image"),
    "int8": (lambda t: t["graphs"][0].update(precision={"name": "int8"}), "in fp32"),
    "a new opset": (lambda t: t["graphs"][0]["form"].update(opset=99), "expected a whole, plain graph"),
    "a strange form": (lambda t: t["graphs"][0]["form"].update(colour="red"), "model.json is damaged"),
    "no graphs": (lambda t: t.pop("graphs"), "found none"),
    "another model": (lambda t: t["model"].update(sha256="0" * 64), "safetensors is damaged or another file"),
    "a model elsewhere": (lambda t: t["model"].update(file="/etc/passwd"), "expected the name of a .safetensors"),
    "no model": (lambda t: t["model"].pop("file"), "without their model file"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_bundle_that_does_not_match_its_metadata_is_one_error_line(own: Path, cli: Cli, clip: Path, name: str) -> None:
    damage, message = DAMAGES[name]
    metadata = read_json(own)
    damage(metadata)
    write_json(own, metadata)
    found = cli("run", clip, "--model", own, "--backend", "onnxruntime", "--jsonl", os.devnull)
    assert found.is_one_error(4)
    assert message in found.err
    assert "hoiclip export MODEL -o DIR --with-model" in found.err


@pytest.mark.parametrize("which", ["model.onnx", "untrained"])
def test_bundle_with_a_changed_byte_is_refused(own: Path, which: str) -> None:
    (path,) = own.glob(f"{which}*")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match="is damaged or another file"):
        graph_of(own)


def test_link_out_of_a_bundle_is_not_followed(own: Path, tmp_path: Path) -> None:
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


def replaced(metadata: Any, places: list[int], junk: object) -> Any:
    """One value of it, somewhere, is something else."""
    if not places or not isinstance(metadata, (dict, list)) or not metadata:
        return junk
    key: Any = list(metadata)[places[0] % len(metadata)] if isinstance(metadata, dict) else places[0] % len(metadata)
    metadata[key] = replaced(metadata[key], places[1:], junk)
    return metadata


def test_damaged_metadata_is_one_error_line_or_does_no_harm(folder: Path, own: Path) -> None:
    good = read_json(folder)
    good = {key: good[key] for key in ("schema", "graph_version", "model", "graphs")}

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(PLACES, JUNK)
    def damaged(places: list[int], junk: object) -> None:
        write_json(own, replaced(copy.deepcopy(good), places, junk))
        message = ""
        try:
            assert graph_of(own) in (own / "model.onnx", None)
        except ModelError as error:
            message = str(error)
        assert "\n" not in message
        assert len(message) < 600

    damaged()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(max_size=200))
def test_metadata_of_any_bytes_is_one_error_line(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / NAME).write_bytes(content)
    with pytest.raises(ModelError):
        bundled_model(folder)


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
def test_external_files_of_a_graph_are_found(tmp_path: Path, location: str) -> None:
    assert external_files(external(tmp_path / "model.onnx", location)) == {location}


@pytest.mark.parametrize("name", ["model.onnx.data", "../model.onnx.data", "other.data"])
def test_bundle_reads_only_files_whose_hashes_are_listed(own: Path, name: str) -> None:
    graph = external(own / "model.onnx", name)
    (own / "model.onnx.data").write_bytes(bytes(16))
    metadata = read_json(own)
    metadata["graphs"][0]["sha256"] = hashlib.sha256(graph.read_bytes()).hexdigest()
    write_json(own, metadata)
    with pytest.raises(ModelError, match="reads a file that"):
        graph_of(own)
    metadata["graphs"][0]["data"] = {name: hashlib.sha256(bytes(16)).hexdigest()}
    write_json(own, metadata)
    if name == "model.onnx.data":
        assert graph_of(own) == graph
        (own / name).write_bytes(bytes(17))
    with pytest.raises(ModelError, match=r"is damaged|expected the name of|is missing"):
        graph_of(own)


def test_external_files_are_found_below_every_message() -> None:
    """The fields are those of the onnx package: messages below which a tensor's external data may lie."""
    onnx = pytest.importorskip("onnx")
    from hoiclip_engine.export.bundle import SUBMESSAGES

    wanted = "StringStringEntryProto"

    def leads(message: Any, seen: frozenset[str]) -> bool:
        if message.name == "TensorProto":
            return True
        below = (field.message_type for field in message.fields if field.message_type is not None)
        return any(inner.name not in seen and leads(inner, seen | {inner.name}) for inner in below)

    known = {"ModelProto", *SUBMESSAGES}
    for name in known:
        fields = getattr(onnx, name).DESCRIPTOR.fields
        messages = {field.number: field.message_type for field in fields if field.message_type is not None}
        if name == "TensorProto":
            assert SUBMESSAGES[name] == {onnx.TensorProto.DESCRIPTOR.fields_by_name["external_data"].number: wanted}
        else:
            assert SUBMESSAGES[name] == {
                number: inner.name for number, inner in messages.items() if leads(inner, frozenset({name}))
            }


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.binary(min_size=1, max_size=200))
def test_external_files_of_any_bytes_are_found_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(content)
    with contextlib.suppress(ValueError):
        external_files(path)
