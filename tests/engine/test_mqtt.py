"""MQTT: what a real Mosquitto receives, over its restarts, and what is refused."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoiclip.core.errors import SinkError, UsageError
from hoiclip_engine.events.outbox import Outbox, OutboxConfig, TargetCounters
from hoiclip_engine.events.outbox_file import Message
from hoiclip_engine.sinks.mqtt import PASSWORD_VARIABLE, MqttBroker, MqttConfig
from hoiclip_engine.sinks.mqtt_state import topic_level
from hoiclip_engine.types.frame import Frame, SourceEvent
from hoiclip_engine.types.results import FrameResult, Sink
from tests.engine.frame_results import Row, frame_result, header, summary
from tests.engine.loopback_servers import StreamServer, transport_stream
from tests.engine.mosquitto import PASSWORD, USER, Mosquitto, Subscriber, certificates, subscriber, until
from tests.engine.run_processes import start
from tests.engine.test_outbox import hit
from tests.engine.test_webhook import event

RGB = np.zeros((48, 64, 3), np.uint8)
PACE = OutboxConfig(first_pause_s=0.05, last_pause_s=0.3, drain_s=2.0)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as running:
        yield running


def message(number: int) -> Message:
    payload = {"source": "rtsp://camera/1", "event": "start", "verb": "ride", "number": number}
    return Message(id=f"run-{number}", kind="verb.start", source="camera_1", time="now", payload=payload)


def outbox(url: str, **options: Any) -> tuple[Outbox, MqttBroker]:
    target = MqttBroker(url, MqttConfig(**options))
    return Outbox([target], config=PACE), target


def counters(box: Outbox) -> TargetCounters:
    return box.counters()[0]


def result(index: int, *rows: Row, events: tuple[Any, ...] = (), hits: tuple[Any, ...] = ()) -> FrameResult:
    made = frame_result(Frame(RGB, index / 25, index), *rows, events=events)
    return dataclasses.replace(made, rule_hits=hits)


def sinks_of(box: Outbox, target: MqttBroker, name: str = "gate", **options: Any) -> list[Sink]:
    sinks = [target.state_sink(name, **options), box.sink(name)]
    for sink in sinks:
        sink.start(header(source="rtsp://camera/1"))
    return sinks


# Delivery.


@pytest.mark.thorough
def test_broker_receives_states_events_and_rule_hits(broker: Mosquitto) -> None:
    with subscriber(broker) as seen:
        box, target = outbox(f"mqtt://{broker.host}/site/hoiclip")
        sinks = sinks_of(box, target)
        until(lambda: seen.last("site/hoiclip/status") == "online")
        for sink in sinks:
            sink.write(result(0, Row(), events=(event(0.0),), hits=(hit("start"),)))
        until(lambda: seen.on("site/hoiclip/gate/rules/rides_here"))
        until(lambda: '"active":1' in seen.last("site/hoiclip/gate/state"))
        state = seen.on("site/hoiclip/gate/state")[-1].fields
        assert {"source": "rtsp://camera/1", "state": "online", "active": 1, "rules": {"rides_here": 1}}.items() <= (
            state.items()
        )
        assert state["last_event"]
        for sink in sinks:
            sink.source_event(SourceEvent(event="source_lost", pts_s=0.1, reason="reset"))
        until(lambda: '"state":"lost"' in seen.last("site/hoiclip/gate/state"))
        for sink in sinks:
            sink.finish(dataclasses.replace(summary(), closing_hits=(hit("end"),)))
        until(lambda: seen.last("site/hoiclip/status") == "offline")
        last = seen.on("site/hoiclip/gate/state")[-1].fields
        assert (last["state"], last["active"], last["rules"]) == ("ended", 0, {"rides_here": 0})
    events = [found.fields for found in seen.on("site/hoiclip/gate/events")]
    assert [found["kind"] for found in events] == ["verb.start", "source.lost"]
    assert {"source": "rtsp://camera/1", "verb": "ride", "pair": 7}.items() <= events[0].items()
    hits = [found.fields for found in seen.on("site/hoiclip/gate/rules/rides_here")]
    assert [(found["kind"], found["rule"]) for found in hits] == [
        ("rule.start", "rides here"),
        ("rule.end", "rides here"),
    ]
    ids = [found["id"] for found in (*events, *hits)]
    assert len(set(ids)) == 4
    assert {found.qos for found in seen.seen} == {1}
    with subscriber(broker, "later") as later:
        until(lambda: later.on("site/hoiclip/gate/state"))
        assert {found.topic for found in later.seen} == {"site/hoiclip/status", "site/hoiclip/gate/state"}
        assert all(found.is_retained for found in later.seen)


@pytest.mark.thorough
def test_broker_that_is_killed_twice_receives_everything(broker: Mosquitto) -> None:
    count = 300
    with subscriber(broker) as seen:
        broker.save()
        box, _ = outbox(f"mqtt://{broker.host}/x")
        box.opened()
        for number in range(count):
            box.put([message(number)])
            time.sleep(0.003)
            if number in (100, 200):
                broker.kill()
            elif number in (140, 240):
                broker.start()
        until(lambda: not counters(box).waiting, 30)
        box.closed()
        until(lambda: len({found.payload for found in seen.on("x/camera_1/events")}) == count)
        until(lambda: seen.last("x/status") == "offline")
    events = [found.fields for found in seen.on("x/camera_1/events")]
    assert {found["id"] for found in events} == {f"run-{number}" for number in range(count)}
    assert all(found["id"] == f"run-{found['number']}" for found in events), "repeats have the same id"
    assert (counters(box).delivered, counters(box).dropped) == (count, 0)
    assert counters(box).last_failure


@pytest.mark.thorough
def test_broker_that_comes_later_receives_all_and_the_state(tmp_path: Path) -> None:
    late = Mosquitto(tmp_path / "broker")
    box, target = outbox(f"mqtt://{late.host}/x")
    state, events = sinks_of(box, target)
    events.write(result(0, events=(event(0.0),)))
    until(lambda: "refused" in counters(box).last_failure)
    with late, subscriber(late) as seen:
        until(lambda: seen.on("x/gate/events"))
        until(lambda: seen.on("x/gate/state"))
        state.finish(summary())
        events.finish(summary())


@pytest.mark.thorough
def test_threads_and_descriptors_are_freed_after_reconnects(broker: Mosquitto) -> None:
    def held() -> tuple[int, int]:
        return threading.active_count(), len(os.listdir("/proc/self/fd"))

    def one_run() -> None:
        box, _ = outbox(f"mqtt://{broker.host}/x")
        box.opened()
        for number in range(3):
            box.put([message(number)])
            until(lambda: not counters(box).waiting)
            broker.kill()
            broker.start()
        box.put([message(9)])
        until(lambda: not counters(box).waiting)
        box.closed()

    one_run()
    before = held()
    one_run()
    assert held() == before


# What is refused.


@pytest.mark.thorough
def test_wrong_password_is_one_warning_and_the_run_continues(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = "wr0ng-passw0rd"
    with Mosquitto(tmp_path / "broker", users={USER: PASSWORD}) as broker:
        box, target = outbox(f"mqtt://{USER}:{wrong}@{broker.host}/x")
        state, events = sinks_of(box, target)
        for index in range(5):
            events.write(result(index, events=(event(index / 25),)))
            time.sleep(0.1)
        until(lambda: counters(box).last_failure)
        with pytest.raises(SinkError, match=r"5 events could not be delivered .* refuses the user or password"):
            events.finish(summary())
        assert counters(box).dropped == 5
        assert [record.getMessage().partition(";")[0] for record in caplog.records] == [
            f"mqtt://{broker.host}: it refuses the user or password"
        ]
        assert wrong not in caplog.text + "".join(events.notes) + repr(target.__dict__["name"])
        monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
        with subscriber(broker, user=USER) as seen:
            box, target = outbox(f"mqtt://{USER}:{wrong}@{broker.host}/x")  # the variable comes first
            state, events = sinks_of(box, target)
            events.write(result(0, events=(event(0.0),)))
            until(lambda: seen.on("x/gate/events"))
            state.finish(summary())
            events.finish(summary())


@pytest.mark.thorough
def test_certificate_of_a_private_authority_is_verified(tmp_path: Path) -> None:
    ours, other = certificates(tmp_path / "ours"), certificates(tmp_path / "other")
    with Mosquitto(tmp_path / "broker", users={USER: PASSWORD}, certificates=ours) as broker:
        url = f"mqtts://{USER}:{PASSWORD}@{broker.host}/x"
        box, _ = outbox(url, ca=ours / "ca")
        box.opened()
        box.put([message(0)])
        until(lambda: counters(box).delivered == 1)
        box.closed()
        for authority in (other / "ca", None):
            box, _ = outbox(url, ca=authority)
            box.opened()
            box.put([message(0)])
            until(lambda box=box: counters(box).last_failure)
            with pytest.raises(SinkError, match="its certificate is refused"):
                box.closed()


@pytest.mark.thorough
def test_certificate_of_another_host_is_refused(tmp_path: Path) -> None:
    issued = certificates(tmp_path / "issued", "broker.example")
    with Mosquitto(tmp_path / "broker", certificates=issued) as broker:
        box, _ = outbox(f"mqtts://{broker.host}/x", ca=issued / "ca")
        box.opened()
        box.put([message(0)])
        until(lambda: counters(box).last_failure)
        with pytest.raises(SinkError, match="certificate is refused: IP address mismatch"):
            box.closed()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://host/x", "mqtts://user@host/prefix"),
        ("mqtt://", "mqtts://user@host/prefix"),
        ("mqtt://host:port", "mqtts://user@host/prefix"),
        ("mqtt://user:1/secret@host/x", "no / "),
        ("mqtt://host/a+b", "prefix"),
        ("mqtt://host/%23", "prefix"),
        ("mqtt://host/a//b", "prefix"),
        ("mqtt://host/$SYS", "prefix"),
        ("mqtt://host/x?y=1", "no \\?"),
        ("mqtt://host/" + "x" * 300, "prefix"),
        ("mqtt://:secret@host/x", "a user"),
    ],
)
def test_invalid_address_is_a_usage_error_without_the_password(url: str, expected: str) -> None:
    with pytest.raises(UsageError, match=expected) as caught:
        MqttBroker(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("prefix", ["a+b", "#", "/x", "$SYS", "x\0"])
def test_invalid_discovery_prefix_is_a_usage_error(prefix: str) -> None:
    with pytest.raises(UsageError, match="--mqtt-discovery"):
        MqttBroker("mqtt://host/x", MqttConfig(discovery=prefix))


def test_authority_without_tls_or_without_certificates_is_a_usage_error(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    with pytest.raises(UsageError, match="found no certificates"):
        MqttBroker("mqtts://host/x", MqttConfig(ca=empty))
    with pytest.raises(UsageError, match="No such file"):
        MqttBroker("mqtts://host/x", MqttConfig(ca=tmp_path / "missing.pem"))
    with pytest.raises(UsageError, match="mqtts"):
        MqttBroker("mqtt://host/x", MqttConfig(ca=empty))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(max_size=300))
def test_topic_level_is_safe_and_short(name: str) -> None:
    level = topic_level(name)
    assert 1 <= len(level) <= 80
    assert not set(level) & set("+#/\0 $")
    assert level.isprintable()


# Home Assistant.


def rendered(config: dict[str, Any], state: dict[str, Any]) -> str:
    return jinja2.Template(config["value_template"]).render(value_json=state)


def configs_of(seen: Subscriber) -> dict[str, dict[str, Any]]:
    """Sensors by topic, without those that were removed."""
    last = {found.topic: found for found in list(seen.seen) if found.topic.startswith("homeassistant/")}
    return {topic: found.fields for topic, found in last.items() if found.payload}


def sensor_names(seen: Subscriber) -> set[str]:
    return {str(config["name"]) for config in configs_of(seen).values()}


@pytest.mark.thorough
def test_home_assistant_discovers_a_sensor_for_the_source_and_each_rule(broker: Mosquitto) -> None:
    with subscriber(broker) as seen:
        box, target = outbox(f"mqtt://{broker.host}/x", discovery="homeassistant")
        state, events = sinks_of(box, target, rules=['nobody\'s "rail" {{ 1 }}'])
        until(lambda: len(configs_of(seen)) == 2)
        state.write(result(0, Row(), hits=(hit("start"),)))
        until(lambda: '"rides_here":1' in seen.last("x/gate/state"))
        until(lambda: len(configs_of(seen)) == 3)
        configs = configs_of(seen)
        for topic, config in configs.items():
            assert topic == f"homeassistant/binary_sensor/{config['unique_id']}/config"
            assert set(config["unique_id"]) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
            assert (config["state_topic"], config["availability_topic"]) == ("x/gate/state", "x/status")
        sensors = {config["name"]: config for config in configs.values()}
        assert sensors.keys() == {"connected", 'nobody\'s "rail" {{ 1 }}', "rides here"}
        now = seen.on("x/gate/state")[-1].fields
        assert [rendered(sensors[name], now) for name in sensors] == ["ON", "OFF", "ON"]
        state.source_event(SourceEvent(event="source_lost", pts_s=0.1, reason="reset"))
        state.write(result(1, hits=(hit("end"),)))
        until(lambda: '"rides_here":0' in seen.last("x/gate/state"))
        now = seen.on("x/gate/state")[-1].fields
        assert [rendered(sensors[name], now) for name in sensors] == ["OFF", "OFF", "OFF"]
        assert sensors["rides here"]["json_attributes_topic"] == "x/gate/rules/rides_here"
        state.finish(summary())
        events.finish(summary())
    with subscriber(broker, "later") as later:
        until(lambda: len([found for found in later.seen if found.topic in configs]) == 3)


def with_rules(index: int, *names: str) -> FrameResult:
    return dataclasses.replace(result(index), rule_names=names)


@pytest.mark.thorough
def test_sensors_follow_rules_that_are_replaced_while_they_run(broker: Mosquitto) -> None:
    with subscriber(broker) as seen:
        box, target = outbox(f"mqtt://{broker.host}/x", discovery="homeassistant")
        (state, events), (other, others_events) = (
            sinks_of(box, target, name, rules=["a", "b"]) for name in ("gate", "yard")
        )
        until(lambda: len(configs_of(seen)) == 6)
        state.write(with_rules(0, "a", "b"))
        state.write(with_rules(1, "b", "c"))
        until(lambda: seen.last("x/gate/state") and seen.on("x/gate/state")[-1].fields["rules"] == {"b": 0, "c": 0})
        until(lambda: len([found for found in seen.seen if not found.payload]) == 1)
        until(lambda: sensor_names(seen) == {"connected", "a", "b", "c"})  # the yard has its own a
        state.write(with_rules(2))
        until(lambda: len(configs_of(seen)) == 4)
        state.write(with_rules(3, "a"))
        until(lambda: len(configs_of(seen)) == 5)
        for sink in (state, other, events, others_events):
            sink.finish(summary())
    with subscriber(broker, "later") as later:
        until(lambda: len(configs_of(later)) == 5)
        of_gate = {c["name"] for c in configs_of(later).values() if c["state_topic"] == "x/gate/state"}
        assert of_gate == {"connected", "a"}


@pytest.mark.thorough
def test_sensor_is_removed_later_where_the_broker_was_away_and_the_source_ended(broker: Mosquitto) -> None:
    with subscriber(broker) as seen:
        box, target = outbox(f"mqtt://{broker.host}/x", discovery="homeassistant")
        box.opened()
        state, events = sinks_of(box, target, rules=["a"])
        until(lambda: len(configs_of(seen)) == 2)
        broker.save()
        broker.kill()
        state.write(with_rules(0, "b"))
        for sink in (state, events):
            sink.finish(summary())
        broker.start()
        until(lambda: sensor_names(seen) == {"connected", "b"}, 30)
        again = target.state_sink("gate", [])
        again.start(header(source="rtsp://camera/1"))
        until(lambda: sensor_names(seen) == {"connected"})
        box.closed()


# Runs.


@pytest.mark.thorough
@pytest.mark.parametrize(("number", "has_ended"), [(signal.SIGINT, True), (signal.SIGKILL, False)])
def test_run_that_ends_is_offline_also_when_it_was_killed(
    number: signal.Signals, has_ended: bool, broker: Mosquitto, model: Path, tmp_path: Path
) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\nname = "never yet"\nmin_duration_s = 1000\n')
    with StreamServer(transport_stream(tmp_path)) as server, subscriber(broker) as seen:
        argv = [server.url, "--model", model, "--min-score", 0, "--mqtt", f"mqtt://{broker.host}/x", "--rules", rules]
        process = start(*argv, "--mqtt-discovery", "--outbox", tmp_path / "outbox", stdout=subprocess.PIPE)
        topic = f"x/127.0.0.1_{server.port}_live"
        until(lambda: seen.last("x/status") == "online" and seen.on(f"{topic}/state"), 90)
        until(lambda: len(configs_of(seen)) == 2)  # they are published after the state: killed earlier, there are none
        process.send_signal(number)
        output = "".join(process.communicate(timeout=60))
        until(lambda: seen.last("x/status") == "offline")
    assert ('"state":"ended"' in seen.last(f"{topic}/state")) is has_ended
    assert {config["name"] for config in configs_of(seen).values()} == {"connected", "never yet"}
    assert "secret" not in output + "".join(found.payload for found in seen.seen)
