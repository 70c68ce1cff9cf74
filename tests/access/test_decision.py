"""The gate's decision: each answer, and that parsing raises documented errors only."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_ipp import limits
from secure_ipp.access.decision import (
    Decision,
    GateClock,
    ZapRequest,
    build_reply,
    decide,
    encode_metadata,
    parse_request,
)
from secure_ipp.access.table import Admission, GateTable, TableBuilder
from secure_ipp.errors import PolicyError, ProtocolError

KEY, OTHER, PROBE = b"k" * 32, b"o" * 32, b"p" * 32
TABLE = GateTable({
    ("client", KEY): Admission("user", "client", "owner", expires=1000.0),
    ("engine", OTHER): Admission("agent1", "agent", "engines"),
    ("client", PROBE): Admission("probe", "probe", "probe"),
})
FRESH = GateClock(wall=500.0, now=100.0, started_at=0.0, heard_at=99.0)


def asked(key=KEY, domain="client", mechanism="CURVE", credentials=None):
    return ZapRequest(b"1", domain, "127.0.0.1", mechanism, (key,) if credentials is None else credentials)


def test_a_known_key_comes_in_with_all_its_metadata():
    decision = decide(asked(), TABLE, FRESH)
    assert decision == Decision("200", "welcome", "user", {"Role": "client", "Grant": "owner"}, known=True)


def test_a_key_is_known_at_its_own_door_only():
    assert decide(asked(domain="engine"), TABLE, FRESH).status == "400"
    assert decide(asked(OTHER), TABLE, FRESH).status == "400"
    assert decide(asked(OTHER, "engine"), TABLE, FRESH).user_id == "agent1"


@pytest.mark.parametrize(("wall", "status"), [(999.999, "200"), (1000.0, "400"), (1e9, "400"), (float("nan"), "400")])
def test_an_expired_grant_is_refused(wall, status):
    assert decide(asked(), TABLE, GateClock(wall, 100.0, 0.0, 99.0)).status == status


@pytest.mark.parametrize(("age", "status"), [(0, "200"), (5.0, "200"), (5.001, "300"), (float("inf"), "300")])
def test_s10_without_the_hub_nobody_new_comes_in(age, status):
    clock = GateClock(500.0, 100.0, 0.0, 100.0 - age)
    assert decide(asked(), TABLE, clock).status == status
    assert decide(asked(OTHER, "engine"), TABLE, clock).status == status
    assert decide(asked(PROBE), TABLE, clock).status == "200"
    assert decide(asked(b"x" * 32), TABLE, clock).status == ("400" if status == "200" else "300")


def test_the_hubs_own_gate_needs_no_hub():
    clock = GateClock(500.0, 100.0, 0.0, 0.0)
    assert decide(asked(), TABLE, clock, stale_after=float("inf")).status == "200"


@pytest.mark.parametrize(("since", "status"), [(0.0, "300"), (29.9, "300"), (30.0, "400")])
def test_s12_soon_after_a_start_an_unknown_engine_key_is_not_known_yet(since, status):
    assert limits.GATE_GRACE_SECONDS == 30.0
    clock = GateClock(500.0, 100.0, 100.0 - since, 100.0)
    assert decide(asked(b"x" * 32, "engine"), TABLE, clock).status == status
    assert decide(asked(b"x" * 32, "client"), TABLE, clock).status == "400"


FRAMES = [b"1.0", b"7", b"client", b"127.0.0.1", b"", b"CURVE", KEY]


def test_a_request_is_read():
    assert parse_request(FRAMES) == ZapRequest(b"7", "client", "127.0.0.1", "CURVE", (KEY,))


@given(st.lists(st.one_of(st.binary(max_size=300), st.sampled_from(FRAMES)), max_size=9))
def test_parsing_raises_protocol_errors_only(frames):
    try:
        request = parse_request(frames)
    except ProtocolError:
        return
    assert frames[0] == b"1.0"
    decision = decide(request, TABLE, FRESH)
    build_reply(request.request_id, decision)


requests = st.builds(
    ZapRequest,
    st.binary(max_size=5),
    st.sampled_from(["client", "engine", "controller", "", "x", "client\0"]),
    st.just("a"),
    st.sampled_from(["CURVE", "NULL", "PLAIN", "curve", ""]),
    st.lists(st.sampled_from([KEY, OTHER, PROBE, b"", KEY[:31], KEY + b"x"]), max_size=3).map(tuple),
)
times = st.floats(allow_nan=True, allow_infinity=True)


@given(requests, st.builds(GateClock, times, times, times, times))
def test_only_a_known_key_over_curve_at_its_door_ever_comes_in(request, clock):
    decision = decide(request, TABLE, clock)
    if decision.status != "200":
        assert not decision.user_id
        assert not decision.metadata
        return
    assert request.mechanism == "CURVE"
    admission = TABLE.find(request.domain, request.credentials[0])
    assert admission.user_id == decision.user_id
    assert decision.metadata == {"Role": admission.role, "Grant": admission.grant}
    assert admission.role == "probe" or clock.now - clock.heard_at <= limits.GATE_STALE_SECONDS
    assert not admission.expires or clock.wall < admission.expires


def read_metadata(data):
    """As libzmq reads it."""
    found = {}
    while data:
        size = data[0]
        name, data = data[1 : 1 + size], data[1 + size :]
        (length,) = struct.unpack(">I", data[:4])
        found[name.decode()], data = data[4 : 4 + length].decode(), data[4 + length :]
    return found


@given(st.dictionaries(st.text("abcXYZ-", min_size=1, max_size=255), st.text(max_size=300), max_size=4))
def test_metadata_goes_round(properties):
    assert read_metadata(encode_metadata(properties)) == properties


def test_the_reply():
    version, request_id, status, _, user, metadata = build_reply(b"7", decide(asked(), TABLE, FRESH))
    assert (version, request_id, status, user) == (b"1.0", b"7", b"200", b"user")
    assert read_metadata(metadata) == {"Role": "client", "Grant": "owner"}
    assert build_reply(b"7", Decision("400", "no"))[4:] == [b"", b""]


@pytest.mark.parametrize(
    "values",
    [
        ("", "client", "n"), ("u", "client", ""), ("u\n", "client", "n"), ("é", "client", "n"),
        ("u", "client", "n" * 256),
    ],
)
def test_an_admission_leaves_nothing_for_the_peer_to_supply(values):
    with pytest.raises(PolicyError):
        Admission(*values)


@pytest.mark.parametrize(
    ("domain", "key", "role"),
    [("client", KEY, "engine"), ("engine", KEY, "client"), ("controller", KEY, "client"), ("x", KEY, "client"),
     ("client", b"short", "client")],
)
def test_a_table_refuses_what_cannot_be(domain, key, role):
    builder = TableBuilder()
    with pytest.raises(PolicyError):
        builder.add(domain, key, Admission("u", role, "n"))
        builder.build()


def test_a_key_is_one_identity_and_never_comes_back():
    builder = TableBuilder(version=7, retired=[OTHER])
    builder.add("client", KEY, Admission("u", "client", "n"))
    with pytest.raises(PolicyError, match="two identities"):
        builder.add("client", KEY, Admission("v", "client", "m"))
    with pytest.raises(PolicyError, match="retired"):
        builder.add("engine", OTHER, Admission("v", "engine", "m"))
    table = builder.build()
    assert (len(table), table.version, table.find("client", KEY).user_id) == (1, 7, "u")


def test_a_table_does_not_change_with_what_it_was_made_from():
    entries = {("client", KEY): Admission("u", "client", "n")}
    table = GateTable(entries)
    entries.clear()
    assert table.find("client", KEY)
