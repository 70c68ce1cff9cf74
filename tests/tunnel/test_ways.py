"""Which ways lead to a door (S25: none is ever weaker than what was promised)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_ipp.errors import EnvironmentProblem, UsageError
from secure_ipp.tunnel.ways import Known, Way, ways

TCP = ("tcp://192.0.2.1:5000",)
SOCKET = ("ipc:///home/ada/.secure-ipp/lab/run/client.door",)


def known(**changes: Any) -> Known:
    return Known(**{
        "tcp_doors": TCP, "socket_doors": (), "local_sockets": (), "has_curve": True, "route": "",
        "route_named": False, **changes,
    })


def kinds(found: list[Way]) -> list[tuple[str, bool]]:
    return [(way.kind, way.by_proof) for way in found]


@pytest.mark.parametrize(("changes", "transport", "expected"), [
    ({}, "", [("direct", False)]),
    ({"route": "ada@host"}, "", [("direct", False), ("ssh", False)]),
    ({"route": "ada@host"}, "direct", [("direct", False)]),
    ({"route": "ada@host"}, "ssh", [("ssh", False)]),
    ({"route": "ada@host", "route_named": True}, "", [("ssh", False)]),
    ({"socket_doors": SOCKET, "local_sockets": SOCKET}, "", [("direct", False)]),  # Curve where it can be had
    ({"socket_doors": SOCKET, "has_curve": False, "route": "ada@host"}, "", [("ssh", True)]),
    ({"socket_doors": SOCKET, "has_curve": False, "local_sockets": SOCKET}, "", [("direct", True)]),
    ({"tcp_doors": (), "socket_doors": SOCKET, "route": "ada@host"}, "", [("ssh", True)]),
    ({"tcp_doors": (), "socket_doors": SOCKET, "local_sockets": SOCKET, "route": "ada@host"}, "",
     [("direct", True), ("ssh", True)]),
])
def test_the_ways_and_their_order(changes: dict[str, Any], transport: str, expected: list[tuple[str, bool]]) -> None:
    assert kinds(ways(known(**changes), transport)) == expected


@pytest.mark.parametrize(("changes", "transport", "error", "code"), [
    ({"has_curve": False}, "", EnvironmentProblem, "no-curve"),
    ({"has_curve": False, "route": "ada@host"}, "", EnvironmentProblem, "no-curve"),
    ({"has_curve": False}, "direct", EnvironmentProblem, "no-curve"),
    ({"tcp_doors": (), "socket_doors": SOCKET}, "", EnvironmentProblem, "no-way"),
    ({"tcp_doors": (), "socket_doors": SOCKET, "route": "ada@host"}, "direct", UsageError, "usage"),
    ({}, "ssh", UsageError, "usage"),
    ({}, "carrier pigeon", UsageError, "usage"),
    ({"route": "ada@host", "route_named": True}, "direct", UsageError, "usage"),
])
def test_s25_what_cannot_be_is_an_error_that_names_the_way_on(
    changes: dict[str, Any], transport: str, error: type[Exception], code: str
) -> None:
    with pytest.raises(error) as caught:
        ways(known(**changes), transport)
    assert caught.value.code == code
    assert caught.value.advice


@given(st.builds(
    Known, tcp_doors=st.sampled_from([(), TCP]), socket_doors=st.sampled_from([(), SOCKET]),
    local_sockets=st.just(()), has_curve=st.booleans(), route=st.sampled_from(["", "ada@host"]),
    route_named=st.booleans(),
), st.sampled_from(["", "direct", "ssh"]))
def test_s25_no_way_without_curve_is_over_tcp_or_replaces_one_with_curve(known: Known, transport: str) -> None:
    if not known.tcp_doors and not known.socket_doors:
        return
    try:
        found = ways(known, transport)
    except (UsageError, EnvironmentProblem):
        return
    for way in found:
        if way.by_proof:
            assert all(door.startswith("ipc://") for door in way.doors)
            assert not (known.tcp_doors and known.has_curve)
        else:
            assert known.has_curve and way.doors == known.tcp_doors
        assert not transport or way.kind == transport
