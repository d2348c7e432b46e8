"""The live page: responses to viewers about the results that a run writes."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import cv2
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from hoiclip.core.errors import SinkError
from hoiclip_engine.events.outbox import TargetCounters
from hoiclip_engine.live import routes
from hoiclip_engine.live.address import LiveAddress
from hoiclip_engine.live.channel import ViewSettings
from hoiclip_engine.live.server import LiveServer
from hoiclip_engine.types.frame import SourceEvent
from hoiclip_engine.types.tracked_pairs import Event
from tests.engine.evidence_runs import hit
from tests.engine.frame_results import VOCABULARY, Row, summary, tracked
from tests.engine.live_pages import (
    RIDES,
    SIZE_PX,
    RunningPage,
    live,
    receive_images,
    receive_messages,
    result,
    run_header,
)

START = Event(event="start", pair=1, human=1, object=2, label_index=0, verb_index=0, pts_s=0.04)
END = Event(event="end", pair=1, human=1, object=2, label_index=0, verb_index=0, pts_s=0.04)
LOST = SourceEvent(event="source_lost", pts_s=0.04, reason="connection reset")
BACK = SourceEvent(event="source_back", pts_s=2.0, reason="after 1.9 s")


@pytest.fixture
def page() -> Iterator[RunningPage]:
    with live() as running:
        yield running


def image(jpeg: bytes) -> np.ndarray[Any, Any]:
    decoded = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.asarray(decoded)


# Images.


def test_stream_shows_the_newest_image_with_its_pairs(page: RunningPage) -> None:
    page.sinks[0].write(result(0, RIDES))
    (jpeg,) = asyncio.run(receive_images(page.host, "source=0", 1))
    shown = image(jpeg)
    assert shown.shape[:2] == SIZE_PX[::-1]
    assert shown.max() > 200  # the boxes: the frame itself is grey 40


def test_stream_applies_the_filters_of_a_viewer(page: RunningPage) -> None:
    page.sinks[0].write(result(0, RIDES))
    for query, has_boxes in [
        ("verbs=ride", True),
        ("verbs=hold", False),
        ("min_verb=0.9", False),
        ("min_score=.95", False),
    ]:
        (jpeg,) = asyncio.run(receive_images(page.host, query, 1))
        assert bool(image(jpeg).max() > 200) is has_boxes, query


def test_frame_is_rendered_once_for_equal_views(page: RunningPage, monkeypatch: pytest.MonkeyPatch) -> None:
    (channel,) = page.server.channels
    rendered: list[ViewSettings] = []
    render = channel._render

    def counted(shown: ViewSettings, row: Any) -> bytes:
        rendered.append(shown)
        time.sleep(0.2)  # all viewers connect meanwhile
        return render(shown, row)

    monkeypatch.setattr(channel, "_render", counted)
    page.sinks[0].write(result(0, RIDES))

    async def request_all() -> None:
        queries = ["", "source=0", "min_score=0", "verbs=ride", "verbs=Ride,", "verbs= ride"]
        await asyncio.gather(*(receive_images(page.host, query, 1) for query in queries))

    asyncio.run(request_all())
    assert len(rendered) == 2


def test_frames_are_not_rendered_without_viewers(page: RunningPage, monkeypatch: pytest.MonkeyPatch) -> None:
    (channel,) = page.server.channels
    monkeypatch.setattr(channel, "_render", lambda *_: pytest.fail("rendered without viewers"))
    for index in range(20):
        page.sinks[0].write(result(index, RIDES))
    assert page.get("/health").status == 200


def test_stream_continues_with_new_frames_and_ends_with_the_source() -> None:
    with live() as page:
        sink = page.sinks.pop()
        sink.write(result(0))

        def next_frame(seen: int) -> None:
            if seen < 3:
                sink.write(result(20 * seen))
            elif seen == 3:
                threading.Thread(target=sink.finish, args=(summary(),)).start()

        jpegs = asyncio.run(receive_images(page.host, "", 10, next_frame))
    greys = [float(image(jpeg).mean()) for jpeg in jpegs[:3]]
    assert greys == pytest.approx([40, 60, 80], abs=2)
    assert len(jpegs) <= 5  # the last one again when the source ends, and the empty part that ends the stream


def test_large_images_are_downscaled(page: RunningPage) -> None:
    big = result(0, Row(human_box_xyxy=(100, 100, 900, 2000)))
    frame = type(big.frame)(np.zeros((2160, 3840, 3), np.uint8), 0.0, 0)
    object.__setattr__(big, "frame", frame)
    page.sinks[0].write(big)
    (jpeg,) = asyncio.run(receive_images(page.host, "", 1))
    assert image(jpeg).shape == (720, 1280, 3)
    assert image(jpeg)[40:80, 25:45].max() > 100, "the corner of the box moved with the image"


@pytest.mark.parametrize("query", ["source=1", "source=-1", "source=x", "min_score=2", "min_score=nan", "min_verb=x"])
def test_invalid_query_is_refused(page: RunningPage, query: str) -> None:
    page.sinks[0].write(result(0))
    assert page.get(f"/stream.mjpg?{query}").status in (400, 404)


def test_inactive_pairs_are_selected_only_without_verb_filter() -> None:
    idle = Row(pair=2, verbs={1: 0.4}, active=())
    pairs = tracked(RIDES, idle)
    shown = [
        ViewSettings.from_query(query, VOCABULARY).select(pairs)
        for query in ({}, {"verbs": "ride,hold"}, {"verbs": "sit on"})
    ]
    assert [row.pair.tolist() for row in shown] == [[1, 2], [1], []]
    assert shown[1].verb_active.sum() == 1


# Messages.


def test_events_socket_sends_pairs_events_and_counters(page: RunningPage) -> None:
    page.sinks[0].write(result(7, RIDES, events=(START,), age_s=0.0432, dropped_before=2, stage_ms={"infer": 20.5}))
    hello, now = asyncio.run(receive_messages(page.host, 2))
    (source,) = hello["sources"]
    assert (source["source"], source["name"], source["policy"]) == (0, "camera-0", "latest")
    assert source["verbs"] == list(VOCABULARY.verbs)
    assert (now["type"], now["source"], now["now"]["state"]) == ("now", 0, "live")
    assert [event["verb"] for event in now["events"]] == ["ride"]
    state = now["now"]
    assert (state["index"], state["decoded"], state["dropped"]) == (7, 3, 2)
    assert (state["age_ms"], state["stage_ms"]) == (43.2, {"infer": 20.5})
    (pair,) = state["pairs"]
    assert (pair["label"], pair["verbs"][0]["verb"]) == ("bicycle", "ride")


def test_lost_source_is_reported_until_it_reconnects(page: RunningPage) -> None:
    sink = page.sinks[0]
    sink.write(result(0, RIDES))
    sink.source_event(LOST)
    _, now = asyncio.run(receive_messages(page.host, 2))
    assert (now["now"]["state"], now["now"]["reason"]) == ("lost", "connection reset")
    assert now["events"] == [{"event": "source_lost", "pts_s": 0.04, "reason": "connection reset"}]
    sink.source_event(BACK)
    _, now = asyncio.run(receive_messages(page.host, 2))
    assert (now["now"]["state"], now["now"]["reconnects"]) == ("live", 1)


def test_events_socket_ends_with_the_end_of_sources() -> None:
    async def everything(page: RunningPage) -> list[dict[str, Any]]:
        async with aiohttp.ClientSession() as client, client.ws_connect(f"http://{page.host}/events") as messages:
            found = [json.loads((await messages.receive(timeout=10)).data) for _ in range(2)]
            threading.Thread(target=page.sinks.pop().finish, args=(summary(closing_events=(END,)),)).start()
            return found + [json.loads(message.data) async for message in messages]

    with live() as page:
        page.sinks[0].write(result(0, RIDES, events=(START,)))
        last = asyncio.run(everything(page))[-1]
    assert last["now"]["state"] == "ended"
    assert [event["event"] for event in last["events"]] == ["end"]


def test_end_that_comes_while_a_message_is_sent_is_sent_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The source ends after the newest state was encoded and before the server checks whether all is over."""
    send = routes.Routes._send

    async def send_and_end(self: routes.Routes, socket: Any, text: str) -> None:
        await send(self, socket, text)
        if '"type":"now"' in text and page.sinks:
            threading.Thread(target=page.sinks.pop().finish, args=(summary(closing_events=(END,)),)).start()
            while not all(channel.ended for channel in self._channels):
                time.sleep(0.01)

    async def everything() -> list[dict[str, Any]]:
        async with aiohttp.ClientSession() as client, client.ws_connect(f"http://{page.host}/events") as messages:
            return [json.loads(message.data) async for message in messages]

    with live() as page:
        page.sinks[0].write(result(0, RIDES, events=(START,)))
        monkeypatch.setattr(routes.Routes, "_send", send_and_end)
        last = asyncio.run(everything())[-1]
    assert last["now"]["state"] == "ended"


def test_page_serves_several_sources() -> None:
    with live(sources=3) as page:
        for number, sink in enumerate(page.sinks):
            sink.write(result(number))
        hello, *nows = asyncio.run(receive_messages(page.host, 4))
        assert [source["name"] for source in hello["sources"]] == ["camera-0", "camera-1", "camera-2"]
        assert {now["source"]: now["now"]["index"] for now in nows} == {0: 0, 1: 1, 2: 2}
        greys = [image(asyncio.run(receive_images(page.host, f"source={number}", 1))[0]).mean() for number in range(3)]
        page.sinks.pop(0).finish(summary())
        assert page.get("/health").status == 200, "the others are running"
    assert greys == pytest.approx([40, 41, 42], abs=1)


# Metrics and health.


def samples(page: RunningPage) -> dict[tuple[str, str], float]:
    families = text_string_to_metric_families(page.get("/metrics").text)
    return {
        (sample.name, sample.labels.get("stage") or sample.labels.get("verb") or ""): sample.value
        for family in families
        for sample in family.samples
        if "le" not in sample.labels or sample.labels["le"] == "0.05"
    }


def test_metrics_count_frames_events_and_losses(page: RunningPage) -> None:
    sink = page.sinks[0]
    sink.write(result(0, RIDES, Row(pair=2, active=()), events=(START,), age_s=0.2, stage_ms={"infer": 20.0}))
    sink.write(result(3, RIDES, dropped_before=2, age_s=0.04, stage_ms={"infer": 60.0}))
    sink.source_event(LOST)
    found = samples(page)
    assert found["hoiclip_frames_decoded_total", ""] == 4
    assert found["hoiclip_frames_processed_total", ""] == found["hoiclip_frames_decoded_total", ""] - 2
    assert found["hoiclip_frames_dropped_total", ""] == 2
    assert found["hoiclip_stage_seconds_bucket", "infer"] == 1
    assert found["hoiclip_stage_seconds_sum", "infer"] == pytest.approx(0.08)
    assert found["hoiclip_frame_age_seconds_bucket", ""] == 1
    assert found["hoiclip_active_pairs", ""] == 1
    assert found["hoiclip_pairs", ""] == 1
    assert found["hoiclip_events_total", "ride"] == 1
    assert (found["hoiclip_source_up", ""], found["hoiclip_source_losses_total", ""]) == (0, 1)
    sink.source_event(BACK)
    found = samples(page)
    assert (found["hoiclip_source_up", ""], found["hoiclip_source_reconnects_total", ""]) == (1, 1)


def test_counts_of_frames_add_up_although_one_is_counted_during_the_scrape(page: RunningPage) -> None:
    sink, found = page.sinks[0], dict[str, float]()
    sink.write(result(0))
    for family in page.server.metrics.registry.collect():
        if family.name in ("hoiclip_frames_decoded", "hoiclip_frames_processed", "hoiclip_frames_dropped"):
            found[family.name.removeprefix("hoiclip_frames_")] = family.samples[0].value
            sink.write(result(len(found), dropped_before=3))
    assert found == {"decoded": 1, "processed": 1, "dropped": 0}


def test_metrics_of_a_forgotten_source_are_gone(page: RunningPage) -> None:
    sink, metrics = page.sinks[0], page.server.metrics
    sink.write(result(0, RIDES, events=(START,), rule_hits=(hit("start", pts_s=0.0, start_s=0.0),)))
    name = page.server.channels[0].name
    assert f'source="{name}"' in metrics.text().decode()
    assert 'rule="rides here"' in metrics.text().decode()
    metrics.forget(name)
    assert f'source="{name}"' not in metrics.text().decode()


def test_readiness_needs_a_frame_of_every_source(monkeypatch: pytest.MonkeyPatch) -> None:
    with live(sources=2) as page:
        assert page.get("/health/ready").status == 503, "no frame yet"
        page.sinks[0].write(result(0))
        assert page.get("/health/ready").status == 503, "no frame of the second"
        page.sinks[1].write(result(0))
        assert page.get("/health/ready").status == 200
        page.sinks[1].source_event(LOST)
        assert page.get("/health/ready").status == 200, "it is known as lost"
        page.sinks[1].source_event(BACK)
        monkeypatch.setattr(routes, "STALLED_AFTER_S", -1.0)
        response = page.get("/health/ready")
        assert (response.status, json.loads(response.text)) == (503, {"status": "not ready"})
        assert page.get("/health/live").status == 200
        monkeypatch.undo()
        page.sinks.pop().finish(summary())
        assert page.get("/health/ready").status == 200, "the other one runs"


def test_metrics_count_messages_of_the_outbox(page: RunningPage) -> None:
    counters = TargetCounters(
        target="mqtt://broker", delivered=7, retried=2, dropped=1, waiting=3, last_failure="it is down"
    )
    page.server.metrics.watch_outbox(lambda: [counters])
    families = list(text_string_to_metric_families(page.get("/metrics").text))
    samples = {sample.name: (sample.value, sample.labels) for family in families for sample in family.samples}
    for name, value in (("delivered_total", 7), ("retried_total", 2), ("dropped_total", 1), ("waiting", 3)):
        assert samples[f"hoiclip_outbox_{name}"] == (value, {"target": "mqtt://broker"})


def test_health_distinguishes_stall_and_reconnect(page: RunningPage, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = page.sinks[0]
    sink.write(result(0))
    assert (page.get("/health").status, json.loads(page.get("/health").text)) == (200, {"status": "ok"})
    monkeypatch.setattr(routes, "STALLED_AFTER_S", 0.0)
    time.sleep(0.01)
    assert (page.get("/health").status, json.loads(page.get("/health").text)) == (503, {"status": "stalled"})
    sink.source_event(LOST)
    assert (page.get("/health").status, json.loads(page.get("/health").text)) == (200, {"status": "reconnecting"})


# The server itself.


def test_address_in_use_is_a_sink_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SinkError, match=rf"cannot listen at 127.0.0.1:{port}: Address already in use"):
            LiveServer(LiveAddress(port=port)).sink_for("x").start(run_header())


def test_server_closes_at_once_despite_viewers() -> None:
    before = set(threading.enumerate())
    with live() as page:
        page.sinks[0].write(result(0))
        viewers = [socket.create_connection(("127.0.0.1", page.port)) for _ in range(3)]
        for viewer in viewers:
            viewer.sendall(f"GET /stream.mjpg HTTP/1.1\r\nHost: {page.host}\r\n\r\n".encode())
            assert viewer.recv(12) == b"HTTP/1.1 200"
        begun_s = time.monotonic()
    assert time.monotonic() - begun_s < 1.0
    for viewer in viewers:
        viewer.close()
    time.sleep(0.1)
    assert {thread.name for thread in set(threading.enumerate()) - before} == set()


def test_page_loads_nothing_from_other_hosts(page: RunningPage) -> None:
    folder = Path(routes.__file__).parent
    for path, (name, kind) in routes._FILES.items():
        answer = page.get(path)
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith(kind)
        assert answer.text == (folder / name).read_text(encoding="utf-8")
        hosts = set(re.findall(r"(?:https?:)?//[a-z0-9.\-]+\.[a-z]{2,}", answer.text))
        assert hosts <= {"http://www.w3.org"}  # SVG's namespace, which is never opened
        assert "innerHTML" not in answer.text
