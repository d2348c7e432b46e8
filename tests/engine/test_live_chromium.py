"""The live page in a real browser; skipped where none is installed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hoiclip_engine.types.frame import SourceEvent
from hoiclip_engine.types.tracked_pairs import Event
from tests.engine.chromium import Page, chromium, find_chromium, with_page
from tests.engine.frame_results import Row, summary
from tests.engine.live_pages import RIDES, TOKEN, RunningPage, live, result, run_header

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium; apt-get install chromium"),
]

HOLDS = Row(pair=2, human=3, object=4, label=1, verbs={2: 0.6}, active=(2,), score=0.5)
START = Event(event="start", pair=1, human=1, object=2, label_index=0, verb_index=0, pts_s=0.0)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with chromium(Path(tmp_path_factory.mktemp("chromium"))) as address:
        yield address


class FrameWriter:
    """Writes frames until stopped."""

    def __init__(self, page: RunningPage) -> None:
        self._page, self._stopped = page, threading.Event()
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def _write(self) -> None:
        index = 0
        while not self._stopped.is_set():
            events = (START,) if index == 0 else ()
            for sink in self._page.sinks:
                sink.write(result(index, RIDES, HOLDS, events=events, age_s=0.05, dropped_before=index % 2))
            index += 1
            time.sleep(0.05)

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()


PAIRS = "[...document.querySelectorAll('.pair')].map((p) => p.textContent).join('|')"
STATE = "document.querySelector('.state').textContent"


def type_into(selector: str, text: str) -> str:
    return (
        f"(() => {{ const box = document.querySelector('{selector}'); box.focus(); box.value = '{text}';"
        " box.dispatchEvent(new Event('input')); })()"
    )


def test_page_shows_activity_and_applies_filters(browser: str) -> None:
    with live(sources=2) as served:
        writer = FrameWriter(served)

        async def drive(page: Page) -> None:
            await page.open(f"http://{served.host}/")
            await page.wait_for("document.querySelectorAll('.source').length === 2")
            await page.wait_for("document.querySelector('.picture').naturalWidth === 160")
            await page.wait_for(f"{PAIRS}.includes('person 1 · bicycle 2') && {PAIRS}.includes('person 3')")
            await page.wait_for("document.querySelector('[data-is=age]').textContent === '50 ms'")
            await page.wait_for("document.querySelector('[data-is=dropped]').textContent.startsWith('1')")
            assert "person 1: ride bicycle 2" in await page.run("document.querySelector('.events').textContent")
            assert await page.run(STATE) == "live"
            # The verbs box: completed by the keyboard; then only the selected verbs are listed and drawn.
            await page.run(type_into("#verbs", "rid"))
            await page.wait_for("document.querySelectorAll('#verb-choices li').length === 1")
            for key in ("ArrowDown", "Enter"):
                await page.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key)
            assert await page.run("document.querySelector('#verbs').value") == "ride, "
            await page.wait_for("document.querySelector('.picture').src.includes('verbs=ride')")
            await page.wait_for(f"{PAIRS}.includes('bicycle') && !{PAIRS}.includes('ball')")
            # The sliders.
            await page.run(type_into("#min-score", "0.95"))
            await page.wait_for("document.querySelector('.picture').src.includes('min_score=0.95')")
            await page.run("document.querySelector('#reset').click()")
            await page.wait_for("!document.querySelector('.picture').src.includes('min')")
            # Every control has an accessible name.
            controls = ",".join(("input", "button", "img.picture", "canvas"))
            unnamed = f"[...document.querySelectorAll('{controls}')].filter((e) => !(e.labels?.length"
            unnamed += " || e.ariaLabel || e.alt || e.textContent)).length"
            assert await page.run(unnamed) == 0
            writer.stop()
            served.sinks[0].source_event(SourceEvent(event="source_lost", pts_s=1.0, reason="no route"))
            await page.wait_for(f"{STATE} === 'source lost'")
            assert "no route" in await page.run("document.querySelector('.veil').textContent")
            served.sinks[0].source_event(SourceEvent(event="source_back", pts_s=2.0, reason="after 1 s"))
            await page.wait_for(f"{STATE} === 'live'")
            assert page.complaints == []
            while served.sinks:
                served.sinks.pop().finish(summary())
            await page.wait_for("document.querySelector('#connection').textContent === 'the run has ended'")
            assert await page.run(STATE) == "ended"

        try:
            with_page(browser, drive)
        finally:
            writer.stop()


def test_page_fits_a_phone_without_horizontal_scrolling(browser: str) -> None:
    with live() as served:
        writer = FrameWriter(served)

        async def drive(page: Page) -> None:
            await page.open(f"http://{served.host}/", (360, 740), dark=True)
            await page.wait_for(f"{PAIRS}.includes('bicycle')")
            assert await page.run("document.documentElement.scrollWidth") <= 360
            assert await page.run("getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 28)"

        try:
            with_page(browser, drive)
        finally:
            writer.stop()


def test_page_link_with_token_leaves_no_token_in_the_address(browser: str) -> None:
    with live(token=TOKEN) as served:
        served.sinks[0].write(result(0, RIDES))

        async def drive(page: Page) -> None:
            await page.open(f"http://{served.host}/?token={TOKEN}")
            await page.wait_for("document.querySelector('.picture')?.naturalWidth === 160")
            assert await page.run("location.href") == f"http://{served.host}/"
            assert await page.run("document.cookie") == ""
            assert TOKEN not in await page.run("document.documentElement.outerHTML")

        with_page(browser, drive)


def viewers(page: RunningPage) -> dict[str, float]:
    families = text_string_to_metric_families(page.get("/metrics").text)
    samples = [sample for family in families for sample in family.samples]
    return {sample.labels["kind"]: sample.value for sample in samples if sample.name == "hoiclip_live_viewers"}


@pytest.mark.parametrize("is_same_pass", [False, True], ids=["run is killed", "connection is cut"])
def test_images_come_back_after_a_lost_connection(browser: str, is_same_pass: bool) -> None:
    header = run_header()

    async def drive(page: Page) -> None:
        served = stack.enter_context(live(headers=[header]))
        writer = FrameWriter(served)
        stack.callback(writer.stop)
        await page.open(f"http://{served.host}/")
        await page.wait_for("document.querySelector('.picture')?.naturalWidth === 160")
        await page.wait_for(f"{PAIRS}.includes('person 1')")
        served.server.close()  # without an end of the source
        await page.wait_for("document.querySelector('#connection').textContent.startsWith('no connection')")
        writer.stop()
        again = stack.enter_context(live(port=served.port, headers=[header] if is_same_pass else ()))
        another = FrameWriter(again)
        stack.callback(another.stop)
        deadline_s = time.monotonic() + 30
        while viewers(again).get("pictures") != 1:
            assert time.monotonic() < deadline_s, "the page asks for no images"
            await asyncio.sleep(0.1)
        assert await page.run("document.querySelectorAll('.source').length") == 1

    with ExitStack() as stack:
        with_page(browser, drive)
