"""Arbitrary addresses and queries of the live page: a result or one known error, without passwords."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from hoiclip.core.errors import UsageError
from hoiclip_engine.live.address import LiveAddress
from hoiclip_engine.live.channel import ViewSettings
from hoiclip_engine.sinks.stream_sink import StreamSink
from hoiclip_engine.sinks.webhook import Webhook
from tests.engine.frame_results import VOCABULARY, Row, tracked

PASSWORD = "s3cret-passw0rd"
QUICK = settings(max_examples=150, deadline=None, derandomize=True)
TEXT = st.one_of(st.text(max_size=60), st.text("0123456789.,-+einfaNxr_ /:@[]#?%\n", max_size=30))


@QUICK
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("min_score", "min_verb", "verbs"), TEXT)))
def test_view_settings_accept_any_query(query: dict[str, str]) -> None:
    try:
        view = ViewSettings.from_query(query, VOCABULARY)
    except ValueError:
        return
    assert 0 <= view.min_score <= 1
    assert len(view.select(tracked(Row(), Row(pair=2, active=())))) <= 2


def message_of(make: Callable[[str], object], text: str) -> str:
    try:
        return repr(make(text))
    except UsageError as error:
        return str(error)


@QUICK
@given(st.sampled_from(["rtmp://", "udp://", "http://", "https:/", "", "RTSP://"]), TEXT, TEXT)
def test_redact_hides_passwords_of_any_address(scheme: str, before: str, after: str) -> None:
    for text in (f"{scheme}{before}:{PASSWORD}@{after}", f"{scheme}{after}/{PASSWORD}{before}", f"{scheme}{before}"):
        for make in (StreamSink, lambda url: Webhook(url, ""), LiveAddress.parse):
            message = message_of(make, text)
            assert PASSWORD not in message
            assert message.isprintable()


def test_redact_removes_passwords_that_resemble_ports() -> None:
    for make in (lambda url: StreamSink(f"rtmp://{url}"), lambda url: Webhook(f"http://{url}", "")):
        assert "%2F" in message_of(make, "user:12/34@host/app")
