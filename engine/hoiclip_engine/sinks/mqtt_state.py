"""State of the sources of a run, as an MQTT broker retains it, and as Home Assistant discovers it.

Sensors follow the retained state rather than single events, so that they are right after a restart on either side.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any, Literal

from hoiclip import __version__
from hoiclip_engine.sources.uri import file_names
from hoiclip_engine.types.frame import SourceEvent
from hoiclip_engine.types.results import FrameResult, RunHeader, RunSummary, Sink
from hoiclip_engine.types.rule_hits import RuleHit

_LONGEST_LEVEL = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState:
    """State of one source."""

    name: str
    """As a level of topics."""
    source: str
    """Printable."""
    state: Literal["online", "lost", "ended"] = "online"
    active: int = 0
    """Verbs that are active now, of all pairs."""
    last_event: str | None = None
    """Time of the last report, UTC in ISO 8601."""
    rules: Mapping[str, frozenset[int]] = field(default_factory=dict)
    """Rules of the source, with the numbers of the hits that hold now."""

    def fields(self) -> dict[str, Any]:
        holding: Counter[str] = Counter()
        for rule, hits in self.rules.items():
            holding[topic_level(rule)] += len(hits)
        return {
            "source": self.source,
            "state": self.state,
            "active": self.active,
            "last_event": self.last_event,
            "rules": holding,
        }

    def after(self, hits: Sequence[RuleHit], names: Sequence[str] | None = None) -> dict[str, frozenset[int]]:
        """The rules after some starts, updates and ends. Args: names: of all rules there are now; None: as before."""
        rules = dict(self.rules)
        for hit in hits:
            others = rules.get(hit.rule, frozenset()) - {hit.hit}
            rules[hit.rule] = others if hit.event == "end" else others | {hit.hit}
        return rules if names is None else {name: rules.get(name, frozenset()) for name in names}


class StateSink(Sink):
    """Follows one source."""

    def __init__(self, update: Callable[[SourceState], None], name: str, rules: Sequence[str]) -> None:
        """Args: update: called with every change, in the thread of the run."""
        self._update, self._name, self._rules = update, name, rules

    def start(self, header: RunHeader) -> None:
        name = self._name or file_names([header.source])[0]
        rules = dict.fromkeys(self._rules, frozenset[int]())
        self._state = SourceState(name=topic_level(name), source=header.source, rules=rules)
        self._change()

    def write(self, result: FrameResult) -> None:
        active, names = int(result.pairs.verb_active.sum()), result.rule_names
        are_replaced = names is not None and names != tuple(self._state.rules)
        if result.events or result.rule_hits:
            self._change(active=active, last_event=_now(), rules=self._state.after(result.rule_hits, names))
        elif active != self._state.active or are_replaced:
            self._change(active=active, rules=self._state.after((), names))

    def source_event(self, event: SourceEvent) -> None:
        self._change(state="lost" if event.event == "source_lost" else "online", last_event=_now())

    def finish(self, summary: RunSummary) -> None:
        last_event = _now() if summary.closing_events or summary.closing_hits else self._state.last_event
        rules = dict.fromkeys(self._state.rules, frozenset[int]())
        self._change(state="ended", active=0, last_event=last_event, rules=rules)

    def _change(self, **changes: Any) -> None:
        self._state = replace(self._state, **changes)
        self._update(self._state)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def topic_level(name: str) -> str:
    """A name as one level of a topic: letters, digits and . _ - only, and not too long."""
    return re.sub(r"[^\w.\-]+", "_", name).strip("_")[:_LONGEST_LEVEL] or "_"


def _identifier(text: str) -> str:
    """Letters, digits, - and _ only, as Home Assistant wants it, and distinct."""
    return f"hoiclip_{re.sub(r'[^A-Za-z0-9]+', '_', text)[:_LONGEST_LEVEL]}_{zlib.crc32(text.encode()):08x}"


def sensor_configs(state: SourceState, prefix: str, status_topic: str) -> list[dict[str, Any]]:
    """Home Assistant's configuration of a binary sensor for the source and one for each of its rules."""
    source = f"{prefix}/{state.name}"
    shared = {
        "state_topic": f"{source}/state",
        "availability_topic": status_topic,
        "device": {
            "identifiers": [_identifier(source)],
            "name": state.source,
            "manufacturer": "hoiclip",
            "sw_version": __version__,
        },
        "origin": {"name": "hoiclip", "sw_version": __version__},
    }
    connected = {
        "name": "connected",
        "device_class": "connectivity",
        "unique_id": _identifier(f"{source}/connected"),
        "value_template": "{{ 'ON' if value_json.state == 'online' else 'OFF' }}",
    }
    return [{**own, **shared} for own in (connected, *(_rule_sensor(rule, source) for rule in state.rules))]


def _rule_sensor(rule: str, source: str) -> dict[str, Any]:
    level = topic_level(rule)
    return {
        "name": rule,
        "unique_id": _identifier(f"{source}/rules/{level}"),
        "value_template": f"{{{{ 'ON' if value_json.rules.get('{level}', 0) > 0 else 'OFF' }}}}",
        "json_attributes_topic": f"{source}/rules/{level}",
    }
