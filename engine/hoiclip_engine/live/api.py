"""Handlers of the live server's API (openapi.py has the table of operations). Errors are JSON: {"error": "one line"}.

Access is checked before a handler is called (access.py). What waits for disks or for ending sources runs in threads, so
that viewers are not disturbed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import datetime
from typing import Any, TypeVar

from aiohttp import web

from hoiclip.core.errors import SinkError, UsageError
from hoiclip.core.foreign_file import decode_text, parse_json
from hoiclip.core.printable import one_line
from hoiclip.core.wall_time import read_time
from hoiclip_engine.live.access import HEADERS, error_response, set_time_limit
from hoiclip_engine.live.control import MAX_NAME_CHARACTERS, AddressRefused, LiveControl, SourceExists
from hoiclip_engine.live.openapi import (
    EVENT_ID_PATTERN,
    MAX_LIMIT,
    MAX_OFFSET,
    MAX_WORD_CHARACTERS,
    OPERATIONS,
    TIME_PATTERN,
    document,
)
from hoiclip_engine.live.recent_events import EventQuery
from hoiclip_engine.types.frame import SupervisedSource

MAX_BODY_BYTES = 2**18
EVIDENCE_S = 120.0
"""Time limit for a snapshot or a range of a clip."""
THREADS = 4
_CLIP_TYPES = {".mp4": "video/mp4", ".mkv": "video/x-matroska", ".webm": "video/webm"}
T = TypeVar("T")
_log = logging.getLogger("hoiclip")


class Api:
    """Handlers, named by the ids of the operations."""

    def __init__(self, control: LiveControl, *, token_for_reads: bool) -> None:
        self._control = control
        self._document = json.dumps(document(token_for_reads))
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="hoiclip-live-api")

    def add_to(self, application: web.Application) -> None:
        """Registers the operations."""
        for operation in OPERATIONS:
            handler = getattr(self, operation.id)
            application.router.add_route(operation.method.upper(), operation.path, _reporting_errors(handler))

    def close(self) -> None:
        """Ends the threads, without waiting for what they do."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def list_sources(self, _request: web.Request) -> web.Response:
        return _json({"sources": [_source_fields(source) for source in self._control.sources()]})

    async def add_source(self, request: web.Request) -> web.Response:
        body = await _body(request)
        if not set(body) <= {"address", "name"} or not isinstance(body.get("address"), str) or not body["address"]:
            raise web.HTTPBadRequest(text='expected {"address": ..., "name": ...}, found something else')
        name = body.get("name", "")
        if not isinstance(name, str) or len(name) > MAX_NAME_CHARACTERS:
            raise web.HTTPBadRequest(text=f"expected a name of at most {MAX_NAME_CHARACTERS} characters")
        if not (name.isprintable() and name == name.strip()):
            raise UsageError("expected a name of printable characters without spaces around, found another one")
        source = await self._call(lambda: self._control.add(body["address"], name))
        return _json(_source_fields(source), status=201, headers={"Location": f"/api/sources/{source.id}"})

    async def get_source(self, request: web.Request) -> web.Response:
        return _json(_source_fields(self._control.source(_source_id(request))))

    async def remove_source(self, request: web.Request) -> web.Response:
        source_id = _source_id(request)
        await self._call(lambda: self._control.remove(source_id))
        return web.Response(status=204, headers=HEADERS)

    async def pause_source(self, request: web.Request) -> web.Response:
        source_id = _source_id(request)
        return _json(_source_fields(await self._call(lambda: self._control.pause(source_id))))

    async def resume_source(self, request: web.Request) -> web.Response:
        source_id = _source_id(request)
        return _json(_source_fields(await self._call(lambda: self._control.resume(source_id))))

    async def get_rules(self, _request: web.Request) -> web.Response:
        return _json(self._control.rules())

    async def replace_rules(self, request: web.Request) -> web.Response:
        rules = await _body(request)
        if not isinstance(rules.get("rule"), list):
            raise web.HTTPBadRequest(text='expected {"rule": [...]}, found something else')
        await self._call(lambda: self._control.replace_rules(rules))
        return _json(self._control.rules())

    async def list_events(self, request: web.Request) -> web.Response:
        query = _event_query(request.query)
        page = await self._call(lambda: self._control.events.query(query))
        fields = {"events": page.events, "total": page.total, "stored": page.is_stored}
        return _json({**fields, "limit": query.limit, "offset": query.offset})

    async def get_snapshot(self, request: web.Request) -> web.StreamResponse:
        return await self._evidence(request, "snapshot")

    async def get_clip(self, request: web.Request) -> web.StreamResponse:
        return await self._evidence(request, "clip")

    async def get_document(self, _request: web.Request) -> web.Response:
        return web.Response(text=self._document, content_type="application/json", headers=HEADERS)

    async def _evidence(self, request: web.Request, kind: str) -> web.StreamResponse:
        event_id = request.match_info["id"]
        path = None
        if re.fullmatch(EVENT_ID_PATTERN, event_id):
            path = await self._call(lambda: self._control.evidence_file(event_id, kind))
        if path is None:
            raise web.HTTPNotFound(text=f"expected an event with a {kind}, found none; it may have been removed")
        content_type = "image/jpeg" if kind == "snapshot" else _CLIP_TYPES.get(path.suffix.lower(), "video/mp4")
        set_time_limit(request.transport, EVIDENCE_S)
        return web.FileResponse(path, headers={**HEADERS, "Content-Type": content_type})

    async def _call(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)


def _reporting_errors(handler: Callable[[web.Request], Any]) -> Callable[[web.Request], Any]:
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            response: web.StreamResponse = await handler(request)
            return response
        except AddressRefused as error:
            return error_response(403, str(error))
        except SourceExists as error:
            return error_response(409, str(error))
        except UsageError as error:
            return error_response(422, str(error))
        except SinkError as error:
            return error_response(503, str(error))
        except KeyError:
            return error_response(404, "expected the id of a source, found none with it; GET /api/sources lists them")
        except web.HTTPException:
            raise
        except Exception as error:
            _log.error("the live page could not answer %s: %s: %s", request.path, type(error).__name__, error)
            return error_response(500, "internal error")

    return handle


def source_list(control: LiveControl) -> list[dict[str, Any]]:
    """All sources as in GET /api/sources; without counts of frames, which change all the time."""
    return [
        {key: value for key, value in _source_fields(each).items() if key != "frames"} for each in control.sources()
    ]


def _source_fields(source: SupervisedSource) -> dict[str, Any]:
    fields = asdict(source)
    return {**fields, "error": one_line(source.error)}


def _json(data: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    text = json.dumps(data, allow_nan=False)
    return web.Response(
        text=text, status=status, content_type="application/json", headers={**HEADERS, **(headers or {})}
    )


async def _body(request: web.Request) -> dict[str, Any]:
    """The object in the body.

    Raises:
        web.HTTPException: not JSON by its type or its text, no object, or too large.
    """
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="expected Content-Type: application/json, found another one")
    data = await request.read()  # at most client_max_size
    try:
        body = parse_json(decode_text(data), finite=True)
        # Neither halves of characters nor numbers too large for a float: they could not be written again.
        json.dumps(body, allow_nan=False, ensure_ascii=False).encode()
    except ValueError:
        raise web.HTTPBadRequest(text="expected JSON, found something else") from None
    if not isinstance(body, dict):
        raise web.HTTPBadRequest(text="expected a JSON object, found something else")
    return body


def _source_id(request: web.Request) -> int:
    """Raises KeyError: not the id of any source."""
    text = request.match_info["id"]
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise KeyError(text)
    return int(text)


def _event_query(query: Mapping[str, str]) -> EventQuery:
    """Raises web.HTTPBadRequest: an unknown filter, or a value that it cannot have."""
    known = set(EventQuery.__dataclass_fields__)
    if unknown := set(query) - known - {"token"}:
        raise web.HTTPBadRequest(text=f"expected filters of {', '.join(sorted(known))}, found {min(unknown)!a:.40}")
    if query.get("kind", "verb") not in ("verb", "rule"):
        raise web.HTTPBadRequest(text="expected kind=verb or kind=rule")
    words = {name: query[name] for name in ("kind", "verb", "object", "rule") if name in query}
    if any(not 0 < len(word) <= MAX_WORD_CHARACTERS for word in words.values()):
        raise web.HTTPBadRequest(text=f"expected words of 1 to {MAX_WORD_CHARACTERS} characters")
    return EventQuery(
        source=_number(query, "source", 1, 999_999_999) if "source" in query else None,
        since=_moment(query["since"]) if "since" in query else None,
        until=_moment(query["until"]) if "until" in query else None,
        limit=_number(query, "limit", 1, MAX_LIMIT, 50),
        offset=_number(query, "offset", 0, MAX_OFFSET, 0),
        **words,
    )


def _number(query: Mapping[str, str], name: str, least: int, most: int, default: int = 0) -> int:
    text = query.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
        raise web.HTTPBadRequest(text=f"expected {name} to be a number from {least} to {most}")
    return int(text)


def _moment(text: str) -> datetime:
    try:
        if not re.fullmatch(TIME_PATTERN, text):
            raise ValueError
        return read_time(text)
    except (ValueError, OverflowError):
        raise web.HTTPBadRequest(text="expected a time such as 2026-01-31T08:00:00Z, or with +01:00") from None
