"""Whatever is typed as an address or asked of the live page: an answer or one known error, and no password in it."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from hoiclip.errors import UsageError
from hoiclip_engine.live.address import LiveAddress
from hoiclip_engine.live.shown import Shown
from hoiclip_engine.sinks.stream_sink import StreamSink
from hoiclip_engine.sinks.webhook import Webhook
from tests.engine.making_results import VOCABULARY, Row, tracked

PASSWORD = "s3cret-passw0rd"
QUICK = settings(max_examples=150, deadline=None, derandomize=True)
TEXT = st.one_of(st.text(max_size=60), st.text("0123456789.,-+einfaNxr_ /:@[]#?%\n", max_size=30))


@QUICK
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("min_score", "min_verb", "verbs"), TEXT)))
def test_settings_of_viewers(query: dict[str, str]) -> None:
    try:
        shown = Shown.from_query(query, VOCABULARY)
    except ValueError:
        return
    assert 0 <= shown.min_score <= 1
    assert len(shown.of(tracked(Row(), Row(pair=2, active=())))) <= 2


def said_of(make: Callable[[str], object], text: str) -> str:
    try:
        return repr(make(text))
    except UsageError as error:
        return str(error)


@QUICK
@given(st.sampled_from(["rtmp://", "udp://", "http://", "https:/", "", "RTSP://"]), TEXT, TEXT)
def test_addresses(scheme: str, before: str, after: str) -> None:
    for text in (f"{scheme}{before}:{PASSWORD}@{after}", f"{scheme}{after}/{PASSWORD}{before}", f"{scheme}{before}"):
        for make in (StreamSink, lambda url: Webhook(url, ""), LiveAddress.parse):
            said = said_of(make, text)
            assert PASSWORD not in said
            assert said.isprintable()


def test_passwords_that_look_like_ports_are_not_taken_for_them() -> None:
    for make in (lambda url: StreamSink(f"rtmp://{url}"), lambda url: Webhook(f"http://{url}", "")):
        assert "%2F" in said_of(make, "user:12/34@host/app")
