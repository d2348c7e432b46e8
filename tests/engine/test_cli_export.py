"""hoiclip export: the graphs and metadata it writes, their accuracy, and its errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from hoiclip.core.model_file import load_model_file
from hoiclip_engine.cli.main import main
from hoiclip_engine.export import onnx_export
from hoiclip_engine.export.graph_spec import INPUTS, OUTPUTS, GraphSpec
from tests.engine.command_output import Cli
from tests.engine.untrained import CONFIG, untrained_model

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    assert main(["export", str(untrained_model()), "-o", str(folder), "--batch", "dynamic"]) == 0
    return folder


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("split")
    assert main(["export", str(untrained_model()), "-o", str(folder), "--split", "--size", "160x128"]) == 0
    return folder


def run(path: Path, inputs: dict[str, Any]) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    needed = {value.name: inputs[value.name] for value in session.get_inputs()}
    return dict(zip(names, session.run(None, needed), strict=True))


def image(batch: int, height: int, width: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    padding = np.zeros((batch, height, width), np.bool_)
    padding[:, :, width - 20 :] = True
    clip_px = CONFIG.clip_image_px
    return {
        "images": rng.normal(size=(batch, 3, height, width)).astype(np.float32) * ~padding[:, None],
        "padding": padding,
        "clip_images": rng.normal(size=(batch, 3, clip_px, clip_px)).astype(np.float32),
    }


def test_dynamic_graph_takes_any_batch_and_size(whole: Path) -> None:
    both = run(whole / "model.onnx", image(2, 128, 160))
    assert tuple(both) == OUTPUTS["whole"]
    assert both["hoi_logits"].shape == (2, CONFIG.queries, CONFIG.num_hois)
    second = {name: value[1:] for name, value in image(2, 128, 160).items()}
    for name, value in run(whole / "model.onnx", second).items():
        np.testing.assert_allclose(value, both[name][1:], atol=2e-4, err_msg=name)
    assert run(whole / "model.onnx", image(1, 64, 320))["object_boxes_cxcywh"].shape == (1, CONFIG.queries, 4)


def test_parts_one_after_the_other_give_the_outputs_of_the_whole(whole: Path, split: Path) -> None:
    inputs = image(1, 128, 160)
    expected = run(whole / "model.onnx", inputs)
    found = run(split / "detector.onnx", inputs) | run(split / "clip.onnx", inputs)
    found |= run(split / "interaction.onnx", found)
    for name in OUTPUTS["whole"]:
        np.testing.assert_allclose(found[name], expected[name], atol=2e-4, err_msg=name)


def test_metadata_describes_the_graphs(split: Path) -> None:
    metadata = json.loads((split / "model.json").read_text(encoding="utf-8"))
    assert metadata["schema"] == "hoiclip-graph/1"
    names = ["clip.onnx", "detector.onnx", "interaction.onnx", "model.json"]
    assert sorted(path.name for path in split.iterdir()) == names
    assert metadata["preprocessing"]["images"]["short_side_px"] == CONFIG.short_side_px
    assert len(metadata["vocabulary"]["labels"]["hois"]) == CONFIG.num_hois
    for entry, part in zip(metadata["graphs"], ("detector", "clip", "interaction"), strict=True):
        graph = onnx.load(split / entry["file"]).graph
        assert entry["form"]["part"] == part
        assert list(entry["inputs"]) == list(INPUTS[part]) == [value.name for value in graph.input]  # type: ignore[index]
        assert list(entry["outputs"]) == list(OUTPUTS[part])  # type: ignore[index]
        assert 0 <= max(entry["checked"]["max_abs_error"].values()) <= onnx_export.LARGEST_ERROR
    assert metadata["graphs"][0]["inputs"]["images"] == {"type": "float", "shape": [1, 3, 128, 160]}


def test_layer_norms_are_nodes_and_text_embeddings_are_constants(whole: Path) -> None:
    model = onnx.load(whole / "model.onnx")
    kinds = [node.op_type for node in model.graph.node]
    module = load_model_file(untrained_model()).build()
    norms = sum(isinstance(layer, torch.nn.LayerNorm) for layer in module.modules())
    # Once each, but twice in a layer of the interaction decoder; only the last layer's state gets the decoder's own.
    assert kinds.count("LayerNormalization") == norms + CONFIG.interaction_layers
    assert not {"ReduceMean", "Sqrt", "Pow"} & set(kinds)  # what a norm falls into
    assert {value.name for value in model.graph.input} == set(INPUTS["whole"])
    assert model.opset_import[0].version == 20


def test_plugin_graph_has_our_node_and_is_checked_by_its_plain_twin(tmp_path: Path) -> None:
    form = GraphSpec(part="interaction", attention="plugin", opset=19, padded_hw=(64, 64))
    entry = onnx_export.export_checked_graph(
        load_model_file(untrained_model()).build(), form, tmp_path / "interaction.onnx"
    )
    model = onnx.load(tmp_path / "interaction.onnx")
    assert sum(node.op_type == "HoiclipDualAttention" for node in model.graph.node) == CONFIG.interaction_layers
    assert model.opset_import[0].version == 19
    assert entry["checked"]["graph"] == "the same program with plain attention"
    assert [path.name for path in tmp_path.iterdir()] == ["interaction.onnx"]


def test_wrong_graph_is_not_kept_and_the_earlier_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], whole: Path
) -> None:
    (tmp_path / "model.onnx").write_text("the earlier one")

    def wrong(module: object, form: object, path: Path) -> None:
        model = onnx.load(whole / "model.onnx")
        for tensor in model.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 2:
                tensor.CopyFrom(
                    onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * np.float32(1.1), tensor.name)
                )
        onnx.save(model, path)

    monkeypatch.setattr(onnx_export, "write_graph", wrong)
    assert main(["export", str(untrained_model()), "-o", str(tmp_path)]) == 4
    stderr = capsys.readouterr().err
    assert "computes something else than the model" in stderr
    assert stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert (tmp_path / "model.onnx").read_text() == "the earlier one"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "100x128"], "expected sides in steps of 32 px, at least 64, got 100x128"),
        (["--size", "32x64"], "at least 64, got 32x64"),
        (["--size", "big"], "WIDTHxHEIGHT"),
        (["--batch", "0"], "from 1 to 1024"),
        (["--opset", "12"], "invalid choice"),
    ],
)
def test_impossible_graph_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    try:
        code: int | str | None = main(["export", str(untrained_model()), "-o", str(tmp_path), *options])
    except SystemExit as exit_:
        code = exit_.code
    assert code == 2
    assert message in capsys.readouterr().err


def test_folder_that_cannot_be_written_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["export", str(untrained_model()), "-o", str(tmp_path / "file" / "below")]) == 7
    assert "cannot make the folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "suffix"),
    [
        (("--for", "openvino", "--split", "--size", "160x128"), ".xml"),
        (("--for", "tensorrt", "--batch", "dynamic"), ".onnx"),
    ],
)
def test_int8_graphs_for_a_runtime_are_described_and_run(
    tmp_path: Path,
    clip: Path,
    words: tuple[str, ...],
    suffix: str,
    cli: Cli,
) -> None:
    if "tensorrt" in words:
        pytest.importorskip("modelopt")
    output = cli("export", untrained_model(), "-o", tmp_path / "out", "--precision", "int8", *words,
               "--calibrate", clip, "--calibration-pictures", 2)  # fmt: skip
    assert output.code == 0, output.err
    metadata = json.loads((tmp_path / "out" / "model.json").read_text())
    for graph in metadata["graphs"]:
        assert graph["file"].endswith(suffix)
        assert (tmp_path / "out" / graph["file"]).is_file()
        precision = graph["precision"]
        assert (precision["name"], precision["for"]) == ("int8", words[1])
        assert precision["calibration"]["source"] == clip.name
        assert all(0 <= error < 10 for error in precision["max_abs_error_to_fp32"].values())
        assert max(precision["max_abs_error_to_fp32"].values()) > 0
    assert not (tmp_path / "out" / "fp32").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--precision", "fp16", "--for", "openvino"), "expected one of int8 for openvino, got fp16"),
        (("--precision", "int8", "--attention", "plugin"), "expected plain attention"),
        (("--precision", "int8"), "--calibrate SRC"),
    ],
)
def test_impossible_precision_is_refused_at_once(
    cli: Cli, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    refused = cli("export", untrained_model(), "-o", tmp_path / "out", *words)
    assert refused.is_one_error(2)
    assert message in refused.err
    assert not (tmp_path / "out").exists()
