"""What an order may say, and what stands in place of what it does not say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_ipp import limits
from secure_ipp.errors import UsageError
from secure_ipp.keys import fields
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.grants import Quotas
from secure_ipp.keys.orders import make_order, parse_network, parse_quotas, parse_rights
from secure_ipp.keys.ways import make_ways

NOW = 1_900_000_000.0


def order(name: str = "ada", **values: Any) -> Any:
    return make_order(name, now=NOW, **values)


def test_a_client_gets_the_least_unless_more_is_said() -> None:
    one = order()
    assert (one.role, one.rights, one.expires, one.tenancy, one.quotas) == (
        "client", ("task", "direct"), 0, "own", Quotas()
    )
    assert (one.engines, one.joins, one.networks, one.ways) == (0, 0, (), make_ways())
    assert order(shared_engines=True).tenancy == "shared"
    assert order(shared_engines=False).tenancy == "own"


def test_an_engine_key_may_join_and_nothing_else() -> None:
    one = order(role="engine")
    assert (one.rights, one.engines, one.joins, one.networks) == (("join",), limits.ENGINES_PER_JOIN_KEY, 0, ())
    some = order(role="engine", engines=4, joins=1, networks=["192.0.2.7", "2001:DB8::/32"])
    assert (some.engines, some.joins, some.networks) == (4, 1, ("192.0.2.7/32", "2001:db8::/32"))


@pytest.mark.parametrize("values", [
    {"role": "engine", "rights": "task"}, {"role": "engine", "shared_engines": True},
    {"role": "engine", "quotas": "tasks=1"},
    {"role": "engine", "shared_engines": False}, {"engines": 4}, {"joins": 1}, {"networks": ["192.0.2.0/24"]},
    {"role": "owner"}, {"role": "engine", "engines": 0}, {"role": "engine", "engines": limits.TARGETS + 1},
    {"role": "engine", "joins": 0}, {"rights": ""}, {"rights": "task,root"}, {"rights": ["join"]}, {"rights": []},
    {"quotas": "tasks=0"}, {"quotas": "tasks"}, {"quotas": "tasks=1,tasks=2"}, {"quotas": "tasks=1k"},
    {"quotas": "x=1"},
    {"quotas": "bytes=-1"}, {"quotas": {"bytes": "1.5G"}}, {"quotas": "bytes=9999999999999999T"},
    {"expires": "yesterday"},
    {"expires": "2001-01-01"},
    {"networks": ["192.0.2.1/24"], "role": "engine"}, {"networks": ["home"], "role": "engine"},
])
def test_what_cannot_be_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        order(**values)
    assert caught.value.advice


@pytest.mark.parametrize("name", ["", "Ada", "a/b", "../x", "-x", "a" * 65, KeyPair.generate().fingerprint])
def test_a_name_is_a_name_and_no_fingerprint(name: str) -> None:
    with pytest.raises(UsageError):
        order(name)


@given(st.lists(st.sampled_from(fields.CLIENT_RIGHTS), min_size=1))
def test_rights_stand_once_and_in_one_order(rights: list[str]) -> None:
    assert parse_rights(",".join(rights)) == parse_rights(rights)
    assert set(parse_rights(rights)) == set(rights)
    assert parse_rights(rights) == parse_rights(reversed(rights))


@given(st.dictionaries(st.sampled_from(Quotas.__struct_fields__), st.integers(1, 2**53)))
def test_quotas_go_round(quotas: dict[str, int]) -> None:
    text = ", ".join(f"{name} = {amount}" for name, amount in quotas.items())
    assert parse_quotas(text) == parse_quotas(quotas) == Quotas(**quotas)


def test_bytes_may_have_a_unit() -> None:
    assert parse_quotas("bytes=64M,tasks=7") == Quotas(bytes=64 * limits.MIB, tasks=7)
    assert parse_quotas("bytes=1g") == Quotas(bytes=limits.GIB)


@given(st.text(max_size=30))
def test_any_text_is_understood_or_an_error(text: str) -> None:
    for parse in (parse_quotas, parse_network, parse_rights):
        try:
            parse(text)
        except UsageError as error:
            assert len(error.message) < 300
