"""hoiclip models fetch: from a server on this machine to a model that runs by its name, and every bad answer."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import signal
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hoiclip.checkpoint import released
from hoiclip.checkpoint.official import clip_weights
from hoiclip.checkpoint.text_embeddings import encode as text_encode
from hoiclip.core.model_file import load_model_file
from hoiclip.core.vocabulary import load_vocabulary
from hoiclip.evaluation.splits import bundled_splits
from hoiclip_engine import Engine, EngineConfig
from hoiclip_engine.models import known_models
from tests.engine.command_output import PYTHONPATH, Cli
from tests.engine.test_cli_models import clip_text_state
from tests.golden.rule import official_keys
from tests.hoiclip.checkpoint_server import CONFIRMATION, QUOTA, CheckpointServer, serving, write_table

DETR = bytes(range(256)) * 2000
DETR_SHA256 = hashlib.sha256(DETR).hexdigest()


def saved(state: Mapping[str, Any], **more: Any) -> bytes:
    file = io.BytesIO()
    torch.save({"model": dict(state), "epoch": 89, **more}, file)
    return file.getvalue()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOICLIP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CheckpointServer]:
    """Stands in for the servers of the table's addresses; `detr` has the first digits of its SHA-256."""
    with serving(content=DETR) as running:
        table = write_table(
            tmp_path / "released.toml",
            hico={"kind": "model", "labels": "hico", "address": f"{running.url}/uc?id=1", "google_drive": True},
            detr={"address": f"{running.url}/detr-r50.pth", "sha256": DETR_SHA256[:8]},
            unknown={"address": f"{running.url}/unknown.pth"},
            clip={"kind": "clip", "address": f"{running.url}/ViT-B-32.pt", "sha256": "0" * 64},
        )
        monkeypatch.setattr(released, "TABLE", table)
        yield running


def files(cache: Path) -> list[str]:
    """Everything in the cache but text embeddings."""
    found = (path.relative_to(cache) for path in cache.rglob("*") if path.is_file())
    return sorted(str(path) for path in found if path.parts[0] != "text")


# The table.


def test_table_names_what_the_authors_released() -> None:
    table = released.released_checkpoints()
    assert [name for name, entry in table.items() if entry.kind == "model"] == [
        "hico", "vcoco", "hico-rf-uc", "hico-nf-uc", "hico-uo", "hico-uv"
    ]  # fmt: skip
    assert all(entry.address.startswith("https://") for entry in table.values())
    assert table["hico"].published_text == (
        "full 34.69, rare 31.12, non-rare 35.74 (mAP, default setting, with training-free enhancement)"
    )
    # Both carry digits of their SHA-256 in their addresses.
    assert table["detr-r50"].sha256 in table["detr-r50"].address
    assert table["clip-vit-b32"].sha256 in table["clip-vit-b32"].address
    assert len({entry.path for entry in table.values()}) == len(table)


def test_splits_of_zero_shot_models_are_those_of_recipes() -> None:
    splits = bundled_splits(load_vocabulary("hico"))
    assert {entry.split for entry in released.released_checkpoints().values() if entry.split} <= splits.keys()


def test_fetch_without_a_name_shows_all(cli: Cli, cache: Path) -> None:
    shown = cli("models", "fetch")
    assert shown.code == 0
    assert all(name in shown.out for name in released.released_checkpoints())
    assert "34.69" in shown.out
    facts = json.loads(cli("models", "fetch", "--json").out)
    assert [fact["name"] for fact in facts] == list(released.released_checkpoints())
    assert facts[1]["published"] == {"scenario 1": 63.5, "scenario 2": 64.81}
    assert not any(fact["here"] for fact in facts)
    assert not cache.exists()


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("name", ["hicoo", "", "../hico", "drawn", "hico\n"])
def test_unknown_name_is_one_error_with_the_known_ones(name: str, cli: Cli) -> None:
    said = cli("models", "fetch", name)
    assert said.is_one_error(2)
    assert "detr-r50" in said.err


# Initial weights.


def test_initial_weights_are_checked_and_their_line_printed(server: CheckpointServer, cache: Path, cli: Cli) -> None:
    said = cli("models", "fetch", "detr")
    assert said.code == 0
    assert said.out == f'detr = "{cache}/fetched/detr-r50.pth"\n'
    assert "Licence: of the tests." in said.err
    assert files(cache) == ["fetched/detr-r50.pth", "fetched/detr.json"]
    asked = len(server.requests)
    again = cli("models", "fetch", "detr")
    assert (again.code, again.out) == (0, said.out)
    assert "is here already" in again.err
    assert len(server.requests) == asked
    facts = json.loads(cli("models", "fetch", "detr", "--json").out)
    assert facts["path"] == f"{cache}/fetched/detr-r50.pth"


def test_file_with_another_digest_than_published_is_not_kept(server: CheckpointServer, cache: Path, cli: Cli) -> None:
    server.content = DETR[:-1] + b"x"
    said = cli("models", "fetch", "detr")
    assert said.is_one_error(4)
    assert f"expected SHA-256 {DETR_SHA256[:8]}" in said.err
    assert files(cache) == []


def test_digest_that_is_not_published_holds_from_the_first_fetch_on(
    server: CheckpointServer, cache: Path, cli: Cli
) -> None:
    assert cli("models", "fetch", "unknown").code == 0
    record = json.loads((cache / "fetched/unknown.json").read_text())
    assert record["sha256"] == DETR_SHA256
    assert record["size_bytes"] == len(DETR)
    (cache / "fetched/unknown.pth").unlink()
    server.content, server.etag = DETR[::-1], '"second"'
    said = cli("models", "fetch", "unknown")
    assert said.is_one_error(4)
    assert f"remove {cache}/fetched/unknown.json" in said.err
    assert files(cache) == ["fetched/unknown.json"]
    (cache / "fetched/unknown.json").unlink()
    assert cli("models", "fetch", "unknown").code == 0


def test_fetched_file_that_changed_is_reported_and_left_alone(server: CheckpointServer, cache: Path, cli: Cli) -> None:
    assert cli("models", "fetch", "detr").code == 0
    (cache / "fetched/detr-r50.pth").write_bytes(b"changed")
    said = cli("models", "fetch", "detr")
    assert said.is_one_error(4)
    assert "move it elsewhere" in said.err
    assert (cache / "fetched/detr-r50.pth").read_bytes() == b"changed"


@pytest.mark.parametrize("record", ["", "[]", "{}", "\0", '{"fetched": 1}'])
def test_damaged_record_is_one_error(record: str, server: CheckpointServer, cache: Path, cli: Cli) -> None:
    assert cli("models", "fetch", "detr").code == 0
    (cache / "fetched/detr.json").write_text(record)
    assert cli("models", "fetch", "detr").is_one_error(4)


def test_clip_becomes_a_state_dict_that_recipes_can_name(
    server: CheckpointServer, cache: Path, tmp_path: Path, cli: Cli
) -> None:
    """OpenAI's file is a program, of which only the tensors are wanted."""
    program = torch.jit.script(as_module({**clip_text_state(), "visual.class_embedding": torch.ones(8)}))
    program.save(str(tmp_path / "program.pt"))
    server.content = (tmp_path / "program.pt").read_bytes()
    table = released.TABLE.read_text().replace("0" * 64, hashlib.sha256(server.content).hexdigest())
    released.TABLE.write_text(table)
    said = cli("models", "fetch", "clip")
    assert said.code == 0, said.err
    assert said.out == f'clip = "{cache}/fetched/ViT-B-32.safetensors"\n'
    assert files(cache) == ["fetched/ViT-B-32.safetensors", "fetched/clip.json"]
    from tests.hoiclip.test_initial_weights import WORDS

    state = clip_weights(cache / "fetched/ViT-B-32.safetensors", WORDS)
    assert torch.equal(state["clip.class_embedding"], torch.ones(8))
    assert state["hoi_rows"].shape == (5, 32)


def as_module(state: Mapping[str, Tensor]) -> torch.nn.Module:
    """A module with these tensors."""
    root = torch.nn.Module()
    for key, value in state.items():
        *path, name = key.split(".")
        module = root
        for step in path:
            if step not in module._modules:
                module.add_module(step, torch.nn.Module())
            module = module.get_submodule(step)
        module.register_parameter(name, torch.nn.Parameter(value, requires_grad=False))
    return root


def test_program_with_another_digest_is_not_loaded(server: CheckpointServer, cache: Path, cli: Cli) -> None:
    assert cli("models", "fetch", "clip").is_one_error(4)
    assert files(cache) == []


# Models.


@pytest.fixture(scope="module")
def official() -> bytes:
    """The official layout, one number per tensor, in some hundred kilobytes."""
    return saved({key: torch.tensor(0.01).expand(shape) for key, shape in official_keys("hico").items()})


@pytest.fixture
def _one_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text tower reads one prompt in place of hundreds, which tests/golden and tests/parity compare."""

    def encode(prompts: Sequence[str], weights: Mapping[str, Tensor]) -> Tensor:
        return text_encode(prompts[:1], weights).expand(len(prompts), -1)

    monkeypatch.setattr("hoiclip.checkpoint.text_embeddings.encode", encode)


@pytest.mark.usefixtures("_one_text")
def test_model_is_fetched_listed_and_loaded_by_its_name(
    server: CheckpointServer, official: bytes, cache: Path, cli: Cli
) -> None:
    """Confirmation, a break in the middle, import, verification."""
    server.content, server.breaks = official, [len(official) // 2]
    server.page = CONFIRMATION.format(action=server.url + "/download")
    said = cli("models", "fetch", "hico")
    assert said.code == 0, said.err
    assert "--model hico" in said.err
    assert files(cache) == ["fetched/hico.json", "models/hico.safetensors"]
    assert known_models()["hico"] == cache / "models/hico.safetensors"
    listed = cli("models", "list")
    assert re.search(r"hico +│ hico +│ imported", listed.out), listed.out
    provenance = load_model_file(known_models()["hico"]).provenance
    assert provenance["from_sha256"] == hashlib.sha256(official).hexdigest()
    assert provenance["released"] == "hico"
    assert provenance["licence"] == "of the tests"
    engine = Engine.load("hico", EngineConfig(backend="torch"))
    assert len(engine.vocabulary.hois) == 600
    again = cli("models", "fetch", "hico")
    assert again.code == 0
    assert "is here already" in again.err


@pytest.mark.slow
@pytest.mark.usefixtures("_one_text")
def test_model_whose_results_are_not_finite_is_not_kept(server: CheckpointServer, cache: Path, cli: Cli) -> None:
    """Every tensor is finite: only the inference shows it."""
    state = {key: torch.tensor(0.01).expand(shape) for key, shape in official_keys("hico").items()}
    state["input_proj.weight"] = torch.tensor(3e38).expand(state["input_proj.weight"].shape)
    server.content = saved(state)
    said = cli("models", "fetch", "hico")
    assert said.is_one_error(4)
    assert "not finite for a grey image" in said.err
    assert files(cache) == []


@pytest.mark.parametrize("content", [b"", b"no checkpoint", saved({"weight": torch.zeros(2, 2)})], ids=len)
def test_file_that_is_no_checkpoint_is_not_kept(
    content: bytes, server: CheckpointServer, cache: Path, cli: Cli
) -> None:
    server.content = content
    assert cli("models", "fetch", "hico").is_one_error(4)
    assert files(cache) == []


def test_damaged_archive_is_not_kept(server: CheckpointServer, official: bytes, cache: Path, cli: Cli) -> None:
    """Its own checksums stand in for a digest that is not published."""
    with zipfile.ZipFile(io.BytesIO(official)) as archive:
        entry = next(info for info in archive.infolist() if "/data/" in info.filename)
    damaged = bytearray(official)
    name_and_padding = struct.unpack_from("<HH", official, entry.header_offset + 26)
    damaged[entry.header_offset + 30 + sum(name_and_padding)] ^= 1
    server.content = bytes(damaged)
    said = cli("models", "fetch", "hico")
    assert said.is_one_error(4)
    assert "damaged" in said.err
    assert files(cache) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"page": QUOTA}, "Too many users"),
        ({"page": "<html><title>Sign in</title></html>"}, "Google Drive does not hand out"),
        ({"status": 404}, "answers 404"),
        ({"redirect": "http://example.com/x"}, "https"),
    ],
)
def test_server_without_the_file_is_one_error(
    settings: dict[str, Any], words: str, server: CheckpointServer, cache: Path, cli: Cli
) -> None:
    for name, value in settings.items():
        setattr(server, name, value)
    said = cli("models", "fetch", "hico")
    assert said.is_one_error(3)
    assert words in said.err
    assert files(cache) == []


def test_model_of_the_same_name_is_not_overwritten(server: CheckpointServer, cache: Path, cli: Cli) -> None:
    (cache / "models").mkdir(parents=True)
    (cache / "models/hico.safetensors").write_bytes(b"mine")
    said = cli("models", "fetch", "hico")
    assert said.is_one_error(4)
    assert "move it elsewhere" in said.err
    assert server.requests == []
    assert (cache / "models/hico.safetensors").read_bytes() == b"mine"


def test_missing_gdown_is_named_before_anything_is_downloaded(
    server: CheckpointServer, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gdown", None)
    said = cli("models", "fetch", "hico")
    assert said.is_one_error(5)
    assert "pip install 'hoiclip[fetch]'" in said.err
    assert server.requests == []


def test_interrupted_fetch_says_how_to_resume_and_resumes(server: CheckpointServer, cache: Path, cli: Cli) -> None:
    """A process of its own gets SIGINT in the middle of the transfer."""
    code = (
        "import sys; from pathlib import Path; from hoiclip.checkpoint import released; "
        f"released.TABLE = Path({str(released.TABLE)!r}); from hoiclip_engine.cli.main import main; "
        "sys.exit(main(['models', 'fetch', 'detr']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": PYTHONPATH}, stderr=subprocess.PIPE, text=True
    )

    def interrupt() -> None:
        part = cache / "fetched/detr-r50.pth.part"
        while process.poll() is None and (not part.exists() or not part.stat().st_size):
            pass
        process.send_signal(signal.SIGINT)
        process.wait(30)

    server.paused = interrupt
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "same command resumes: hoiclip models fetch detr" in said
    assert "Traceback" not in said
    assert files(cache) == ["fetched/detr-r50.pth.part", "fetched/detr-r50.pth.part.json"]
    server.paused = lambda: None
    assert cli("models", "fetch", "detr").code == 0
    asked = server.requests[-1][1]
    assert asked is not None
    assert int(asked[6:-1]) > 0
    assert (cache / "fetched/detr-r50.pth").read_bytes() == DETR
