"""Whoever has an old server key, an old word of the issuer, or no word of the issuer at all (S33)."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from secure_ipp.errors import ControllerUnreachable, EnvironmentProblem, PolicyError
from secure_ipp.keys import fields
from secure_ipp.keys import server_rotation as rotation
from secure_ipp.keys.capability import Capability, sign_capability
from secure_ipp.keys.cluster_keys import init_cluster
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.desk import Desk
from secure_ipp.keys.door_keys import sign_door_keys
from secure_ipp.keys.issuer import IssuerKey
from secure_ipp.keys.key_files import read_server_key
from secure_ipp.keys.known_doors import KnownDoors
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.registry import Registry, RegistryError, parse_registry
from secure_ipp.keys.seen_doors import known_doors
from secure_ipp.scheduler.server_key import ServerKey
from secure_ipp.wire import messages
from secure_ipp.wire.self_test import SelfTest

ISSUER = IssuerKey.generate()
CLUSTER_ID = fields.new_id()
SOON = 0.7  # longer than a refused client waits before it tries again, several times


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SECURE_IPP_HOME", str(tmp_path / "home"))


def stated(number: int, *keys: Any, former: tuple[Any, ...] = (), issuer: IssuerKey = ISSUER,
           cluster_id: str = CLUSTER_ID) -> messages.DoorKeys:
    statement = sign_door_keys(issuer, cluster_id, number=number, keys=keys, former=former)
    return messages.DoorKeys(statement.to_bytes())


def file_of(keys: KeyPair, endpoint: str, *server_keys: Any) -> Capability:
    return sign_capability(
        ISSUER, keys=keys, cluster="work", cluster_id=CLUSTER_ID, role="client", name="alice",
        rights=("task",), expires=0, server_keys=server_keys, door=(endpoint,),
    )


def tell(door: Any, message: messages.DoorKeys) -> None:
    door.call(lambda: [session.send(message) for session in door.door.sessions])


def rebind(door: Any, keys: KeyPair) -> None:
    door.call(lambda: door.door.rebind(door.gate, keys))


def asked(peer: Any, number: int) -> None:
    """It still works: a question is answered, over one and the same session."""
    before = len(peer.answers())
    peer.ask(number)
    peer.record.wait("message", before + 1)
    assert number in peer.answers()


class Street:
    """A door behind an address that an attacker can turn towards a door of his own."""

    def __init__(self, stage: Any) -> None:
        self.old, self.new = KeyPair.generate(), KeyPair.generate()
        self.honest = stage.door(server=self.old)
        self.impostor = stage.door(server=self.old)  # he holds the old secret, and lets everybody in
        self.proxy = stage.proxy(self.honest)
        self.file = file_of(stage.keys, self.proxy.endpoint, self.old.public)
        self._stage = stage

    def client(self, known: KnownDoors | None = None, **options: Any) -> Any:
        known = known or known_doors(self.file)
        return self._stage.peer(self.honest, doors=list(self.file.door), server_key=known, **options).start()

    def hijack(self) -> None:
        self.proxy.target = self.impostor.port
        self.proxy.cut()

    def turn_back(self) -> None:
        self.proxy.target = self.honest.port
        self.proxy.cut()


def test_s33_the_old_server_key_is_worth_nothing_after_the_switch(stage: Any) -> None:
    street = Street(stage)
    client = street.client()
    client.record.wait("welcome")
    tell(street.honest, stated(1, street.old.public, street.new.public))
    asked(client, 1)
    rebind(street.honest, street.new)
    client.record.wait("welcome", 2)
    assert client.record.all("welcome")[1] == ("welcome", True)  # resumed: nothing was lost
    asked(client, 2)
    street.hijack()
    client.record.wait("lost", 2)
    late = street.client(first_patience=SOON)  # another one, by the same old file, at the same home
    error = late.failure()
    assert isinstance(error, ControllerUnreachable) and "rotated" in error.message and "new one" in error.advice
    assert street.impostor.record.all("open") == [] and street.impostor.record.all("gate") == []
    street.client(KnownDoors((street.old.public,))).record.wait("welcome")  # who knows no better is his
    street.turn_back()
    client.record.wait("welcome", 3)
    asked(client, 3)


def test_s33_a_peer_that_was_told_of_the_switch_refuses_the_old_key_without_having_met_the_new_one(stage: Any) -> None:
    street = Street(stage)
    client = street.client()
    client.record.wait("welcome")
    tell(street.honest, stated(2, street.new.public, former=(street.old.public,)))
    asked(client, 1)
    street.hijack()
    client.record.wait("lost")
    time.sleep(SOON)
    assert street.impostor.record.all("open") == []
    rebind(street.honest, street.new)
    street.turn_back()
    client.record.wait("welcome", 2)


@pytest.mark.parametrize("what", ["forged", "of another cluster", "changed", "older", "the same number", "garbage"])
def test_s33_no_word_but_a_newer_one_of_the_issuer_counts(stage: Any, what: str) -> None:
    street = Street(stage)
    known = known_doors(street.file)
    client = street.client(known)
    client.record.wait("welcome")
    tell(street.honest, stated(5, street.old.public, street.new.public))
    asked(client, 1)
    mallory = KeyPair.generate().public
    right = stated(6, street.old.public, mallory)
    told = {
        "forged": stated(6, mallory, issuer=IssuerKey.generate()),
        "of another cluster": stated(6, mallory, cluster_id=fields.new_id()),
        "changed": messages.DoorKeys(right.statement.replace(mallory.text.encode(), street.new.public.text.encode())),
        "older": stated(4, street.old.public), "the same number": stated(5, mallory),
        "garbage": messages.DoorKeys(b'{"keys":[]}'),
    }[what]
    before = (known.keys, known.refused, known.number)
    tell(street.honest, told)
    asked(client, 2)
    assert (known.keys, known.refused, known.number) == before
    assert known.keys == (street.old.public, street.new.public) and not client.record.all("lost")


def test_s33_a_file_that_missed_it_all_fails_with_advice(stage: Any) -> None:
    street = Street(stage)
    rebind(street.honest, street.new)
    error = street.client(first_patience=SOON).failure()
    assert isinstance(error, ControllerUnreachable)
    assert "it was rotated since" in error.message and "ask the cluster's owner for a new one" in error.advice
    known_doors(street.file).learn(stated(3, street.new.public, former=(street.old.public,)).statement)
    other = file_of(stage.keys, street.proxy.endpoint, street.old.public)
    street.client(known_doors(other)).record.wait("welcome")  # what was seen stands in for a newer file


def test_s33_what_was_given_up_is_not_revived_by_the_issuer_itself(stage: Any) -> None:
    street = Street(stage)
    known_doors(street.file).learn(stated(2, street.new.public, former=(street.old.public,)).statement)
    seen = known_doors(street.file)
    assert seen.keys == (street.new.public,)
    seen.learn(stated(3, street.old.public).statement)
    assert known_doors(street.file).keys == (street.new.public,)


def test_s2_the_doors_are_tried_with_the_new_key_at_once(stage: Any) -> None:
    probe, old, new = KeyPair.generate(), KeyPair.generate(), KeyPair.generate()
    door = stage.door(("client", probe.public, "probe", "probe"), server=old)
    passed: list[bool] = []
    breached: list[PolicyError] = []
    trial = SelfTest(
        door.loop, endpoints=[door.endpoint], server_key=old.public, probe=probe, breached=breached.append,
        passed=lambda answered: (passed.append(answered), door.record.add("passed")),  # type: ignore[func-returns-value,arg-type,return-value]
    )
    trial.start()
    door.record.wait("passed")
    rebind(door, new)
    trial.use(new.public)
    door.record.wait("passed", 2)
    trial.stop()
    assert passed == [True, True] and not breached


def test_s33_the_scheduler_takes_no_secret_that_is_not_the_stated_keys() -> None:
    old, new, other = KeyPair.generate(), KeyPair.generate(), KeyPair.generate()
    bound: list[Any] = []
    key = ServerKey(old, [], lambda door, keys: None, bound.append)
    statement = stated(1, new.public).statement
    for wrong in (
        messages.DoorSecret(statement, other.secret.raw), messages.DoorSecret(b"{}", new.secret.raw),
        messages.DoorSecret(b"", new.secret.raw),
    ):
        with pytest.raises(EnvironmentProblem):
            key.told(wrong)
    assert key.pair == old and not bound
    message = messages.DoorSecret(statement, new.secret.raw)
    assert repr(message) == f"{message}" == "<DoorSecret>"  # S11
    key.told(message)
    assert bound == [new]


def test_s33_a_statement_slipped_into_the_registry_is_not_believed(tmp_path: Any) -> None:
    place, other = ClusterPlace("work"), ClusterPlace("other")
    for each in (place, other):
        init_cluster(each, hosts=["127.0.0.1"], bind="127.0.0.1")
    from secure_ipp.cluster.registry_change import apply

    rotation.announce(Desk(other, apply), now=1.9e9)
    theirs = json.loads(other.registry.read_bytes())["door_keys"]
    ours = json.loads(place.registry.read_bytes())
    registry = Registry.load(place)
    with pytest.raises(RegistryError):
        parse_registry(json.dumps({**ours, "door_keys": theirs}).encode(), registry.issuer_key, registry.cluster_id)
    rotation.announce(Desk(place, apply), now=1.9e9)
    ours = json.loads(place.registry.read_bytes())
    del ours["door_keys"]
    with pytest.raises(RegistryError):
        parse_registry(json.dumps(ours).encode(), registry.issuer_key, registry.cluster_id)


def test_s33_the_old_secret_is_gone_from_the_disk_after_the_switch() -> None:
    place = ClusterPlace("work")
    init_cluster(place, hosts=["127.0.0.1"], bind="127.0.0.1")
    from secure_ipp.cluster.registry_change import apply

    old = read_server_key(place.server_key)
    rotation.announce(Desk(place, apply), now=1.9e9)
    rotation.switch(Desk(place, apply), now=1.9e9)
    for path in place.dir.rglob("*"):
        assert not path.is_file() or old.secret.text.encode() not in path.read_bytes(), path
