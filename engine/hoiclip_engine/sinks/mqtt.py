"""Publishes messages of an outbox to an MQTT broker, and the state of every source as retained messages.

    PREFIX/status                    online, or offline by the last will; retained
    PREFIX/<source>/state            {"state": "online", "active": 2, "last_event": ..., "rules": {...}}; retained
    PREFIX/<source>/events           verb events, losses and returns of the source
    PREFIX/<source>/rules/<rule>     hits of a rule

Everything by QoS 1. A connection gets a client of its own: the outbox sends again what was not acknowledged, so that
nothing old is left in a client that reconnects. Needs the extra `mqtt`. docs/delivery.md is for users.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from hoiclip.core.errors import BackendMissing, UsageError
from hoiclip_engine.events.outbox import Receipt, Target
from hoiclip_engine.events.outbox_file import Message
from hoiclip_engine.sinks.mqtt_state import SourceState, StateSink, sensor_configs, topic_level
from hoiclip_engine.sources.uri import failure_reason, split_receiver
from hoiclip_engine.types.results import Sink

if TYPE_CHECKING:
    from paho.mqtt.client import Client

PASSWORD_VARIABLE = "HOICLIP_MQTT_PASSWORD"
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_LONGEST_PREFIX = 200
_MOST_ANNOUNCED = 1024
"""Sources whose sensors are remembered, also after their end, to be removed with their rules."""
_BAD_CREDENTIALS = (134, 135)
"""Reason codes: wrong user name or password, not authorized."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttConfig:
    """Certificates, discovery and time limits of a broker's connection."""

    ca: Path | None = None
    """File with the certificates of a private authority; None: those of the system."""
    discovery: str = ""
    """Prefix of Home Assistant's discovery, mostly "homeassistant"; empty: none."""
    connect_s: float = 5.0
    acknowledge_s: float = 10.0
    """A broker that does not acknowledge messages for so long is disconnected."""
    keepalive_s: int = 20


class MqttBroker(Target):
    """One broker: a target of an outbox. `state_sink()` makes a sink per source for its retained state."""

    key = "mqtt"
    batch = 100
    collect_s = 0.0
    idle_s = 1.0

    def __init__(self, url: str, config: MqttConfig | None = None) -> None:
        """Opens nothing.

        Args:
            url: mqtt[s]://user:password@host[:port]/prefix; a password in HOICLIP_MQTT_PASSWORD comes first.

        Raises:
            UsageError: not such an address, or certificates that cannot be read.
            BackendMissing: paho-mqtt is not installed.
        """
        try:
            import paho.mqtt.client  # noqa: F401
        except ImportError as error:
            raise BackendMissing(f"--mqtt needs {error.name}; pip install 'hoiclip[mqtt]'") from error
        receiver = split_receiver(url, tuple(_PORTS), "mqtt", "mqtts://user@host/prefix")
        self._config = config or MqttConfig()
        self._host, self._port = receiver.host, receiver.port or _PORTS[receiver.scheme]
        if receiver.query:
            raise UsageError("expected no ? in --mqtt; write mqtts://user@host/prefix")
        self._prefix = _checked_prefix(unquote(receiver.path.strip("/")) or "hoiclip", "--mqtt")
        self._discovery = self._config.discovery and _checked_prefix(self._config.discovery, "--mqtt-discovery")
        self._user = receiver.user
        self._password = os.environ.get(PASSWORD_VARIABLE) or receiver.password
        if self._password and not self._user:
            raise UsageError("expected a user with the password of --mqtt; write mqtts://user@host/prefix")
        self.name = f"{receiver.scheme}://{receiver.netloc}"
        self._tls = _tls_context(self._config.ca) if receiver.scheme == "mqtts" else None
        if self._config.ca and self._tls is None:
            raise UsageError("--mqtt-ca is for mqtts://, which encrypts; change the address of --mqtt")
        self._client_id = f"hoiclip{secrets.token_hex(8)}"  # 23 characters, which every broker takes
        self._connection: _Connection | None = None
        self._lock = threading.Lock()
        self._states: dict[str, SourceState] = {}
        self._announced: dict[str, set[str]] = {}
        """Topics of discovery that the broker may retain, by source."""

    def state_sink(self, name: str = "", rules: Sequence[str] = ()) -> Sink:
        """A sink that keeps the state of one source up to date; it stands before the outbox's.

        Args:
            name: as of the outbox's sink.
            rules: names of the source's rules, for discovery before they first hold.
        """
        return StateSink(self._update, name, rules)

    def deliver(self, messages: Sequence[Message]) -> Receipt:
        """Connects where necessary, and publishes states that have changed and the messages."""
        if self._connection is not None and not self._connection.is_up:
            self._end_connection()
        if self._connection is None and (failure := self._connect()):
            return failure
        assert self._connection is not None
        states = self._current_states()
        published = [(message.id, self._topic(message), _json(_event(message))) for message in messages]
        retained = self._retained(states)
        receipt = self._connection.publish(retained, published)
        if receipt.failure:
            self._end_connection()
        else:
            self._forget_removed(retained)
            self._forget_ended(states)
        return receipt

    def close(self) -> None:
        """Publishes the last states and that the run is offline."""
        if self._connection is not None and self._connection.is_up:
            states = self._current_states()
            self._connection.publish({**self._retained(states), self._status_topic: "offline"}, ())
        self._end_connection()

    def _update(self, state: SourceState) -> None:
        with self._lock:
            self._states[state.name] = state

    @property
    def _status_topic(self) -> str:
        return f"{self._prefix}/status"

    def _topic(self, message: Message) -> str:
        source = f"{self._prefix}/{topic_level(message.source)}"
        if message.kind.startswith("rule."):
            return f"{source}/rules/{topic_level(str(message.payload['rule']))}"
        return f"{source}/events"

    def _connect(self) -> Receipt | None:
        connection = _Connection(self._client(), self._config)
        try:
            refusal = connection.open(self._host, self._port)
        except (OSError, ValueError) as error:
            connection.end()
            return Receipt(failure=failure_reason(error))
        if refusal is not None:
            connection.end()
            return refusal
        self._connection = connection
        return None

    def _client(self) -> Client:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        client = Client(CallbackAPIVersion.VERSION2, client_id=self._client_id, reconnect_on_failure=False)
        client.will_set(self._status_topic, "offline", qos=1, retain=True)
        client.connect_timeout = self._config.connect_s
        if self._user is not None:
            client.username_pw_set(self._user, self._password or None)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        return client

    def _end_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.end()

    def _current_states(self) -> list[SourceState]:
        with self._lock:
            return list(self._states.values())

    def _forget_ended(self, published: Sequence[SourceState]) -> None:
        """Forgets sources whose end is published: they may be many over the months."""
        with self._lock:
            for state in published:
                if state.state == "ended" and self._states.get(state.name) is state:
                    del self._states[state.name]

    def _forget_removed(self, published: Mapping[str, str]) -> None:
        for topics in self._announced.values():
            topics -= {topic for topic in topics if published.get(topic) == ""}
        while len(self._announced) > _MOST_ANNOUNCED:
            del self._announced[next(iter(self._announced))]

    def _retained(self, states: Sequence[SourceState]) -> dict[str, str]:
        """Retained messages by topic, as they should be now; an empty one removes a sensor."""
        retained = {self._status_topic: "online"}
        for state in states:
            topic = f"{self._prefix}/{state.name}/state"
            retained[topic] = _json(state.fields())
            if self._discovery:
                sensors = {
                    f"{self._discovery}/binary_sensor/{sensor['unique_id']}/config": _json(sensor)
                    for sensor in sensor_configs(state, self._prefix, self._status_topic)
                }
                announced = self._announced.setdefault(state.name, set())
                announced.update(sensors)
                retained |= {topic: sensors.get(topic, "") for topic in sorted(announced)}
        return retained


class _Connection:
    """One connection to the broker and the client's thread; called from the thread of the target."""

    def __init__(self, client: Client, config: MqttConfig) -> None:
        self._client, self._config = client, config
        self._changed = threading.Condition()
        self._is_accepted = self._is_over = False
        self._refusal: Receipt | None = None
        self._acknowledged: set[int] = set()
        self._sent: dict[str, str] = {}
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish

    @property
    def is_up(self) -> bool:
        with self._changed:
            return self._is_accepted and not self._is_over

    def open(self, host: str, port: int) -> Receipt | None:
        """Connects. Returns: why the broker refuses; None where it accepts.

        Raises:
            OSError: it cannot be reached, or its certificate is refused.
        """
        self._client.connect(host, port, keepalive=self._config.keepalive_s)
        self._client.loop_start()
        with self._changed:
            self._changed.wait_for(lambda: self._is_accepted or self._is_over, self._config.connect_s)
            if self._is_accepted and not self._is_over:
                return None
            failure = "it closes the connection" if self._is_over else "it does not answer"
            return self._refusal or Receipt(failure=failure)

    def publish(self, retained: Mapping[str, str], messages: Sequence[tuple[str, str, str]]) -> Receipt:
        """Publishes retained messages that have changed, then messages, and waits until they are acknowledged.

        Args:
            messages: ids, topics and payloads.
        """
        changed = {topic: payload for topic, payload in retained.items() if self._sent.get(topic) != payload}
        ids = dict.fromkeys(self._send(topic, payload, retain=True) for topic, payload in changed.items())
        ids |= {self._send(topic, payload): message for message, topic, payload in messages}
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_over or ids.keys() <= self._acknowledged, self._config.acknowledge_s
            )
            arrived = ids.keys() & self._acknowledged
            self._acknowledged -= arrived
            failure = "it closes the connection" if self._is_over else "it does not acknowledge messages"
        self._sent = dict(retained)
        acknowledged = frozenset(message for number in arrived if (message := ids[number]) is not None)
        return Receipt(acknowledged=acknowledged, failure="" if len(arrived) == len(ids) else failure)

    def end(self) -> None:
        """Disconnects; one that does not react is cut off."""
        if self.is_up:
            self._client.disconnect()
            with self._changed:
                self._changed.wait_for(lambda: self._is_over, 1.0)
        link = self._client.socket()
        if isinstance(link, socket.socket):
            with suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
        self._client.loop_stop()
        # Without the circle of references its descriptors are freed now.
        self._client.on_connect = self._client.on_disconnect = self._client.on_publish = None

    def _send(self, topic: str, payload: str, *, retain: bool = False) -> int:
        return self._client.publish(topic, payload, qos=1, retain=retain).mid

    def _on_connect(self, _client: object, _data: object, _flags: object, reason: Any, _properties: object) -> None:
        with self._changed:
            if not reason.is_failure:
                self._is_accepted = True
            elif reason.value in _BAD_CREDENTIALS:
                self._refusal = Receipt(failure="it refuses the user or password", retry_slowly=True)
            else:
                self._refusal = Receipt(failure=f"it refuses the connection: {reason.getName()}")
            self._changed.notify_all()

    def _on_disconnect(self, *_: object) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def _on_publish(self, _client: object, _data: object, number: int, *_: object) -> None:
        with self._changed:
            self._acknowledged.add(number)
            self._changed.notify_all()


def _checked_prefix(prefix: str, option: str) -> str:
    levels = prefix.split("/")
    is_safe = prefix.isprintable() and not set(prefix) & set("+#") and not prefix.startswith("$") and all(levels)
    if not is_safe or len(prefix) > _LONGEST_PREFIX:
        raise UsageError(f"expected a prefix of topics such as site/hoiclip in {option}, without + # and empty levels")
    return prefix


def _tls_context(ca: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:  # SSLError is one
        reason = "no certificates" if isinstance(error, ssl.SSLError) else error.strerror
        raise UsageError(f"expected a file with certificates in --mqtt-ca, found {reason} in {ca}") from error


def _event(message: Message) -> dict[str, Any]:
    return {"id": message.id, "kind": message.kind, "time": message.time, **message.payload}


def _json(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, allow_nan=False, separators=(",", ":"))
