"""Downloads over real connections to this machine: whole, resumed, or one error and nothing that passes for whole."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hoiclip.checkpoint import download as downloads
from hoiclip.checkpoint.download import download
from hoiclip.core.errors import HoiclipError, SinkError, SourceError, UsageError
from tests.hoiclip.checkpoint_server import CONFIRMATION, QUOTA, serving

CONTENT = bytes(range(256)) * 4000
HALF = len(CONTENT) // 2


def quiet(done: int, size: int | None) -> None:
    return


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "fetched" / "file.pth"


def part(target: Path) -> Path:
    return target.with_name("file.pth.part")


def rest(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def test_download_is_whole_and_leaves_nothing_beside(target: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    with serving(content=CONTENT) as server:
        download(server.url + "/file", target, lambda done, size: seen.append((done, size)))
    assert target.read_bytes() == CONTENT
    assert rest(target) == ["file.pth"]
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert sorted(seen) == seen


def test_broken_transfer_continues_where_it_broke(target: Path) -> None:
    with serving(content=CONTENT, breaks=[1000, 500_000]) as server:
        download(server.url, target, quiet)
        assert [asked for _, asked in server.requests] == [None, "bytes=1000-", "bytes=501000-"]
    assert target.read_bytes() == CONTENT


def test_next_call_resumes_what_an_earlier_one_left(target: Path) -> None:
    with serving(content=CONTENT, breaks=[HALF, 0]) as server:
        with pytest.raises(SourceError, match=r"failed .* of 1024000 bytes arrived.*same command resumes"):
            download(server.url, target, quiet)
        assert rest(target) == ["file.pth.part", "file.pth.part.json"]
        assert part(target).read_bytes() == CONTENT[:HALF]
        download(server.url, target, quiet)
        assert server.requests[-1][1] == f"bytes={HALF}-"
        assert server.conditions[-1] == '"first"'
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "extent",
    ["bytes 0-1023999/1024000", "bytes 512000-1023999/1024001", "bytes 512000-900000/1024000", "bytes */9", ""],
)
def test_range_that_does_not_continue_the_part_is_not_taken(extent: str, target: Path) -> None:
    """Neither one that begins elsewhere nor one of another size, whatever its tag; the whole file is asked for."""
    with serving(content=CONTENT, breaks=[HALF], headers={}) as server:
        server.paused = lambda: server.headers.update({"Content-Range": extent})
        download(server.url, target, quiet)
        assert [asked for _, asked in server.requests] == [None, f"bytes={HALF}-", None]
    assert target.read_bytes() == CONTENT


def test_whole_part_of_a_killed_process_needs_no_server(target: Path) -> None:
    with serving(content=CONTENT, breaks=[HALF, 0]) as server, pytest.raises(SourceError):
        download(server.url, target, quiet)
    part(target).write_bytes(CONTENT)
    download(server.url, target, quiet)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("etag", ['"first"', 'W/"first"', None])
def test_server_that_ignores_ranges_is_read_from_the_start(etag: str | None, target: Path) -> None:
    with serving(content=CONTENT, breaks=[HALF], ranges=False, etag=etag) as server:
        download(server.url, target, quiet)
        assert [asked for _, asked in server.requests] == [None, f"bytes={HALF}-"]
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("heeds", [True, False], ids=["if-range", "no-if-range"])
def test_file_that_changed_between_two_tries_is_read_from_the_start(heeds: bool, target: Path) -> None:
    """Also where the server does not heed If-Range: the tag of its answer is another."""
    changed = CONTENT[::-1]
    with serving(content=CONTENT, breaks=[HALF, 0]) as server:
        with pytest.raises(SourceError):
            download(server.url, target, quiet)
        server.content, server.etag = changed, '"second"'
        if not heeds:
            server.etag, server.headers = '"first"', {"ETag": '"second"'}
        download(server.url, target, quiet)
    assert target.read_bytes() == changed


def test_file_that_became_shorter_is_read_from_the_start(target: Path) -> None:
    with serving(content=CONTENT, breaks=[HALF, 0], etag=None) as server:
        with pytest.raises(SourceError):
            download(server.url, target, quiet)
        server.content = b"short"
        download(server.url, target, quiet)  # 416, then all of it
    assert target.read_bytes() == b"short"


def test_part_of_another_address_is_not_continued(target: Path) -> None:
    with serving(content=CONTENT, breaks=[HALF, 0]) as server:
        with pytest.raises(SourceError):
            download(server.url + "/old", target, quiet)
        server.content = CONTENT[::-1]
        download(server.url + "/new", target, quiet)
        assert server.requests[-1] == ("/new", None)
    assert target.read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"address": 1, "size": "x", "validator": null}', "[" * 10_000])
def test_damaged_record_of_a_part_starts_over(record: str, target: Path) -> None:
    target.parent.mkdir()
    part(target).write_bytes(CONTENT[::-1] + b"more")
    part(target).with_name("file.pth.part.json").write_text(record)
    with serving(content=CONTENT) as server:
        download(server.url, target, quiet)
        assert server.requests == [("/", None)]
    assert target.read_bytes() == CONTENT


def test_size_larger_than_the_file_is_an_error_that_can_be_resumed(target: Path) -> None:
    with serving(content=b"x" * 100, announced=1000, ranges=False) as server:
        with pytest.raises(SourceError, match="100 of 1000 bytes arrived"):
            download(server.url, target, quiet)
        assert len(server.requests) == 2  # the second brought nothing new
    assert not target.exists()
    assert part(target).stat().st_size == 100


def test_server_that_breaks_off_for_ever_is_not_asked_for_ever(target: Path) -> None:
    with serving(content=CONTENT, breaks=[10] * 100) as server:
        with pytest.raises(SourceError, match="failed"):
            download(server.url, target, quiet)
        assert len(server.requests) == 5
    assert part(target).read_bytes() == CONTENT[:50]


def test_file_without_a_length_is_read_to_its_end(target: Path) -> None:
    with serving(content=CONTENT, headers={"Content-Length": "none"}) as server:
        download(server.url, target, quiet)
    assert target.read_bytes() == CONTENT


def test_redirect_is_followed(target: Path) -> None:
    with serving(content=CONTENT) as server:
        server.redirect = server.url + "/moved"
        download(server.url, target, quiet)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "location",
    ["http://example.com/x", "http://localhost.example.com/", "ftp://127.0.0.1/x", "file:///etc/passwd", "//["],
)
def test_redirect_away_from_https_is_refused(location: str, target: Path) -> None:
    with serving(content=CONTENT, redirect=location) as server, pytest.raises(SourceError) as error:
        download(server.url, target, quiet)
    assert "\n" not in str(error.value)
    assert rest(target) == []


@pytest.mark.parametrize("address", ["http://example.com/x.pth", "file:///etc/passwd", "ftp://example.com/x", "x.pth"])
def test_address_without_encryption_is_refused(address: str, target: Path) -> None:
    with pytest.raises(SourceError, match="https"):
        download(address, target, quiet)


def test_https_address_may_not_lead_to_this_machine() -> None:
    with pytest.raises(SourceError, match=r"leads to http://127\.0\.0\.1"):
        downloads._require_https("http://127.0.0.1:80/x", "https://example.com/x")


@pytest.mark.parametrize("page_type", ["text/html", "application/octet-stream", "TEXT/HTML; charset=x"])
def test_web_page_is_no_file(page_type: str, target: Path) -> None:
    page = "\n <!DOCTYPE html><html><head><title>Hotel\nlogin</title></head></html>"
    with (
        serving(page=page, page_type=page_type) as server,
        pytest.raises(SourceError, match=r"a web page \(Hotel login\)"),
    ):
        download(server.url, target, quiet)
    assert rest(target) == []


@pytest.mark.parametrize("status", [403, 404, 429, 500, 503])
def test_refusal_is_one_error_with_its_number(status: int, target: Path) -> None:
    with serving(status=status) as server, pytest.raises(SourceError, match=f"answers {status}"):
        download(server.url, target, quiet)
    assert rest(target) == []


def test_web_page_is_known_by_its_type_alone(target: Path) -> None:
    with serving(page="<p>Sign in</p>") as server, pytest.raises(SourceError, match="a web page"):
        download(server.url, target, quiet)
    assert rest(target) == []


def test_server_that_is_not_there_is_one_error(target: Path) -> None:
    with serving() as server:
        url = server.url
    with pytest.raises(SourceError, match="failed"):
        download(url, target, quiet)
    assert rest(target) == []


def test_google_drive_is_asked_again_with_its_confirmation(target: Path) -> None:
    """gdown reads the page: a form, as it is written for large files. Google Drive itself is not asked here."""
    with serving(content=CONTENT, breaks=[HALF]) as server:
        server.page = CONFIRMATION.format(action=server.url + "/download")
        download(server.url + "/uc?export=download&id=1q3J", target, quiet, google_drive=True)
        confirmed = "/download?id=1q3J&confirm=t"
        assert server.requests[1] == (confirmed, None)
        assert server.requests[-1] == (confirmed, f"bytes={HALF}-")
    assert target.read_bytes() == CONTENT


def test_google_drive_that_has_too_many_readers_says_so(target: Path) -> None:
    with serving(page=QUOTA) as server, pytest.raises(SourceError) as error:
        download(server.url, target, quiet, google_drive=True)
    assert "Too many users have viewed or downloaded this file recently." in str(error.value)
    assert "hoiclip models import" in str(error.value)
    assert "<" not in str(error.value)
    assert rest(target) == []


def test_confirmation_that_leads_away_from_https_is_refused(target: Path) -> None:
    page = CONFIRMATION.format(action="http://example.com/download")
    with serving(page=page) as server, pytest.raises(SourceError, match=r"leads to http://example\.com"):
        download(server.url, target, quiet, google_drive=True)


@pytest.mark.parametrize(
    "page",
    [
        "<html>odd</html>",
        '<html><form id="download-form"></form></html>',
        '<html><form id="download-form" action="x"><input type="hidden"></form></html>',
        '<html>"downloadUrl":"http://example.com/x"</html>',
        '<html>"downloadUrl":"http://[/x"</html>',
        '<html><form id="download-form" action="/again"></form></html>',
    ],
)
def test_odd_page_of_google_drive_is_one_error(page: str, target: Path) -> None:
    with serving(page=page) as server, pytest.raises(SourceError) as error:
        download(server.url, target, quiet, google_drive=True)
    assert "\n" not in str(error.value)
    assert rest(target) == []


def test_full_disk_is_noticed_before_the_transfer(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the size is asked for: once as it was released, once as it is used."""
    usage = type("Usage", (), {"free": downloads._SPARE + int(1.5 * len(CONTENT))})
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: usage)
    with serving(content=CONTENT) as server:
        with pytest.raises(SinkError, match=r"free disk.*HOICLIP_CACHE"):
            download(server.url, target, quiet, copies=2)
        assert rest(target) == []
        download(server.url, target, quiet)
    assert target.stat().st_size == len(CONTENT)


def test_disk_that_is_full_in_the_middle_keeps_what_arrived(target: Path) -> None:
    """A limit of this process stands for the disk."""
    resource = pytest.importorskip("resource")
    import signal

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with serving(content=CONTENT) as server:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, limits[1]))
            with pytest.raises(SinkError, match=r"cannot write .*file\.pth\.part.*same command resumes"):
                download(server.url, target, quiet)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)
        download(server.url, target, quiet)
        assert server.requests[-1][1] is not None
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "none"}], ids=["announced", "without a length"])
def test_file_without_end_is_refused(headers: dict[str, str], target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "LARGEST", 1 << 19)
    with serving(content=CONTENT, headers=headers) as server, pytest.raises(SourceError, match="the server sends more"):
        download(server.url, target, quiet)
    assert rest(target) == []


def test_second_process_does_not_write_into_the_same_download(target: Path) -> None:
    errors: list[Exception] = []

    def second(done: int, size: int | None) -> None:
        try:
            download(server.url, target, quiet)
        except UsageError as error:
            errors.append(error)

    with serving(content=CONTENT) as server:
        download(server.url, target, second)
    assert "another process" in str(errors[0])
    assert target.read_bytes() == CONTENT


def test_interrupt_keeps_what_arrived(target: Path) -> None:
    def interrupt(done: int, size: int | None) -> None:
        if done >= HALF:
            raise KeyboardInterrupt

    with serving(content=CONTENT) as server:
        with pytest.raises(KeyboardInterrupt):
            download(server.url, target, interrupt)
        kept = part(target).stat().st_size
        assert HALF <= kept < len(CONTENT)
        download(server.url, target, quiet)
        assert server.requests[-1][1] == f"bytes={kept}-"
    assert target.read_bytes() == CONTENT


text = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
numbers = st.one_of(st.integers(-5, 70).map(str), text)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    content=st.binary(min_size=1, max_size=60),
    breaks=st.lists(st.integers(0, 30), max_size=4),
    changed=st.none() | st.binary(min_size=1, max_size=60),
    headers=st.dictionaries(st.sampled_from(["Content-Length", "Content-Range", "Content-Type"]), numbers, max_size=2),
)
def test_whatever_the_server_sends_the_file_is_whole_or_there_is_one_error(
    content: bytes, breaks: list[int], changed: bytes | None, headers: dict[str, str]
) -> None:
    """A false length can only shorten what is taken for the file: its digest is fetch.py's to check."""
    with (
        serving(content=content, breaks=list(breaks), headers=headers) as server,
        tempfile.TemporaryDirectory() as folder,
    ):
        target = Path(folder) / "file.pth"
        for _ in range(3):
            with suppress(HoiclipError):  # any other one fails the test
                download(server.url, target, quiet)
            if target.exists():
                break
            if changed is not None:
                server.content, server.etag = changed, '"second"'
        if target.exists() and "Content-Length" not in headers:
            assert target.read_bytes() in (content, changed)
        elif target.exists():
            assert any(version.startswith(target.read_bytes()) for version in (content, changed or b""))
        assert not [name for name in os.listdir(folder) if not name.startswith("file.pth")]
