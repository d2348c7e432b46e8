"""Changes to a live run: sources that are added and removed, rules that are replaced; and what is kept of them on disk.

Addresses come from HTTP clients that have the token. They may name network streams and cameras of this machine, and
files only below folders that the operator allowed: a client must not read any file, nor open any device. Which hosts
this machine may reach is a matter of its network (docs/live_control.md).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hoiclip.core.errors import HoiclipError, UsageError
from hoiclip.core.vocabulary import Vocabulary
from hoiclip_engine.events.rules import parse_rules
from hoiclip_engine.live.recent_events import EventList
from hoiclip_engine.live.state_folder import LastingState, SavedSource, SavedState, StateFolder
from hoiclip_engine.sources.uri import SourceAddress, address_text, is_url, parse_address, redact
from hoiclip_engine.types.frame import SourceState, SupervisedSource

if TYPE_CHECKING:
    from hoiclip_engine.streaming.stream import Stream
    from hoiclip_engine.streaming.supervisor import Supervisor

REMOTE_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https")
"""Of streams that a client may add: those that connect to a server and speak a protocol of video."""
MAX_ADDRESS_CHARACTERS = 2048
MAX_NAME_CHARACTERS = 80
_CAMERA = re.compile(r"/dev/video\d{1,2}")


class AddressRefused(UsageError):
    """A client may not add such a source."""


class SourceExists(UsageError):
    """The run has this source already."""


def check_rules(rules: Mapping[str, Any], vocabulary: Vocabulary) -> None:
    """Checks rules of a live run: those of a rules file, which may name the `sources` that they are for.

    Raises:
        UsageError: a rule makes no sense, or its sources are no ids.
    """
    entries = rules.get("rule", [])
    if isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries):
        for entry in entries:
            sources = entry.get("sources", [])
            if not isinstance(sources, list) or not all(type(number) is int for number in sources):
                name = entry.get("name")
                raise UsageError(f"expected ids of sources in the rule {name!a:.60}, found something else")
        rules = {**rules, **rules_of(rules)}
    parse_rules(rules, "rules", vocabulary)


def rules_of(rules: Mapping[str, Any], source_id: int | None = None) -> dict[str, Any]:
    """The rules for a source (None: all), without the key `sources`, which only a live run has; without it, for all."""
    entries = rules.get("rule", [])
    if source_id is not None:
        entries = [entry for entry in entries if source_id in entry.get("sources", [source_id])]
    return {"rule": [{key: value for key, value in entry.items() if key != "sources"} for entry in entries]}


@dataclass(slots=True, kw_only=True)
class LiveControl:
    """The changeable part of a live run. May be called from any thread; methods wait for disks and ending sources."""

    supervisor: Supervisor
    state: StateFolder
    vocabulary: Vocabulary
    events: EventList
    token: str = field(repr=False)
    """For changes."""
    allowed_folders: Sequence[Path] = ()
    """Files below these may be added by clients."""
    evidence_folder: Path | None = None
    _saved: dict[int, SavedSource] = field(default_factory=dict, init=False, repr=False)
    _rules: Mapping[str, Any] = field(default_factory=dict, init=False, repr=False)
    _is_restored: bool = field(default=False, init=False, repr=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, init=False, repr=False)

    def restore(self, named: Iterable[SourceAddress]) -> None:
        """Starts the sources of the last run, and those that are named now and are not among them.

        Raises:
            UsageError: the state is damaged, or from a newer version; or names a source that cannot be.
        """
        with self._lock:
            saved = self.state.read()
            check_rules(saved.rules, self.vocabulary)
            self._rules = saved.rules
            for source in saved.sources:
                state: SourceState = "starting" if source.state == "running" else source.state
                address = parse_address(source.address)
                self.supervisor.add(address, source.name, source_id=source.id, state=state)
                self._saved[source.id] = source
            for address in named:
                if not self._is_known(address):
                    self._add(address, "")
            self._save()
            self._is_restored = True

    def sources(self) -> list[SupervisedSource]:
        return self.supervisor.sources()

    def source(self, source_id: int) -> SupervisedSource:
        """Raises KeyError: no source has this id."""
        found = next((source for source in self.sources() if source.id == source_id), None)
        if found is None:
            raise KeyError(source_id)
        return found

    def add(self, text: str, name: str = "") -> SupervisedSource:
        """Adds a source of a client, which starts at once.

        Raises:
            AddressRefused: clients may not add such a source.
            SourceExists: it is there already.
            UsageError: an address outside the grammar, or too many sources.
            SinkError: the state cannot be written; nothing was added.
        """
        address = remote_address(text, self.allowed_folders)
        with self._lock:
            if self._is_known(address):
                raise SourceExists(f"expected a source that is not there yet, found {address.name}; remove it first")
            source_id = self._add(address, name)
            try:
                self._save()
            except HoiclipError:
                self._remove(source_id)
                raise
            return self.source(source_id)

    def pause(self, source_id: int) -> SupervisedSource:
        """Raises KeyError: no source has this id. SinkError: the state cannot be written."""
        with self._lock:
            self.supervisor.pause(source_id)
            self._save()
            return self.source(source_id)

    def resume(self, source_id: int) -> SupervisedSource:
        """Raises KeyError: no source has this id. SinkError: the state cannot be written."""
        with self._lock:
            self.supervisor.resume(source_id)
            self._save()
            return self.source(source_id)

    def remove(self, source_id: int) -> None:
        """Also removes it from the rules that were for it; a rule that was for no other goes with it.

        Raises:
            KeyError: no source has this id.
            SinkError: the state cannot be written.
        """
        with self._lock:
            self._remove(source_id)
            self._rules = _without_source(self._rules, source_id)
            self._save()

    def rules(self) -> Mapping[str, Any]:
        """All rules, as an object with a list `rule`."""
        return {"rule": [], **self._rules}

    def replace_rules(self, rules: Mapping[str, Any]) -> None:
        """Replaces all rules; running streams have them from their next frame on.

        Raises:
            UsageError: a rule has an error; nothing has changed.
            SinkError: the state cannot be written; nothing has changed.
        """
        check_rules(rules, self.vocabulary)
        with self._lock:
            before, self._rules = self._rules, rules
            try:
                self._save()
            except HoiclipError:
                self._rules = before
                raise
            for source_id, stream in self.supervisor.streams():
                self.apply_rules(source_id, stream)

    def apply_rules(self, source_id: int, stream: Stream) -> None:
        """Gives a stream the rules of its source."""
        stream.replace_rules(parse_rules(rules_of(self._rules, source_id), "rules"))

    def evidence_file(self, event_id: str, kind: str) -> Path | None:
        """The snapshot or clip of an event: a regular file below the evidence folder, or None."""
        path = self.events.evidence_file(event_id, kind)
        if path is None or self.evidence_folder is None:
            return None
        try:
            real, folder = path.resolve(strict=True), self.evidence_folder.resolve(strict=True)
        except OSError:  # removed by a limit of the folder
            return None
        return real if real.is_relative_to(folder) and real.is_file() else None

    def close(self) -> None:
        """Ends all sources; files that have ended stay so in the state."""
        with self._lock:
            if self._is_restored:  # a state that could not be read is left as it is
                with suppress(HoiclipError):
                    self._save()
            self.supervisor.close()
            self.state.close()

    def _is_known(self, address: SourceAddress) -> bool:
        text = address_text(address)
        return any(saved.address == text for saved in self._saved.values())

    def _add(self, address: SourceAddress, name: str) -> int:
        source_id = self.supervisor.add(address, name)
        self._saved[source_id] = SavedSource(id=source_id, address=address_text(address), name=name)
        return source_id

    def _remove(self, source_id: int) -> None:
        self.supervisor.remove(source_id)
        self._saved.pop(source_id, None)

    def _save(self) -> None:
        states = {source.id: source.state for source in self.supervisor.sources()}
        lasting: dict[str, LastingState] = {"paused": "paused", "ended": "ended"}
        sources = tuple(
            replace(saved, state=lasting.get(states.get(source_id, ""), "running"))
            for source_id, saved in sorted(self._saved.items())
        )
        self.state.write(SavedState(sources=sources, rules=self._rules))


def remote_address(text: str, allowed_folders: Sequence[Path]) -> SourceAddress:
    """The source that a client names.

    Raises:
        AddressRefused: clients may not add such a source; the message never says whether a file exists.
        UsageError: an address outside the grammar.
    """
    if len(text) > MAX_ADDRESS_CHARACTERS:
        raise UsageError(f"expected an address of at most {MAX_ADDRESS_CHARACTERS} characters, found a longer one")
    address = parse_address(text)
    match address.kind:
        case "stream" if address.scheme in REMOTE_SCHEMES:
            return address
        case "webcam" if _CAMERA.fullmatch(address.location):
            return address
        case "file" if not is_url(text):
            return _allowed_file(address, allowed_folders)
        case _:
            known = ", ".join(f"{scheme}://" for scheme in REMOTE_SCHEMES)
            raise AddressRefused(f"expected {known} or a camera, found {redact(text)}; name it when the run starts")


def _allowed_file(address: SourceAddress, allowed_folders: Sequence[Path]) -> SourceAddress:
    try:
        real = Path(address.location).resolve()
        is_allowed = any(real.is_relative_to(folder.resolve()) for folder in allowed_folders)
    except (OSError, RuntimeError, ValueError):
        is_allowed = False
    if not is_allowed:
        raise AddressRefused(
            f"expected a stream or a camera, found the file {address.name}; allow its folder with --allow-files"
        )
    if not real.is_file():
        raise UsageError(f"expected a video or image, found no such file, {address.name}; correct the path")
    return replace(address, location=str(real))


def _without_source(rules: Mapping[str, Any], source_id: int) -> dict[str, Any]:
    kept = []
    for entry in rules.get("rule", []):
        if source_id in entry.get("sources", []):
            others = [number for number in entry["sources"] if number != source_id]
            if not others:
                continue
            entry = {**entry, "sources": others}
        kept.append(entry)
    return {**rules, "rule": kept} if rules else {}
