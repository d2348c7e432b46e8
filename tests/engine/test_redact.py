"""Printable names of sources: readable, in one line, without secrets."""

from __future__ import annotations

import string

from hypothesis import given, settings
from hypothesis import strategies as st

from hoiclip_engine.sources.uri import redact

few = settings(max_examples=60, deadline=None, derandomize=True)
secrets = st.text(string.ascii_letters + string.digits + "@:/?#&=%!$ü ", min_size=1, max_size=12)


@few
@given(user=secrets, password=secrets)
def test_redact_removes_passwords(user: str, password: str) -> None:
    name = redact(f"rtsp://{user}:{password}Zq7Zq@camera.local:554/stream1")
    assert "Zq7Zq" not in name
    assert name.endswith("camera.local:554/stream1")


@few
@given(key=st.text(string.ascii_lowercase, min_size=1, max_size=8), value=secrets)
def test_redact_removes_query_values(key: str, value: str) -> None:
    name = redact(f"https://host/clip.mp4?a=b&{key}=Zq7Zq{value.replace('&', '')}")
    assert "Zq7Zq" not in name


@few
@given(st.text(max_size=60))
def test_redact_gives_one_printable_line(text: str) -> None:
    assert redact(text).isprintable()


def test_redact_keeps_names_readable() -> None:
    assert redact("clips/a@b:c.mp4") == "clips/a@b:c.mp4"
    assert redact("rtsp://host:554/live/1") == "rtsp://host:554/live/1"
    assert redact("rtsp://u:p@host/x?channel=1&token=abc") == "rtsp://host/x?channel=1&token=***"
    assert redact("rtsp:/u:p@host/x") == "rtsp:/host/x"
    assert redact("rtsp://h/user=admin&password=abc&channel=1") == "rtsp://h/user=***&password=***&channel=1"
    assert redact("https://token@host/x#key") == "https://host/x#***"
