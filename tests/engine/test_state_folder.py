"""The state folder: private, locked, atomic; and a damaged file is left as it is."""

from __future__ import annotations

import json
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoiclip.core.errors import SinkError, UsageError
from hoiclip_engine.live.state_folder import SavedSource, SavedState, StateFolder

STATE = SavedState(
    sources=(
        SavedSource(id=1, address="rtsp://user:secret@host/a", name="door", state="paused"),
        SavedSource(id=4, address="/dev/video0"),
    ),
    rules={"rule": [{"name": "rides here", "zone": [[0.0, 0.5], [1.0, 0.5], [1.0, 1.0]]}]},
)


def test_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    with closing(StateFolder(tmp_path / "state")) as folder:
        assert folder.read() == SavedState()
        folder.write(STATE)
        assert folder.read() == STATE


def test_files_are_for_this_user_alone(tmp_path: Path) -> None:
    with closing(StateFolder(tmp_path / "state")) as folder:
        folder.write(STATE)
        folder.token()
        files = list((tmp_path / "state").iterdir())
    assert {path.name for path in files} == {"state.json", "token", "lock"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


def test_second_run_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    with closing(StateFolder(tmp_path)), pytest.raises(UsageError, match="in use by another"):
        StateFolder(tmp_path)
    StateFolder(tmp_path).close()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"version": 1}', "damaged"),
        ('{"version": 1, "sources": [{"id": 1}], "rules": {}}', "damaged"),
        ('{"version": 1, "sources": [], "rules": {}, "rules": {}}', "damaged"),
        ('{"version": 2, "sources": [], "rules": {}}', "found 2; update hoiclip"),
    ],
)
def test_damaged_or_newer_state_is_one_line_and_left_as_it_is(content: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(content, encoding="utf-8")
    with closing(StateFolder(tmp_path)) as folder, pytest.raises(UsageError, match=reason) as caught:
        folder.read()
    assert "\n" not in str(caught.value)
    assert (tmp_path / "state.json").read_text(encoding="utf-8") == content


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "name", "address", "x"]), inner),
    max_leaves=10,
)


@given(data=st.fixed_dictionaries({"version": st.just(1), "sources": JSON, "rules": JSON}))
@settings(max_examples=60, deadline=None)
def test_any_json_is_a_state_or_a_usage_error(data: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("state")
    (path / "state.json").write_text(json.dumps(data), encoding="utf-8")
    with closing(StateFolder(path)) as folder:
        try:
            state = folder.read()
        except UsageError:
            return
        folder.write(state)
        assert folder.read() == state


def test_failed_write_keeps_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(StateFolder(tmp_path)) as folder:
        folder.write(STATE)

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.replace", full)
        with pytest.raises(SinkError, match="No space left"):
            folder.write(SavedState())
        monkeypatch.undo()
        assert folder.read() == STATE
    assert not list(tmp_path.glob(".*"))


def test_token_is_made_once(tmp_path: Path) -> None:
    with closing(StateFolder(tmp_path)) as folder:
        token = folder.token()
        assert len(token) == 32
        assert folder.token() == token
    with closing(StateFolder(tmp_path)) as folder:
        assert folder.token() == token


@pytest.mark.parametrize("content", [b"short", b"with a space in it, long", b"\xff" * 20, b"x" * 5000])
def test_file_without_a_token_is_a_usage_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    path.chmod(0o600)
    with closing(StateFolder(tmp_path)) as folder, pytest.raises((UsageError, SinkError)):
        folder.token()


def test_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a-token-of-some-length", encoding="utf-8")
    (tmp_path / "token").chmod(0o644)
    with closing(StateFolder(tmp_path)) as folder, pytest.raises(UsageError, match="chmod 600"):
        folder.token()
