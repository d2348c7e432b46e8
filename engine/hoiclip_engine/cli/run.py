"""hoiclip run: sources through the engine into sinks."""

from __future__ import annotations

import argparse
import ctypes
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hoiclip.core.errors import UsageError
from hoiclip_engine.cli import options
from hoiclip_engine.cli.distinct_files import model_inputs, source_inputs

if TYPE_CHECKING:
    from hoiclip_engine.cli.outputs import Outputs
    from hoiclip_engine.events.rules import RuleSet


EXAMPLES = """\
  hoiclip run clip.mp4                                    events as lines, for reading
  hoiclip run clip.mp4 -o annotated.mp4 --jsonl pairs.jsonl
  hoiclip run clip.mp4 --jsonl - --detect-every 5 | jq .
  hoiclip run rtsp://camera/stream --live 127.0.0.1:8080  the newest frame, on a page
  hoiclip run clip.mp4 --rules rules.toml                 hits of rules, among the events
  hoiclip run cameras.txt --jsonl results/ --webhook https://host/hook
  hoiclip run rtsp://camera/stream --evidence evidence    a snapshot and a clip of what happens
  hoiclip run cameras.txt --db events.sqlite              then: hoiclip events list --db events.sqlite
  hoiclip run --live 127.0.0.1:8080 --state state/        cameras are added on the page
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        nargs="*",
        metavar="SRC",
        help="video or image file, folder, glob, list (.txt), -, camera (0) or stream (rtsp://, http://, ...)",
    )
    _add_outputs(parser)
    _add_evidence(parser)
    _add_delivery(parser)
    options.add_model(parser, folders=True)
    options.add_backend(parser)
    parser.add_argument(
        "--policy",
        default="auto",
        choices=("auto", "lossless", "latest"),
        help="lossless: every frame (files); latest: the newest frame, never behind (live; plays a file in real time)",
    )
    options.add_detect_every(parser)
    options.add_clip_every(parser)
    options.add_whole_every(parser)
    parser.add_argument(
        "--batch",
        default=1,
        type=options.concurrency,
        metavar="N",
        help="frames of N sources in one inference, where the backend can (default: 1)",
    )
    parser.add_argument("--min-score", type=options.real, metavar="X", help="report pairs from this score on")
    parser.add_argument("--camera-motion", action="store_true", help="compensate for a camera that shakes or turns")
    options.add_short_side(parser)
    parser.add_argument("--start", type=options.real, default=0.0, metavar="S", help="seconds after the first frame")
    parser.add_argument("--duration", type=options.real, metavar="S", help="seconds from the start on (default: all)")
    parser.add_argument("--max-frames", type=options.integer, metavar="N", help="end after N frames")
    parser.add_argument("--transport", default="tcp", choices=("tcp", "udp"), help="transport of RTSP (default: tcp)")
    parser.add_argument(
        "--timeout",
        type=options.real,
        default=5.0,
        metavar="S",
        help="seconds without data until a stream counts as lost (default: 5)",
    )
    options.add_hwaccel(parser)
    options.add_rules(parser)


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    files = parser.add_argument_group("outputs", "files; with several sources, folders with a file for each")
    files.add_argument(
        "-o", "--output", metavar="OUT.mp4|URL", help="annotated video; or rtmp://, rtsp://, udp://, tcp://"
    )
    files.add_argument("--jsonl", metavar="PATH|-", help="every pair of every frame as JSON lines, schema hoiclip/1")
    files.add_argument("--csv", type=Path, metavar="PATH", help="a row per pair, frame and verb")
    files.add_argument("--mot", type=Path, metavar="PATH", help="MOTChallenge text")
    files.add_argument("--vtt", type=Path, metavar="PATH", help="interactions as WebVTT cues")
    files.add_argument("--coco", type=Path, metavar="PATH", help="humans and objects with their tracks as COCO JSON")
    files.add_argument("--hico", type=Path, metavar="DIR", help="detections in the form HICO-DET's evaluation reads")
    files.add_argument(
        "--db", metavar="FILE|URL", help="record events in SQLite, or postgresql://user@host/db (password: PGPASSWORD)"
    )
    files.add_argument(
        "--db-keep", type=options.age, metavar="AGE", help="delete recorded rows of that age, such as 30d"
    )
    files.add_argument("--live", metavar="HOST:PORT", help="a page to watch, with metrics (default host: 127.0.0.1)")
    files.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help="run until a signal; sources and rules are changed on the page and kept there (with --live)",
    )
    files.add_argument(
        "--allow-files",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="files below may be added as sources on the page (with --state); may be repeated",
    )
    files.add_argument(
        "--live-token", metavar="TOKEN", help="better in HOICLIP_LIVE_TOKEN, which other users cannot list"
    )


def _add_evidence(parser: argparse.ArgumentParser) -> None:
    evidence = parser.add_argument_group("evidence", "of hits of rules; of all verb events where there are no rules")
    evidence.add_argument("--evidence", type=Path, metavar="DIR", help="a snapshot and a clip of each")
    evidence.add_argument(
        "--evidence-before", type=options.real, metavar="S", help="seconds in a clip before the start (default: 3)"
    )
    evidence.add_argument(
        "--evidence-after", type=options.real, metavar="S", help="seconds in a clip after the end (default: 3)"
    )
    evidence.add_argument(
        "--evidence-max-bytes",
        type=options.byte_size,
        metavar="SIZE",
        help="oldest removed beyond it, such as 1GB (default: 10GB)",
    )
    evidence.add_argument(
        "--evidence-max-files",
        type=options.integer,
        metavar="N",
        help="oldest removed beyond it (default: 10000)",
    )
    evidence.add_argument(
        "--evidence-max-age", type=options.age, metavar="AGE", help="removed when older, such as 7d (default: never)"
    )


def _add_delivery(parser: argparse.ArgumentParser) -> None:
    delivery = parser.add_argument_group("delivery", "events to other programs, again until they are acknowledged")
    delivery.add_argument(
        "--webhook",
        metavar="URL",
        help="post events there; token in HOICLIP_WEBHOOK_TOKEN, signing secret in HOICLIP_WEBHOOK_SECRET",
    )
    delivery.add_argument(
        "--webhook-format",
        default="plain",
        choices=("plain", "cloudevents", "cloudevents-batch"),
        help="body of the requests (default: plain, hoiclip-events/1); cloudevents: an event a request",
    )
    delivery.add_argument(
        "--mqtt",
        metavar="URL",
        help="publish events and states: mqtt[s]://user@host[:port]/prefix; password in HOICLIP_MQTT_PASSWORD",
    )
    delivery.add_argument("--mqtt-ca", type=Path, metavar="FILE", help="certificates of a private authority (mqtts)")
    delivery.add_argument(
        "--mqtt-discovery",
        nargs="?",
        default="",
        const="homeassistant",
        metavar="PREFIX",
        help="announce sensors to Home Assistant (default prefix: homeassistant)",
    )
    delivery.add_argument(
        "--outbox", type=Path, metavar="FILE", help="keep what is not acknowledged there, also after a kill"
    )


def run(args: argparse.Namespace) -> int:
    from hoiclip_engine.cli.run_sources import RunConfig, run_sources
    from hoiclip_engine.engine import Engine, EngineConfig
    from hoiclip_engine.models import find_model
    from hoiclip_engine.sources.base import SourceConfig
    from hoiclip_engine.sources.source_list import expand_sources
    from hoiclip_engine.streaming.stream import StreamConfig

    _share_heap()
    rules = options.rules_of(args)
    try:
        source = SourceConfig(
            start_s=args.start,
            duration_s=args.duration,
            max_frames=args.max_frames,
            transport=args.transport,
            timeout_s=args.timeout,
            hwaccel=args.hwaccel,
        )
        stream = StreamConfig(
            policy=args.policy,
            detect_every=args.detect_every,
            clip_every=args.clip_every,
            whole_every=args.whole_every,
        )
        track = replace(options.track_config(args.min_score), camera_motion=args.camera_motion)
    except ValueError as error:
        raise UsageError(str(error)) from error
    _require_sources(args)
    outputs = _outputs(args, rules)
    config = EngineConfig(backend=args.backend, precision=args.precision, short_side_px=args.short_side, track=track)
    addresses = expand_sources(args.source)
    model = find_model(args.model)
    run_config = RunConfig(stream=stream, source=source, batch=args.batch)
    if args.state:
        outputs.require_folders()
    else:
        read = [*source_inputs(args.source, addresses), *model_inputs(model, args.vocabulary)]
        read += [args.rules] if args.rules else []
        outputs.require_distinct(addresses, read, args.source)
    with Engine.load(model, config, args.vocabulary) as engine:
        run_config = replace(run_config, source=replace(source, device_frames=engine.takes_device_frames))
        if rules is not None:
            rules.check_words(engine.vocabulary, str(args.rules))
            run_config = replace(run_config, stream=replace(stream, rules=rules, clock=args.clock))
        if args.state:
            from hoiclip_engine.cli.supervised import run_supervised

            return run_supervised(engine, addresses, outputs, run_config, args.state, args.allow_files)
        return run_sources(engine, addresses, outputs, run_config)


_M_ARENA_MAX = -8
"""Of glibc's mallopt."""


def _share_heap() -> None:
    """Lets threads share two heaps of glibc. By default there are eight for each core, and each keeps what was freed in
    it: a live run grows by a tenth in ten minutes."""
    if "MALLOC_ARENA_MAX" not in os.environ:
        with suppress(AttributeError, OSError, TypeError):  # another C library
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def _require_sources(args: argparse.Namespace) -> None:
    """Raises UsageError: no source, where none can be added later; or options that need another one."""
    if args.state and not args.live:
        raise UsageError("--state is for --live, where sources are added; add --live 127.0.0.1:8080")
    if args.allow_files and not args.state:
        raise UsageError("--allow-files is for --state; say where sources are kept, such as --state state/")
    if not args.source and not args.state:
        raise UsageError("the following arguments are required: SRC; see hoiclip run --help")


def _outputs(args: argparse.Namespace, rules: RuleSet | None) -> Outputs:
    from hoiclip_engine.cli.outputs import Outputs
    from hoiclip_engine.live.address import LiveAddress

    if args.live_token and not args.live:
        raise UsageError("--live-token is for --live; say where the page is to be, such as --live 127.0.0.1:8080")
    evidence = _evidence(args)
    if args.db_keep and not args.db:
        raise UsageError("--db-keep is for --db; name the database, such as --db events.sqlite")
    return Outputs(
        video=args.output,
        jsonl=args.jsonl,
        mot=args.mot,
        vtt=args.vtt,
        csv=args.csv,
        coco=args.coco,
        hico=args.hico,
        webhook=args.webhook,
        db=args.db,
        db_keep_s=args.db_keep,
        webhook_format=args.webhook_format,
        mqtt=args.mqtt,
        mqtt_ca=args.mqtt_ca,
        mqtt_discovery=args.mqtt_discovery,
        rules=() if rules is None else rules.names,
        outbox=args.outbox,
        live=LiveAddress.parse(args.live, args.live_token) if args.live else None,
        **evidence,
    )


def _evidence(args: argparse.Namespace) -> dict[str, Any]:
    """Fields of Outputs."""
    config = {"before_s": args.evidence_before, "after_s": args.evidence_after}
    limits = {
        "max_bytes": args.evidence_max_bytes,
        "max_files": args.evidence_max_files,
        "max_age_s": args.evidence_max_age,
    }
    config, limits = ({key: value for key, value in own.items() if value is not None} for own in (config, limits))
    if args.evidence is None:
        if config or limits:
            raise UsageError("--evidence-... options are for --evidence; name a folder, such as --evidence evidence")
        return {}
    from hoiclip_engine.events.evidence import EvidenceConfig
    from hoiclip_engine.events.evidence_folder import EvidenceLimits

    try:
        return {
            "evidence": args.evidence,
            "evidence_config": EvidenceConfig(what="rules" if args.rules or args.state else "events", **config),
            "evidence_limits": EvidenceLimits(**limits),
        }
    except ValueError as error:
        raise UsageError(f"--evidence: {error}") from error
