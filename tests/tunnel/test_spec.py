"""Routes, and what makes two tunnels one."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_ipp.errors import UsageError
from secure_ipp.tunnel.route import Route
from secure_ipp.tunnel.spec import Spec, forwards

PLACE = Path("/nowhere")


@pytest.mark.parametrize(("text", "route"), [
    ("host", Route("host")), ("ada@host", Route("host", "ada")), ("ada@host.example.org:2222",
     Route("host.example.org", "ada", 2222)), ("192.0.2.1:22", Route("192.0.2.1", "", 22)),
])
def test_a_route_is_what_it_says(text: str, route: Route) -> None:
    assert Route.parse(text) == route
    assert route.text == text


@pytest.mark.parametrize("text", [
    "", "-oProxyCommand=x", "ada@-x", "a b", "ada@host:0", "ada@host:65536", "host;id", "$(id)", "a@b@c", "ho\nst",
    "ada@host:22 -x", "@host", "host:", "-l", "a\x00b",
])
def test_s22_what_is_no_route_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Route.parse(text)


@given(st.text(max_size=80))
def test_s22_whatever_comes_out_of_a_text_is_a_host_and_a_user_and_no_option(text: str) -> None:
    try:
        route = Route.parse(text)
    except UsageError:
        return
    assert not route.host.startswith("-") and not route.user.startswith("-")
    assert not set(route.host + route.user) & set(" \t\n;&|$`'\"\\<>(){}*?!#%")
    assert Route.parse(route.text) == route


def spec(**changes: object) -> Spec:
    return Spec(**{"route": "ada@host", "doors": ["tcp://127.0.0.1:5000"], "backend": "openssh", **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("changes", [
    {"route": "bob@host"}, {"doors": ["tcp://127.0.0.1:5001"]}, {"backend": "paramiko"}, {"identity": "/k"},
    {"fingerprints": ["SHA256:x"]}, {"post_quantum": True}, {"config": "/c"},
])
def test_what_differs_in_where_it_leads_or_whom_it_trusts_is_another_tunnel(changes: dict[str, object]) -> None:
    assert spec(**changes).name != spec().name


@pytest.mark.parametrize("changes", [{"accept_new": True}, {"password": True}, {"cluster": "lab"}])
def test_how_it_was_opened_makes_no_other_tunnel(changes: dict[str, object]) -> None:
    assert spec(**changes).name == spec().name


def test_each_address_has_a_local_socket_of_its_own() -> None:
    made = forwards(["tcp://192.0.2.1:5000", "tcp://[2001:db8::1]:5000", "ipc:///home/ada/run/client.door"], PLACE)
    assert [one.local.name for one in made] == ["d0", "d1", "d2"]
    assert [(one.host, one.port, one.path) for one in made] == [
        ("192.0.2.1", 5000, ""), ("2001:db8::1", 5000, ""), ("", 0, "/home/ada/run/client.door"),
    ]
    assert made[1].target == "[2001:db8::1]:5000"


@pytest.mark.parametrize("doors", [[], ["ipc://relative"], ["http://x:1"], ["tcp://-x:1"], ["tcp://x"]])
def test_s22_what_is_no_door_gets_no_forward(doors: list[str]) -> None:
    with pytest.raises(UsageError):
        forwards(doors, PLACE)


def test_it_travels_as_json() -> None:
    one = spec(fingerprints=["SHA256:x"], cluster="lab")
    assert msgspec.json.decode(msgspec.json.encode(one), type=Spec) == one
