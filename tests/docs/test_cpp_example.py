"""examples/cpp: built here, it prints the triplets of Engine.detect, and takes no file of a bundle on trust."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sysconfig
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hoiclip.core.array_types import RGB
from hoiclip.core.model_file import load_model_file, save_model_file
from hoiclip.core.vocabulary import load_vocabulary
from hoiclip.synthetic.compose import random_scene
from hoiclip.synthetic.draw import draw_scene
from hoiclip_engine import Engine, EngineConfig
from hoiclip_engine.cli.export import export
from hoiclip_engine.export.graph_spec import GraphSpec
from hoiclip_engine.models import find_model
from tests.engine.untrained import config_for, random_state, untrained_folder
from website.links import ROOT

pytestmark = pytest.mark.slow

REQUIRED = "HOICLIP_REQUIRE_CPP"
ROOT_VARIABLE = "ONNXRUNTIME_ROOT"
"""Folder of an unpacked release archive of ONNX Runtime; without one, the headers come from a package."""
HEADERS_PACKAGE = "com.github.asus4.onnxruntime@0.4.9"
"""On npm, 150 MB: it carries a release of ONNX Runtime for other systems, whose headers are the same."""
SIZES = ((320, 240), (601, 397), (240, 427))
"""Width and height: enlarged, shrunk to no whole number of cells, upright."""
TOLERANCE = 1e-4
"""Pixels and scores: the same library on the same bytes; exponentials may round in another way."""
SANITIZERS = "-D_GLIBCXX_ASSERTIONS -fsanitize=address,undefined -fno-sanitize-recover=all"

Metadata = dict[str, Any]


def skip(message: str) -> None:
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{message}, and {REQUIRED}=1")
    pytest.skip(message)


@pytest.fixture(scope="module")
def onnxruntime_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Headers, with the library of the Python package, so that both sides compute with the same."""
    for program in ("cmake", "c++"):
        if shutil.which(program) is None:
            skip(f"{program} is not installed; apt-get install cmake g++ nlohmann-json3-dev libssl-dev")
    folder = tmp_path_factory.mktemp("onnxruntime")
    (library,) = Path(sysconfig.get_path("purelib"), "onnxruntime", "capi").glob("libonnxruntime.so.*")
    (folder / "lib").mkdir()
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / "lib" / name).symlink_to(library)
    if known := os.environ.get(ROOT_VARIABLE):
        (folder / "include").symlink_to(Path(known).resolve() / "include")
    else:
        packaged_headers(folder)
    return folder


def packaged_headers(folder: Path) -> None:
    if shutil.which("npm") is None:
        skip(f"expected {ROOT_VARIABLE}, or npm to get the headers of ONNX Runtime, found neither")
    done = subprocess.run(["npm", "pack", HEADERS_PACKAGE, "--silent"], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        skip(f"no package registry gave the headers of ONNX Runtime ({done.stderr.strip()[:200]})")
    (archive,) = folder.glob("*.tgz")
    (folder / "include").mkdir()
    with tarfile.open(archive) as packed:
        for member in packed:
            path = Path(member.name)
            content = packed.extractfile(member) if path.suffix == ".h" and path.parent.name == "Headers" else None
            if content is not None:
                (folder / "include" / path.name).write_bytes(content.read())
    archive.unlink()


def built(folder: Path, onnxruntime_root: Path, *flags: str) -> Path:
    """The program; a compiler's warning is an error."""
    source = ROOT / "examples" / "cpp"
    configure = ["cmake", "-S", source, "-B", folder, f"-D{ROOT_VARIABLE}={onnxruntime_root}"]
    done = subprocess.run([*configure, *flags], capture_output=True, text=True)
    if "nlohmann_json" in done.stderr or "OpenSSL" in done.stderr:
        skip("nlohmann-json or OpenSSL is missing; apt-get install nlohmann-json3-dev libssl-dev")
    assert done.returncode == 0, done.stderr
    done = subprocess.run(["cmake", "--build", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "hoiclip_detect"


@pytest.fixture(scope="module")
def program(onnxruntime_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("build"), onnxruntime_root, "-DCMAKE_CXX_FLAGS=-Werror")


@pytest.fixture(scope="module")
def checked_program(onnxruntime_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ends with a report where it reads or writes beside its memory, or computes what C++ leaves undefined."""
    return built(
        tmp_path_factory.mktemp("checked"),
        onnxruntime_root,
        "-DCMAKE_BUILD_TYPE=Debug",
        f"-DCMAKE_CXX_FLAGS={SANITIZERS}",
    )


def run(program: Path, *words: object) -> subprocess.CompletedProcess[str]:
    # ONNX Runtime keeps some memory until the process ends.
    env = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1"}
    command = [str(program), *map(str, words)]
    return subprocess.run(command, env=env, capture_output=True, text=True, errors="replace", timeout=120)


def exported(model: Path, folder: Path) -> Path:
    export(load_model_file(model), folder, GraphSpec(), split=False, with_model=True)
    return folder


def untrained_vcoco(path: Path) -> Path:
    """A model in which a person can act without an object, and verbs are scored."""
    vocabulary = load_vocabulary("vcoco")
    config = config_for(vocabulary)
    save_model_file(path, random_state(config, 0), config, vocabulary, {"kind": "untrained"})
    return path


@pytest.fixture(scope="module")
def drawn_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(find_model("drawn"), tmp_path_factory.mktemp("drawn") / "bundle")


@pytest.fixture(scope="module")
def vcoco_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vcoco")
    return exported(untrained_vcoco(folder / "vcoco.safetensors"), folder / "bundle")


def scene(width_px: int, height_px: int) -> RGB:
    return draw_scene(random_scene(np.random.default_rng(width_px), width_px, height_px)).rgb


def noise(width_px: int, height_px: int) -> RGB:
    return np.random.default_rng(0).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)


def ppm(path: Path, rgb: RGB) -> Path:
    path.write_bytes(f"P6\n{rgb.shape[1]} {rgb.shape[0]}\n255\n".encode() + rgb.tobytes())
    return path


def require_the_same_triplets(program: Path, bundle: Path, image: Path, images: Iterable[RGB]) -> None:
    with Engine.load(bundle, EngineConfig(backend="onnxruntime")) as engine:
        for rgb in images:
            done = run(program, bundle, ppm(image, rgb))
            assert done.returncode == 0, done.stderr
            rows, found = [json.loads(line) for line in done.stdout.splitlines()], engine.detect(rgb)
            assert rows
            words = engine.vocabulary
            assert [(row["verb"], row["object"]) for row in rows] == [
                (words.verb_name(verb), words.object_name(label))
                for verb, label in zip(found.verb, found.label, strict=True)
            ]
            for name, values in (
                ("score", found.score),
                ("human_box_xyxy", found.human_boxes_xyxy),
                ("object_box_xyxy", found.object_boxes_xyxy),
            ):
                np.testing.assert_allclose([row[name] for row in rows], values, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("model", ["drawn", "vcoco"])
def test_program_prints_the_triplets_of_the_engine(
    program: Path, model: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    bundle = request.getfixturevalue(f"{model}_bundle")
    require_the_same_triplets(program, bundle, tmp_path / "image.ppm", [scene(*size) for size in SIZES])


def test_images_of_extreme_sizes_give_the_triplets_of_the_engine(
    program: Path, vcoco_bundle: Path, tmp_path: Path
) -> None:
    # An untrained model finds as much in noise as in anything; how much a trained one does changes with its training.
    images = [noise(*size) for size in ((1500, 37), (21, 900), (1, 1))]
    require_the_same_triplets(program, vcoco_bundle, tmp_path / "image.ppm", images)


def test_program_without_its_arguments_says_which(program: Path) -> None:
    done = run(program)
    assert done.returncode == 2
    assert done.stderr == "hoiclip_detect: expected two arguments, FOLDER IMAGE.ppm\n"


@pytest.fixture(scope="module")
def small_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(untrained_folder(), tmp_path_factory.mktemp("damaged") / "bundle"))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ppm(tmp_path_factory.mktemp("image") / "image.ppm", noise(64, 48))


def require_one_line(done: subprocess.CompletedProcess[str], code: int) -> None:
    assert done.returncode == code, done.stderr
    assert not done.stdout
    assert done.stderr.startswith("hoiclip_detect: ")
    assert done.stderr.count("\n") == 1, done.stderr


def edited(metadata: Metadata, path: str, value: object) -> Metadata:
    """A copy with another value at a path such as `graphs/0/file`; without the entry where the value is KeyError."""
    copied = copy.deepcopy(metadata)
    *above, last = (int(word) if word.isdigit() else word for word in path.split("/"))
    node: Any = copied
    for word in above:
        node = node[word]
    if value is KeyError:
        del node[last]
    else:
        node[last] = value
    return copied


DAMAGES = (
    ("schema", "hoiclip-graph/2"),
    ("preprocessing", KeyError),
    ("preprocessing/images/short_side_px", 0),
    ("preprocessing/images/short_side_px", 1 << 63),
    ("preprocessing/images/short_side_px", 192.5),
    ("preprocessing/images/max_side_px", 1 << 40),
    ("preprocessing/images/stride_px", -32),
    ("preprocessing/images/mean", [0.5, 0.5]),
    ("preprocessing/images/std", [0.0, 1.0, 1.0]),
    ("preprocessing/images/std", [1e300, 1.0, 1.0]),
    ("preprocessing/clip_images/side_px", 224),  # not the size of the graph
    ("vocabulary/labels/objects", []),
    ("vocabulary/labels/verbs", ["ride", 3]),
    ("vocabulary/labels/object_prompts", []),
    ("vocabulary/labels/hois", [[0, 0]]),  # not as many as the graph has
    ("vocabulary/labels/hois/5", [117, 0]),
    ("vocabulary/labels/hois/5", [0, -1]),
    ("vocabulary/labels/hois/5", [0]),
    ("graphs", []),
    ("graphs", {"0": 1}),
    ("graphs/0/form/part", "clip"),
    ("graphs/0/form/batch", None),
    ("graphs/0/data", {"model.onnx.data": "00"}),
    ("graphs/0/file", "../model.onnx"),
    ("graphs/0/file", "/etc/passwd"),
    ("graphs/0/file", "model\x1b[31m.onnx"),
    ("graphs/0/file", ""),
    ("graphs/0/sha256", "00"),
)


@pytest.mark.parametrize(("path", "value"), DAMAGES, ids=lambda value: ascii(value)[:40])
def test_damaged_metadata_is_one_line(
    checked_program: Path, small_bundle: Path, image: Path, path: str, value: object
) -> None:
    file = small_bundle / "model.json"
    text = file.read_text(encoding="utf-8")
    try:
        file.write_text(json.dumps(edited(json.loads(text), path, value)), encoding="utf-8")
        done = run(checked_program, small_bundle, image)
    finally:
        file.write_text(text, encoding="utf-8")
    require_one_line(done, 4)
    assert "\x1b" not in done.stderr


def test_folder_that_is_none_is_one_line(checked_program: Path, image: Path, tmp_path: Path) -> None:
    require_one_line(run(checked_program, tmp_path / "nothing", image), 4)
    os.mkfifo(tmp_path / "model.json")  # must not block
    require_one_line(run(checked_program, tmp_path, image), 4)


def changed(data: bytes, position: float, value: int, length: float) -> bytes:
    """One byte replaced, and the end cut off."""
    copied = bytearray(data)
    copied[int(position * (len(data) - 1))] = value
    return bytes(copied[: int(length * len(data)) + 1])


def run_changed(
    program: Path, image: Path, file: Path, position: float, value: int, length: float
) -> tuple[bool, subprocess.CompletedProcess[str]]:
    """Runs on a file's folder while the file is changed. Returns: whether it differs, and the run."""
    data = file.read_bytes()
    damaged = changed(data, position, value, length)
    try:
        file.write_bytes(damaged)
        return damaged != data, run(program, file.parent, image)
    finally:
        file.write_bytes(data)


few = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
ratio = st.floats(0, 1)


@few
@given(position=ratio, value=st.integers(0, 255), length=st.just(1.0) | ratio)
def test_changed_byte_of_metadata_runs_or_is_one_line(
    checked_program: Path, small_bundle: Path, image: Path, position: float, value: int, length: float
) -> None:
    _, done = run_changed(checked_program, image, small_bundle / "model.json", position, value, length)
    if done.returncode:
        require_one_line(done, 4)


@few
@given(position=ratio, value=st.integers(0, 255), length=st.just(1.0) | ratio)
def test_changed_graph_is_refused(
    checked_program: Path, small_bundle: Path, image: Path, position: float, value: int, length: float
) -> None:
    is_changed, done = run_changed(checked_program, image, small_bundle / "model.onnx", position, value, length)
    if is_changed:
        require_one_line(done, 4)
        assert "is damaged or another file" in done.stderr


@few
@given(
    header=st.binary(max_size=24) | st.from_regex(rb"P6[ \n#0-9]{1,24}", fullmatch=True), rest=st.binary(max_size=64)
)
def test_unusable_image_is_one_line(checked_program: Path, small_bundle: Path, header: bytes, rest: bytes) -> None:
    file = small_bundle / "image.ppm"
    file.write_bytes(header + rest)
    done = run(checked_program, small_bundle, file)
    if done.returncode:
        require_one_line(done, 3)


@pytest.mark.parametrize(
    "header", [b"P6 1 1 255", b"P6 70000 1 255\n", b"P6 2 2 255\n\0\0\0", b"P6 1 1 65535\n", b"P3 1 1 255\n"]
)
def test_image_that_is_not_whole_is_one_line(
    checked_program: Path, small_bundle: Path, tmp_path: Path, header: bytes
) -> None:
    (tmp_path / "image.ppm").write_bytes(header)
    require_one_line(run(checked_program, small_bundle, tmp_path / "image.ppm"), 3)


def test_comment_in_the_header_of_an_image_is_skipped(
    checked_program: Path, small_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "image.ppm").write_bytes(b"P6 # a comment\n2\n# another\n 2 255\n" + bytes(12))
    done = run(checked_program, small_bundle, tmp_path / "image.ppm")
    assert done.returncode == 0, done.stderr
    assert done.stdout
