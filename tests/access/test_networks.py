"""From where a key may be used."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_ipp.access.decision import GateClock, ZapRequest, decide
from secure_ipp.access.networks import is_inside
from secure_ipp.access.table import Admission, TableBuilder


@pytest.mark.parametrize(("address", "networks", "inside"), [
    ("192.0.2.7", [], True),
    ("nonsense", [], True),
    ("192.0.2.7", ["192.0.2.0/24"], True),
    ("192.0.3.7", ["192.0.2.0/24"], False),
    ("192.0.3.7", ["192.0.2.0/24", "192.0.3.7"], True),
    ("::ffff:192.0.2.7", ["192.0.2.0/24"], True),
    ("[2001:db8::1]", ["2001:db8::/32"], True),
    ("fe80::1%eth0", ["fe80::/10"], True),
    ("192.0.2.7", ["::/0"], False),
    ("2001:db8::1", ["0.0.0.0/0"], False),
    ("", ["0.0.0.0/0"], False),
    ("nonsense", ["0.0.0.0/0", "::/0"], False),
])
def test_addresses(address: str, networks: list[str], inside: bool) -> None:
    assert is_inside(address, networks) is inside


@given(st.ip_addresses(v=4), st.integers(0, 32))
def test_every_address_is_in_its_own_networks_and_not_in_the_sibling(address: ipaddress.IPv4Address, bits: int) -> None:
    own = ipaddress.ip_network(f"{address}/{bits}", strict=False)
    assert is_inside(str(address), [str(own)])
    if bits:
        sibling = ipaddress.ip_network((int(own.network_address) ^ (1 << (32 - bits)), bits))
        assert not is_inside(str(address), [str(sibling)])


@given(st.text(max_size=40))
def test_whatever_the_address_it_never_raises(address: str) -> None:
    is_inside(address, ["192.0.2.0/24", "2001:db8::/32"])


@pytest.mark.parametrize("role", ["agent", "engine"])
def test_s12_the_gate_refuses_a_join_key_from_elsewhere(role: str) -> None:
    table = TableBuilder()
    table.add("engine", b"k" * 32, Admission("user", role, "hosts", networks=("192.0.2.0/24",)))  # type: ignore[arg-type]
    clock = GateClock(wall=0.0, now=100.0, started_at=0.0, heard_at=100.0)

    def status(address: str) -> str:
        return decide(ZapRequest(b"1", "engine", address, "CURVE", (b"k" * 32,)), table.build(), clock).status

    assert status("192.0.2.9") == "200"
    assert status("192.0.3.9") == "400"
    assert status("") == "400"
