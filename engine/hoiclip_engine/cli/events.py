"""hoiclip events: list, show, export, totals and clips of what runs have recorded with --db."""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hoiclip.core.errors import SinkError, SourceError, UsageError
from hoiclip.core.wall_time import read_time
from hoiclip_engine.cli import options
from hoiclip_engine.cli.console import messages, results, say, table
from hoiclip_engine.cli.distinct_files import require_distinct

if TYPE_CHECKING:
    from hoiclip_engine.events.event_store import EventFilter, EventStore, RecordedEvent


EXAMPLES = """\
  hoiclip events list --db events.sqlite --since 2h --verb ride
  hoiclip events show 3f2a9c1e-e12 --db events.sqlite
  hoiclip events stats --db postgresql://hoiclip@host/events --json
  hoiclip events export --db events.sqlite --format csv -o events.csv
  hoiclip events clip 3f2a9c1e-r3 --db events.sqlite -o clip.mp4
  hoiclip events prune --db events.sqlite --older-than 30d
"""
FORMATS = ("jsonl", "csv", "vtt")
GROUPS = ("rule", "verb", "source", "hour")
LISTED = 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=options.Parser)
    listed = _add_action(actions, "list", "events and hits of rules, the newest first")
    _add_filters(listed)
    listed.add_argument(
        "--limit", type=options.positive, default=LISTED, metavar="N", help=f"at most so many (default: {LISTED})"
    )
    options.add_json(listed)
    shown = _add_action(actions, "show", "everything about one event")
    shown.add_argument("id", metavar="ID", help="as list prints it")
    options.add_json(shown)
    exported = _add_action(actions, "export", "events and hits as JSON lines, CSV or WebVTT, the oldest first")
    _add_filters(exported)
    exported.add_argument("--limit", type=options.positive, metavar="N", help="at most so many (default: all)")
    exported.add_argument("--format", choices=FORMATS, default="jsonl", help="default: jsonl; vtt: of one run")
    exported.add_argument("-o", "--output", type=Path, metavar="PATH", help="file (default: standard output)")
    totals = _add_action(actions, "stats", "totals per rule, verb, source and hour")
    _add_filters(totals)
    options.add_json(totals)
    clip = _add_action(actions, "clip", "print the path of an event's clip, or copy it")
    clip.add_argument("id", metavar="ID", help="as list prints it")
    clip.add_argument("-o", "--output", type=Path, metavar="OUT", help="copy it there")
    pruned = _add_action(actions, "prune", "delete old rows; files of evidence stay")
    pruned.add_argument(
        "--older-than", type=options.age, required=True, metavar="AGE", help="delete what ended before, such as 30d"
    )


def _add_action(actions: Any, name: str, about: str) -> argparse.ArgumentParser:
    action: argparse.ArgumentParser = actions.add_parser(name, help=about)
    action.add_argument("--db", required=True, metavar="FILE|URL", help="SQLite file or postgresql://user@host/db")
    options.add_log(action)
    return action


def _add_filters(parser: argparse.ArgumentParser) -> None:
    kept = parser.add_argument_group("filters", "those that hold all of them are taken")
    kept.add_argument("--since", type=moment, metavar="TIME", help="start then or later: 2h (ago), 2026-01-31T12:00")
    kept.add_argument("--until", type=moment, metavar="TIME", help="start before")
    kept.add_argument("--source", metavar="TEXT", help="name of the source contains it")
    kept.add_argument("--verb", metavar="WORD")
    kept.add_argument("--object", metavar="WORD")
    kept.add_argument("--rule", metavar="NAME", help="hits of this rule only")
    kept.add_argument("--human", type=options.seed, metavar="N", help="identity of the person")
    kept.add_argument("--run", metavar="ID", help="first letters of the run's id")


def moment(text: str) -> datetime:
    """A time in the past by its distance, or in ISO 8601; without a zone, the local one."""
    try:
        return datetime.now(timezone.utc) - timedelta(seconds=options.age(text))
    except (argparse.ArgumentTypeError, OverflowError):
        pass
    try:
        return read_time(text).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"expected a time such as 2h, 7d or 2026-01-31T12:00, got {text!r:.40}"
        ) from None


def run(args: argparse.Namespace) -> int:
    from hoiclip_engine.events.event_store import EventStore

    store = EventStore(args.db)
    match args.action:
        case "list":
            return list_events(store, _filter(args), args.json)
        case "show":
            return show_event(store, args.id, args.json)
        case "export":
            return export_events(store, _filter(args, newest_first=False), args.format, args.output)
        case "stats":
            return show_totals(store, _filter(args), args.json)
        case "clip":
            return clip(store, args.id, args.output)
        case _:
            return prune(store, args.older_than)


def _filter(args: argparse.Namespace, *, newest_first: bool = True) -> EventFilter:
    from hoiclip_engine.events.event_store import EventFilter

    return EventFilter(
        since=args.since,
        until=args.until,
        source=args.source,
        verb=args.verb,
        object=args.object,
        rule=args.rule,
        human=args.human,
        run=args.run,
        limit=getattr(args, "limit", None),
        newest_first=newest_first,
    )


def list_events(store: EventStore, wanted: EventFilter, as_json: bool) -> int:
    """Prints a table, or JSON lines."""
    if as_json:
        for event in store.iterate(wanted):
            say(_json(event))
        return 0
    columns = ("id", "start", "lasted", "what", "source", "evidence")
    rows = [
        (
            event.id,
            _local(event.start_at),
            "" if event.end_s is None else f"{event.end_s - event.start_s:.1f} s",
            titled(event),
            event.source,
            "clip" if event.clip else "snapshot" if event.snapshot else "",
        )
        for event in store.iterate(wanted)
    ]
    made = table("", columns, rows)
    made.columns[0].no_wrap = made.columns[1].no_wrap = True  # an id is there to be copied
    results.print(made)
    return 0


def show_event(store: EventStore, event_id: str, as_json: bool) -> int:
    """Prints every field of one event."""
    event = store.get(event_id)
    if as_json:
        say(_json(event))
    else:
        rows = [(name, "" if value is None else value) for name, value in _fields(event).items()]
        results.print(table("", ("field", "value"), rows))
    return 0


def export_events(store: EventStore, wanted: EventFilter, form: str, target: Path | None) -> int:
    """Writes events to a file, whole or not at all, or to standard output."""
    from hoiclip.core.atomic_write import atomic_write

    require_distinct(store.files, [target])
    lines = _LINES[form](store, wanted)
    if target is None:
        for line in lines:
            say(line)
        return 0
    try:
        with ExitStack() as stack:
            path = stack.enter_context(atomic_write(target))
            with path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
                file.writelines(f"{line}\n" for line in lines)
    except OSError as error:
        raise _unwritable(target, error) from None
    return 0


def show_totals(store: EventStore, wanted: EventFilter, as_json: bool) -> int:
    """Prints a table per group, or one JSON object."""
    totals = {by: store.totals(by, wanted) for by in GROUPS}
    if as_json:
        say(json.dumps({by: [asdict(total) for total in rows] for by, rows in totals.items()}))
        return 0
    for by, rows in totals.items():
        shown = [(total.name or "(none)", total.events, total.hits, f"{total.seconds:.1f}") for total in rows]
        results.print(table("", (f"{by} (UTC)" if by == "hour" else by, "events", "hits", "seconds"), shown))
        results.print("")
    return 0


def clip(store: EventStore, event_id: str, target: Path | None) -> int:
    """Prints where an event's clip is, or copies it."""
    from hoiclip.core.atomic_write import atomic_write
    from hoiclip.core.foreign_file import open_regular

    event = store.get(event_id)
    if event.clip is None:
        raise SourceError(f"{event_id} has no clip; hoiclip run --evidence keeps them")
    source = Path(event.clip)
    if not source.is_file():
        raise SourceError(
            f"the clip of {event_id} is not at {source} any more; evidence is removed by age, number and size"
        )
    if target is None:
        say(str(source))
        return 0
    require_distinct([source, *store.files], [target])
    try:
        with open_regular(source) as file, atomic_write(target) as path, path.open("wb") as copy:
            while chunk := file.read(1 << 20):
                copy.write(chunk)
    except OSError as error:
        raise _unwritable(target, error) from None
    return 0


def prune(store: EventStore, older_than_s: float) -> int:
    """Deletes what ended before."""
    try:
        before = datetime.now(timezone.utc) - timedelta(seconds=older_than_s)
    except OverflowError:
        before = datetime.min.replace(tzinfo=timezone.utc)
    deleted = store.prune(before)
    messages.print(f"Deleted {deleted} rows of before {before:%Y-%m-%d %H:%M} UTC; files of evidence stay.")
    return 0


def titled(event: RecordedEvent) -> str:
    """What happened in words, for example "person 3 ride bicycle 5", after the name of its rule."""
    words = ["" if event.human is None else f"person {event.human}", event.verb, event.label]
    words.append("" if event.object is None else str(event.object))
    sentence = " ".join(word.replace("_", " ") for word in words if word)
    return f"{event.rule}: {sentence}" if event.rule and sentence else event.rule or sentence


def _json(event: RecordedEvent) -> str:
    return json.dumps(_fields(event), separators=(",", ":"))


def _fields(event: RecordedEvent) -> dict[str, Any]:
    kept = asdict(event) | {"evidence_s": json.loads(event.evidence_s) if event.evidence_s else None}
    return {"id": event.id, **kept}


def _json_lines(store: EventStore, wanted: EventFilter) -> Iterator[str]:
    return (_json(event) for event in store.iterate(wanted))


def _csv_lines(store: EventStore, wanted: EventFilter) -> Iterator[str]:
    from hoiclip_engine.events.event_store import RecordedEvent

    yield _csv(["id", *(name for name in RecordedEvent.__dataclass_fields__)])
    for event in store.iterate(wanted):
        yield _csv([event.id, *asdict(event).values()])


def _csv(cells: Iterable[object]) -> str:
    from hoiclip.core.printable import spreadsheet_text

    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(
        [spreadsheet_text(cell) if isinstance(cell, str) else cell for cell in cells]
    )
    return text.getvalue()


def _vtt_lines(store: EventStore, wanted: EventFilter) -> Iterator[str]:
    """Cues as `hoiclip run --vtt` writes them, timed from the first frame of the run."""
    from hoiclip_engine.sinks.text_sinks import SHORTEST_CUE_S, timestamp

    runs = {event.run_id for event in store.iterate(wanted)}
    if len(runs) > 1:
        raise UsageError(f"WebVTT is timed by one run, found events of {len(runs)}; name one with --run")
    first_s = store.run_starts(runs.pop()).popitem()[1] or 0.0 if runs else 0.0
    yield "WEBVTT\n"
    for event in store.iterate(wanted):
        start_s = event.start_s - first_s
        end_s = max((event.start_s if event.end_s is None else event.end_s) - first_s, start_s + SHORTEST_CUE_S)
        words = " ".join(titled(event).split())
        yield f"{timestamp(start_s)} --> {timestamp(end_s)}\n{escape(words, quote=False)}\n"


_LINES: dict[str, Callable[[EventStore, EventFilter], Iterator[str]]] = {
    "jsonl": _json_lines,
    "csv": _csv_lines,
    "vtt": _vtt_lines,
}


def _local(wall_time: str) -> str:
    """Time of a clock on the wall here."""
    try:
        return f"{read_time(wall_time):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError):
        return wall_time


def _unwritable(target: Path, error: OSError) -> SinkError:
    return SinkError(f"cannot write {target}: {error.strerror}; choose a place that exists, is writable and has room")
