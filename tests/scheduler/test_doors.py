"""Which doors the scheduler opens (S25)."""

import os
import stat

import pytest
from msgspec.structs import replace

from secure_ipp.access.prover import Prover
from secure_ipp.errors import PolicyError
from secure_ipp.keys.curve import KeyPair
from secure_ipp.scheduler.bootstrap import SchedulerBootstrap
from secure_ipp.scheduler.doors import Doors, plans
from secure_ipp.wire.loop import Loop
from tests.running import short_directory
from tests.wire.stage import ANYWHERE, AlwaysAlive

KEYS = KeyPair.generate()
NOWHERE = dict.fromkeys(
    ("link_socket", "link_server_public", "link_secret", "link_public", "ticket_key", "log_file", "server_secret",
     "server_public"), "",
)


@pytest.fixture
def orders():
    place = short_directory()
    return SchedulerBootstrap(
        cluster="c", cluster_id="c" * 22, client_endpoints=[ANYWHERE], engine_endpoints=[ANYWHERE],
        client_socket=str(place / "client.door"), engine_socket=str(place / "engine.door"),
        proofs_file=str(place / "proofs.used"), **NOWHERE,
    )


@pytest.fixture
def opened():
    made = []

    def open_doors(orders):
        loop, doors = Loop(), Doors(orders, KEYS, lambda: 0.0)
        made.append((loop, doors))
        doors.open(loop, AlwaysAlive(), KEYS, None, bytes(16))
        return doors

    yield open_doors
    for loop, doors in made:
        for door in doors.all:
            door.close()
        loop.close()


def domains(doors):
    return [(door.domain, door.by_proof) for door in doors.all]


def test_there_is_a_door_for_each_place_that_was_named(orders):
    curve_only = replace(orders, client_socket="", engine_socket="", proofs_file="")
    sockets_only = replace(orders, client_endpoints=[], engine_endpoints=[])
    assert [plan.domain for plan in plans(orders)] == ["client", "engine", "client-socket", "engine-socket"]
    assert [plan.domain for plan in plans(curve_only)] == ["client", "engine"]
    assert [plan.domain for plan in plans(sockets_only)] == ["client-socket", "engine-socket"]
    assert Doors(curve_only, KEYS, float).desk is None and Doors(curve_only, KEYS, float).provers == {}


def test_both_kinds_are_open_side_by_side_and_only_one_takes_proofs(orders, opened):
    doors = opened(orders)
    assert domains(doors) == [
        ("client", False), ("engine", False), ("client-socket", True), ("engine-socket", True)
    ]
    assert doors.desk.doors == {"client-socket", "engine-socket"}
    assert doors.provers[f"ipc://{orders.engine_socket}"] == Prover("c" * 22, "engine-socket", doors._now)
    assert set(doors.provers) < set(doors.endpoints) and len(doors.endpoints) == 4


def damage(orders):
    with open(orders.proofs_file, "w") as file:
        file.write("secure-ipp-proofs/1 of somebody\n")
    os.chmod(orders.proofs_file, stat.S_IRUSR | stat.S_IWUSR)


def test_s25_if_it_is_not_known_what_was_taken_no_door_takes_proofs_and_the_others_are_open(orders, opened):
    damage(orders)
    doors = opened(orders)
    assert domains(doors) == [("client", False), ("engine", False)]
    assert "damaged" in doors.problem.message and "wait" in doors.problem.advice
    assert doors.provers == {}


def test_s25_and_where_there_is_no_other_door_it_is_an_error(orders, opened):
    damage(orders)
    with pytest.raises(PolicyError, match="damaged"):
        opened(replace(orders, client_endpoints=[], engine_endpoints=[]))
