"""Operations of the live server's API: the one table that its routes and its OpenAPI document are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hoiclip import __version__
from hoiclip_engine.events.rules import MOST_RULES
from hoiclip_engine.live.control import MAX_ADDRESS_CHARACTERS, MAX_NAME_CHARACTERS
from hoiclip_engine.live.recent_events import MAX_COUNTED

MAX_LIMIT = 500
MAX_OFFSET = 1_000_000
MAX_WORD_CHARACTERS = 200
MAX_ID = 999_999_999
TIME_PATTERN = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)$"
EVENT_ID_PATTERN = r"^[0-9A-Za-z-]{1,64}$"
_JSON = "application/json"

_ERROR = {
    "type": "object",
    "required": ["error"],
    "additionalProperties": False,
    "properties": {"error": {"type": "string", "description": "One line."}},
}
_NEW_SOURCE = {
    "type": "object",
    "required": ["address"],
    "additionalProperties": False,
    "properties": {
        "address": {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_ADDRESS_CHARACTERS,
            "description": "A stream, the number of a camera, or a file in a folder that was allowed.",
            "examples": ["rtsp://camera/stream", "0"],
        },
        "name": {"type": "string", "maxLength": MAX_NAME_CHARACTERS, "description": "Shown instead of the address."},
    },
}
_SOURCE = {
    "type": "object",
    "required": ["id", "name", "address", "kind", "state", "error", "frames", "restarts"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "integer", "minimum": 1},
        "name": {"type": "string"},
        "address": {"type": "string", "description": "Without user and password."},
        "kind": {"enum": ["stream", "webcam", "file"]},
        "state": {"enum": ["starting", "running", "lost", "waiting", "paused", "ended", "failed"]},
        "error": {"type": "string"},
        "frames": {"type": "integer", "description": "Results since it was last opened."},
        "restarts": {"type": "integer", "description": "By the watch-dog."},
    },
}
_SOURCES = {
    "type": "object",
    "required": ["sources"],
    "additionalProperties": False,
    "properties": {"sources": {"type": "array", "items": _SOURCE}},
}
_RULES = {
    "type": "object",
    "required": ["rule"],
    "additionalProperties": False,
    "properties": {
        "rule": {
            "type": "array",
            "maxItems": MOST_RULES,
            "items": {
                "type": "object",
                "required": ["name"],
                "description": "As in a file of rules; `sources` are the ids of those it is for, without it all.",
                "properties": {
                    "name": {"type": "string", "minLength": 1},
                    "sources": {"type": "array", "items": {"type": "integer"}},
                },
            },
        }
    },
}
_EVENT_FIELDS = {
    "id": {"type": "string"},
    "kind": {"enum": ["verb", "rule"]},
    "source": {"type": ["integer", "null"], "description": "null of one that the run does not have."},
    "source_name": {"type": "string"},
    "time": {"type": "string", "description": "Wall time of the start, UTC."},
    "start_s": {"type": "number"},
    "end_s": {"type": ["number", "null"], "description": "null while it holds, or where its run was killed."},
    "is_open": {"type": "boolean", "description": "Whether it holds now."},
    "rule": {"type": "string"},
    "verb": {"type": "string"},
    "object": {"type": "string"},
    "human": {"type": ["integer", "null"]},
    "object_id": {"type": ["integer", "null"]},
    "pair": {"type": ["integer", "null"]},
    "score": {"type": ["number", "null"]},
    "evidence": {
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": {"snapshot": {"type": "string"}, "clip": {"type": "string"}},
    },
}
_EVENTS = {
    "type": "object",
    "required": ["events", "total", "stored", "limit", "offset"],
    "additionalProperties": False,
    "properties": {
        "events": {
            "type": "array",
            "items": {"type": "object", "required": list(_EVENT_FIELDS), "properties": _EVENT_FIELDS},
        },
        "total": {
            "type": "integer",
            "description": f"Events that fit; in a database, counted up to {MAX_COUNTED} beyond the range.",
        },
        "stored": {
            "type": "boolean",
            "description": "Whether they come from the database of --db; else from memory: the latest of this run.",
        },
        "limit": {"type": "integer"},
        "offset": {"type": "integer"},
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path; `id` is also the name of its handler."""

    method: str
    path: str
    id: str
    summary: str
    parameters: tuple[Mapping[str, Any], ...] = ()
    body: str = ""
    """Schema of the body, by name."""
    responses: Mapping[int, tuple[str, str]]
    """By status: description, and the schema's name or a content type; empty for no content."""
    errors: tuple[int, ...] = ()

    @property
    def is_write(self) -> bool:
        return self.method != "get"


def _query(name: str, schema: Mapping[str, Any], description: str = "") -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": description}


_WORD = {"type": "string", "minLength": 1, "maxLength": MAX_WORD_CHARACTERS}
_TIME = {"type": "string", "pattern": TIME_PATTERN}
_SOURCE_ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": {"type": "integer", "minimum": 1, "maximum": MAX_ID},
}
_EVENT_ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "pattern": EVENT_ID_PATTERN}}
_FILTERS = (
    _query("source", {"type": "integer", "minimum": 1, "maximum": MAX_ID}, "Id of a source."),
    _query("kind", {"enum": ["verb", "rule"]}),
    _query("verb", _WORD),
    _query("object", _WORD, "The object's word."),
    _query("rule", _WORD, "Name of a rule."),
    _query("since", _TIME, "Started at or after this moment, with its time zone."),
    _query("until", _TIME, "Started before."),
    _query("limit", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": 50}),
    _query("offset", {"type": "integer", "minimum": 0, "maximum": MAX_OFFSET, "default": 0}),
)
_ERROR_WORDS = {
    400: "The request is not as described.",
    401: "The token is missing or wrong.",
    403: "Clients may not add such a source, or the request comes from another site.",
    404: "Nothing has this id.",
    409: "It is there already.",
    413: "The body is too large.",
    415: "The body is not application/json.",
    416: "No such range.",
    422: "It makes no sense, and the error says why.",
    503: "The state folder cannot be written.",
}
_READ = (401, 403)
_CHANGE = (401, 403, 404, 503)
OPERATIONS = (
    Operation(
        method="get",
        path="/api/sources",
        id="list_sources",
        summary="Lists all sources with their states.",
        responses={200: ("Sources, by id.", "Sources")},
        errors=_READ,
    ),
    Operation(
        method="post",
        path="/api/sources",
        id="add_source",
        summary="Adds a source, which starts at once.",
        body="NewSource",
        responses={201: ("The source; its address is in Location.", "Source")},
        errors=(400, 401, 403, 409, 413, 415, 422, 503),
    ),
    Operation(
        method="get",
        path="/api/sources/{id}",
        id="get_source",
        summary="A source and its state.",
        parameters=(_SOURCE_ID,),
        responses={200: ("The source.", "Source")},
        errors=(*_READ, 404),
    ),
    Operation(
        method="delete",
        path="/api/sources/{id}",
        id="remove_source",
        summary="Ends and removes a source, with the rules that are for it alone.",
        parameters=(_SOURCE_ID,),
        responses={204: ("It is removed.", "")},
        errors=_CHANGE,
    ),
    Operation(
        method="post",
        path="/api/sources/{id}/pause",
        id="pause_source",
        summary="Ends a source and keeps it in the list.",
        parameters=(_SOURCE_ID,),
        responses={200: ("The source.", "Source")},
        errors=_CHANGE,
    ),
    Operation(
        method="post",
        path="/api/sources/{id}/resume",
        id="resume_source",
        summary="Starts a source that is paused, has ended or has failed.",
        parameters=(_SOURCE_ID,),
        responses={200: ("The source.", "Source")},
        errors=_CHANGE,
    ),
    Operation(
        method="get",
        path="/api/rules",
        id="get_rules",
        summary="All rules, with their zones.",
        responses={200: ("The rules.", "Rules")},
        errors=_READ,
    ),
    Operation(
        method="put",
        path="/api/rules",
        id="replace_rules",
        summary="Replaces all rules; they hold from the next frame on.",
        body="Rules",
        responses={200: ("The rules as they are kept.", "Rules")},
        errors=(400, 401, 403, 413, 415, 422, 503),
    ),
    Operation(
        method="get",
        path="/api/events",
        id="list_events",
        summary="Verb events and rule hits, the newest first, with links to their evidence.",
        parameters=_FILTERS,
        responses={200: ("Events of the range.", "Events")},
        errors=(400, *_READ),
    ),
    Operation(
        method="get",
        path="/api/evidence/{id}/snapshot",
        id="get_snapshot",
        summary="Image of an event.",
        parameters=(_EVENT_ID,),
        responses={200: ("The image.", "image/jpeg"), 206: ("A range of it.", "image/jpeg")},
        errors=(*_READ, 404, 416),
    ),
    Operation(
        method="get",
        path="/api/evidence/{id}/clip",
        id="get_clip",
        summary="Video of an event; ranges are served, so that players can seek.",
        parameters=(_EVENT_ID,),
        responses={200: ("The video.", "video/*"), 206: ("A range of it.", "video/*")},
        errors=(*_READ, 404, 416),
    ),
    Operation(
        method="get",
        path="/api/openapi.json",
        id="get_document",
        summary="This document.",
        responses={200: ("OpenAPI 3.1.", _JSON)},
        errors=_READ,
    ),
)
_SCHEMAS = {
    "Error": _ERROR,
    "NewSource": _NEW_SOURCE,
    "Source": _SOURCE,
    "Sources": _SOURCES,
    "Rules": _RULES,
    "Events": _EVENTS,
}


def _content(name: str) -> dict[str, Any]:
    """Content of a request or response, by the name of its schema or by its content type."""
    if not name:
        return {}
    if name in _SCHEMAS:
        return {"content": {_JSON: {"schema": {"$ref": f"#/components/schemas/{name}"}}}}
    return {"content": {name: {}}}


def document(token_for_reads: bool) -> dict[str, Any]:
    """The OpenAPI 3.1 document. Args: token_for_reads: whether reading needs the token too."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        needs_token = operation.is_write or token_for_reads
        paths.setdefault(operation.path, {})[operation.method] = {
            "operationId": operation.id,
            "summary": operation.summary,
            **({"parameters": list(operation.parameters)} if operation.parameters else {}),
            **({"requestBody": {"required": True, **_content(operation.body)}} if operation.body else {}),
            "responses": _responses(operation),
            "security": [{"token": []}] if needs_token else [],
        }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "hoiclip live",
            "version": __version__,
            "description": "Sources, rules and events of a live run. Changes need the token as a bearer.",
        },
        "paths": paths,
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _responses(operation: Operation) -> dict[str, Any]:
    found = {
        str(status): {"description": description, **_content(name)}
        for status, (description, name) in operation.responses.items()
    }
    for status in operation.errors:
        found[str(status)] = {"description": _ERROR_WORDS[status], **_content("Error")}
    return found
