"""The page that changes a run, in a real browser; skipped where none is installed."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest

from hoiclip_engine.types.rule_hits import Evidence
from tests.engine.chromium import Page, chromium, find_chromium, with_page
from tests.engine.frame_results import header
from tests.engine.supervised_runs import TOKEN, SupervisedPage, supervised
from tests.engine.test_live_api import HIT
from tests.engine.video_files import image, write_clip

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium; apt-get install chromium"),
]
SCREENSHOTS = "HOICLIP_SCREENSHOTS"
"""Folder for screenshots, if a person wants to see them."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with chromium(Path(tmp_path_factory.mktemp("chromium"))) as address:
        yield address


async def screenshot(page: Page, name: str) -> None:
    if folder := os.environ.get(SCREENSHOTS):
        await page.image(Path(folder) / f"{name}.png")


def fill(selector: str, text: str) -> str:
    return (
        f"(() => {{ const box = document.querySelector({json.dumps(selector)}); box.value = {json.dumps(text)};"
        " box.dispatchEvent(new Event('input')); box.dispatchEvent(new Event('change')); })()"
    )


def click(selector: str) -> str:
    return f"document.querySelector({json.dumps(selector)}).click()"


async def click_at(page: Page, x: float, y: float) -> None:
    """A click into the zone editor's image, relative to it."""
    box = await page.run(
        "(() => { const svg = document.querySelector('.zone-figure svg'); svg.scrollIntoView({block: 'center'});"
        " const b = svg.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]; })()"
    )
    place = {"x": box[0] + x * box[2], "y": box[1] + y * box[3], "button": "left", "clickCount": 1}
    for kind in ("mousePressed", "mouseReleased"):
        await page.call("Input.dispatchMouseEvent", type=kind, **place)


async def press(page: Page, key: str) -> None:
    await page.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key)
    await page.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key)


def put_hit(served: SupervisedPage, folder: Path) -> None:
    """A hit of a rule, with a snapshot and a clip that plays."""
    folder.mkdir(exist_ok=True)
    clip = write_clip(folder / "hit.mp4", [40 * i for i in range(50)], size_px=(320, 240))
    cv2.imwrite(str(folder / "hit.jpg"), image(7, 320, 240)[..., ::-1])
    run = header()
    served.events.put_hit(run, (1, "door"), HIT)
    served.events.put_hit(run, (1, "door"), dataclasses.replace(HIT, event="end", pts_s=4.0))
    served.events.put_evidence(
        Evidence(
            run_id=run.run_id,
            source="door",
            hit=HIT.hit,
            rule=HIT.rule,
            pair=1,
            verb="ride",
            start_s=1.0,
            snapshot=folder / "hit.jpg",
            clip=clip,
            clip_start_s=0.0,
            clip_end_s=2.0,
        )
    )


ROW = "#source-list li"
EDITED = "document.querySelector('.own')?.getAttribute('points')"


async def add_source(page: Page) -> None:
    """Adds the first source; the page asks for the token once."""
    await page.run(fill("#add-source [name=address]", "rtsp://user:secret@host/live"))
    await page.run(fill("#add-source [name=name]", "door"))
    await page.run(click("#add-source button"))
    await page.wait_for("document.querySelector('#token-dialog').open")
    await screenshot(page, "token")
    await page.run(fill("#token-dialog [name=token]", TOKEN))
    await page.run(click("#token-dialog .primary"))
    await page.wait_for(f"document.querySelector('{ROW} .state')?.textContent === 'live'")
    await page.wait_for("document.querySelector('.picture')?.naturalWidth === 160")


async def draw_zone(page: Page) -> None:
    await page.run(click(f"{ROW} [data-do=zones]"))
    await page.wait_for("document.querySelector('#zone-dialog').open")
    await page.wait_for("document.querySelector('.zone-figure img').naturalWidth === 160")
    for x, y in ((0.2, 0.3), (0.8, 0.3), (0.8, 0.8), (0.2, 0.8)):
        await click_at(page, x, y)
    await page.wait_for("document.querySelectorAll('.handle').length === 4")
    await screenshot(page, "zone-open")
    await click_at(page, 0.2, 0.3)  # the first point closes it
    await page.wait_for("document.querySelector('polygon.own')")


@pytest.mark.parametrize("size_px", [(1280, 900), (390, 844)], ids=["desktop", "phone"])
def test_source_is_added_with_a_zone_seen_in_an_event_and_removed(
    browser: str, tmp_path: Path, size_px: tuple[int, int]
) -> None:
    name = "desktop" if size_px[0] > 600 else "phone"

    async def drive(page: Page) -> None:
        await page.open(f"http://{served.host}/", size_px)
        await page.wait_for("document.querySelector('#sources')?.textContent.includes('no source yet')")
        await screenshot(page, f"{name}-empty")
        await add_source(page)
        assert "secret" not in await page.run("document.documentElement.outerHTML")
        assert await page.run("document.documentElement.scrollWidth") <= size_px[0]
        await draw_zone(page)
        await page.run(fill("#rule-form [name=name]", "rides here"))
        await page.run(fill("#rule-verbs", "ride, sit on"))
        await page.run(fill("#rule-objects", "bicycle"))
        await page.run("document.querySelectorAll('.choices').forEach((list) => { list.hidden = true; })")
        await screenshot(page, f"{name}-zone")
        assert await page.run("document.querySelector('#zone-dialog').scrollWidth") <= size_px[0]
        await page.run(click("#rule-form .primary"))
        await page.wait_for("document.querySelector('.hint').textContent === 'Saved.'")
        (rule,) = served.control.rules()["rule"]
        assert (rule["name"], rule["verbs"], rule["objects"]) == ("rides here", ["ride", "sit_on"], ["bicycle"])
        assert (rule["min_duration_s"], rule["sources"]) == (0.5, [1])
        assert [[round(value, 1) for value in point] for point in rule["zone"]] == [
            [0.2, 0.3],
            [0.8, 0.3],
            [0.8, 0.8],
            [0.2, 0.8],
        ]
        await page.run(click("#zone-dialog [data-do=cancel]"))
        put_hit(served, tmp_path / "evidence")
        await page.wait_for("document.querySelector('.event-cards img')?.naturalWidth === 320")
        card = await page.run("document.querySelector('.event-cards li').textContent")
        assert "rides here" in card
        assert "person 1: ride bicycle 2" in card
        await page.run(fill("#event-kind", "verb"))
        await page.wait_for("!document.querySelector('.event-cards li')")
        await page.run(fill("#event-kind", "rule"))
        await page.wait_for("document.querySelector('.event-cards img')?.naturalWidth === 320")
        await page.run("document.querySelector('.event-section').scrollIntoView()")
        await screenshot(page, f"{name}-events")
        await page.run(click(".event-cards button.media"))
        await page.wait_for("document.querySelector('video')?.currentTime > 0.2")
        await page.run("document.querySelector('video').currentTime = 1.5")  # needs ranges
        await page.wait_for("document.querySelector('video').currentTime >= 1.5")
        assert await page.run("document.querySelector('video').videoWidth") == 320
        await page.run("scrollTo(0, 0)")
        await page.run(click(f"{ROW} [data-do=pause]"))
        await page.wait_for(f"document.querySelector('{ROW} .state').textContent === 'paused'")
        await page.wait_for("!document.querySelector('.source')")
        await screenshot(page, f"{name}-paused")
        await page.run(click(f"{ROW} [data-do=pause]"))
        await page.wait_for("document.querySelector('.picture')?.naturalWidth === 160")
        await page.run(click(f"{ROW} [data-do=remove]"))
        assert await page.run(f"document.querySelector('{ROW} [data-do=remove]').textContent") == "Really remove?"
        await page.run(click(f"{ROW} [data-do=remove]"))
        await page.wait_for(f"!document.querySelector('{ROW}')")
        assert served.control.sources() == []
        assert served.control.rules() == {"rule": []}
        assert page.complaints == []

    with supervised(tmp_path) as served:
        with_page(browser, drive)


def test_zone_is_edited_by_pointer_and_keyboard(browser: str, tmp_path: Path) -> None:
    rules: dict[str, Any] = {
        "rule": [
            {
                "name": "kept",
                "zone": [[0.5, 0.1], [0.9, 0.1], [0.9, 0.4]],
                "cool_down_s": 5,
                "schedule": {"days": ["mon"]},
            },
            {"name": "in pixels", "zone": [[16, 12], [80, 12], [80, 60]], "unit": "px"},
            {"name": "a line", "line": [[0.1, 0.9], [0.9, 0.9]]},
            {"name": "of another source", "zone": [[0, 0], [1, 0], [1, 1]], "sources": [9]},
        ]
    }

    async def drive(page: Page) -> None:
        await page.open(f"http://{served.host}/?token={TOKEN}", (1280, 900))
        await page.wait_for("document.querySelector('.picture')?.naturalWidth === 160")
        await page.run(f"sessionStorage.setItem('hoiclip-token', '{TOKEN}')")
        await page.run(click(f"{ROW} [data-do=zones]"))
        await page.wait_for("document.querySelectorAll('.handle').length === 3")
        names = await page.run("[...document.querySelector('[name=rule]').options].map((option) => option.text)")
        assert names == ["kept", "in pixels", "a line", "New rule …"]
        assert await page.run("document.querySelectorAll('.zone').length") == 3
        await screenshot(page, "zones-several")
        # By keyboard: a point is moved, one is added in the middle of a side and removed again.
        await page.run("document.querySelector('.handle').focus()")
        await press(page, "ArrowLeft")
        await page.wait_for(f"{EDITED}.startsWith('78.4,12')")
        await page.run("document.querySelector('.handle').focus()")
        await page.run(click("#zone-dialog [data-do=add-point]"))
        await page.wait_for("document.querySelectorAll('.handle').length === 4")
        await press(page, "Delete")
        await page.wait_for("document.querySelectorAll('.handle').length === 3")
        label = "document.querySelector('.handle').getAttribute('aria-label')"
        assert await page.run(label) == "Point 1 of 3, 49 % from the left, 10 % from the top"
        # By pointer.
        box = await page.run(
            "(() => { const b = document.querySelectorAll('.handle')[2].getBoundingClientRect();"
            " return [b.left + b.width / 2, b.top + b.height / 2]; })()"
        )
        for kind, shift in (("mousePressed", 0), ("mouseMoved", 30), ("mouseMoved", 60), ("mouseReleased", 60)):
            place = {"x": box[0], "y": box[1] + shift, "button": "left", "buttons": 1, "clickCount": 1}
            await page.call("Input.dispatchMouseEvent", type=kind, **place)
        await page.run(click("#rule-form .primary"))
        await page.wait_for("document.querySelector('.hint').textContent === 'Saved.'")
        saved = served.control.rules()["rule"]
        assert saved[0]["zone"][:2] == [[0.49, 0.1], [0.9, 0.1]]
        assert saved[0]["zone"][2][1] > 0.45
        assert (saved[0]["cool_down_s"], saved[0]["schedule"]) == (5, {"days": ["mon"]})
        assert "sources" not in saved[0]
        assert saved[1:] == rules["rule"][1:]
        # A zone in pixels becomes a relative one once it is saved.
        await page.run(fill("#rule-form [name=rule]", "1"))
        await page.run(click("#rule-form .primary"))
        await page.wait_for("document.querySelector('.hint').textContent === 'Saved.'")
        assert served.control.rules()["rule"][1]["zone"] == [[0.1, 0.1], [0.5, 0.1], [0.5, 0.5]]
        # An error is shown in the dialog, and nothing is lost.
        await page.run(fill("#rule-form [name=name]", "a line"))
        await page.run(click("#rule-form .primary"))
        await page.wait_for("document.querySelector('#rule-form .error').textContent.includes('names of their own')")
        await page.run(fill("#rule-form [name=rule]", "2"))
        await page.run(click("#zone-dialog [data-do=delete-rule]"))
        await page.wait_for("document.querySelectorAll('[name=rule] option').length === 3")
        assert [rule["name"] for rule in served.control.rules()["rule"]] == ["kept", "in pixels", "of another source"]
        controls = "button, input, select, .handle, video, img"
        unnamed = f"[...document.querySelectorAll('{controls}')].filter((e) => !(e.labels?.length || e.ariaLabel"
        unnamed += (
            " || e.getAttribute('aria-label') || e.alt !== undefined && e.hasAttribute('alt') || e.textContent)).length"
        )
        assert await page.run(unnamed) == 0

    with supervised(tmp_path, read_token=TOKEN) as served:
        served.add("rtsp://host/live", name="door")
        served.control.replace_rules(rules)
        with_page(browser, drive)


def test_refused_token_is_asked_for_again_and_kept_only_for_the_tab(browser: str, tmp_path: Path) -> None:
    async def drive(page: Page) -> None:
        await page.open(f"http://{served.host}/", (1280, 900))
        await page.wait_for("document.querySelector('#control')?.hidden === false")
        await page.run(fill("#add-source [name=address]", "rtsp://host/off"))
        await page.run(click("#add-source button"))
        await page.wait_for("document.querySelector('#token-dialog').open")
        await page.run(fill("#token-dialog [name=token]", "not-the-token-of-this-run"))
        await page.run(click("#token-dialog .primary"))
        await page.wait_for("document.querySelector('#token-dialog .error').textContent.includes('refused')")
        await page.run(click("#token-dialog [data-do=cancel]"))
        await page.wait_for("document.querySelector('#control .error').textContent.includes('need the token')")
        assert served.control.sources() == []
        await page.run(click("#add-source button"))
        await page.wait_for("document.querySelector('#token-dialog').open")
        # The event of having been closed before may come as late as this.
        await page.run("document.querySelector('#token-dialog').dispatchEvent(new Event('close'))")
        await page.run(fill("#token-dialog [name=token]", TOKEN))
        await page.run(click("#token-dialog .primary"))
        await page.wait_for(f"document.querySelector('{ROW} .state')?.textContent === 'waiting to retry'")
        assert "connection refused" in await page.run(f"document.querySelector('{ROW} .reason').textContent")
        await screenshot(page, "waiting")
        assert await page.run("[document.cookie, localStorage.length, sessionStorage.length]") == ["", 0, 1]

    with supervised(tmp_path) as served:
        with_page(browser, drive)
