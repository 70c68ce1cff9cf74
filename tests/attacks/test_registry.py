"""Attacks on grants and the registry (S10, S12), on rights (S14), on locks (S29), and on downgrades in files (S25)."""

import json
from pathlib import Path

import msgspec
import pytest

import secure_ipp
from secure_ipp.access import rights
from secure_ipp.errors import CapabilityError, EnvironmentProblem, Refused
from secure_ipp.keys import fields, filesystem
from secure_ipp.keys.capability import load_capability, parse_capability
from secure_ipp.keys.cluster_keys import init_cluster, load_issuer
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.grants import sign_grant
from secure_ipp.keys.issuer import IssuerKey
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import write_private
from secure_ipp.keys.registry import Registry, RegistryError, change_registry

PACKAGE = Path(secure_ipp.__file__).parent


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("SECURE_IPP_HOME", str(tmp_path / "home"))
    place = ClusterPlace("default")
    init_cluster(place)
    return place


def put(place, registry):
    write_private(place.registry, fields.to_file(registry), exclusive=False)


def eve(issuer, registry, **changes):
    values = {"name": "eve", "role": "client", "rights": ("admin",), "key": KeyPair.generate().public, "now": 1.0}
    return sign_grant(issuer, registry.cluster_id, **{**values, **changes})


def test_s10_a_registry_signed_by_the_attackers_own_issuer_is_refused(place):
    attacker, registry = IssuerKey.generate(), Registry.load(place)
    own = msgspec.structs.replace(registry, issuer_key=attacker.public(), grants=(eve(attacker, registry),))
    put(place, own.signed(attacker))
    with pytest.raises(RegistryError):
        Registry.load(place)


def test_s10_a_grant_slipped_into_the_file_is_refused(place):
    registry = Registry.load(place)
    put(place, msgspec.structs.replace(registry, grants=(*registry.grants, eve(IssuerKey.generate(), registry))))
    with pytest.raises(RegistryError):
        Registry.load(place)


def test_s10_rights_written_into_a_signed_grant_are_refused(place):
    plain = json.loads(place.registry.read_bytes())
    plain["grants"][1]["rights"] = ["join", "admin"]
    write_private(place.registry, json.dumps(plain).encode(), exclusive=False)
    with pytest.raises(RegistryError):
        Registry.load(place)


def test_s10_a_copy_from_before_a_revocation_revives_nobody(place):
    issuer, old = load_issuer(place), place.registry.read_bytes()
    owner = Registry.load(place).named("owner")
    seen = change_registry(place, issuer, lambda registry: registry.without_grant(owner.id)).version
    write_private(place.registry, old, exclusive=False)
    with pytest.raises(RegistryError, match="seen before"):
        Registry.load(place, at_least=seen)


def test_s12_a_key_that_was_held_is_refused_as_a_new_one_in_any_role(place):
    issuer, registry = load_issuer(place), Registry.load(place)
    owner = registry.named("owner")
    revoked = registry.without_grant(owner.id)
    for grants in (registry, revoked):
        with pytest.raises(RegistryError):
            grants.with_grant(eve(issuer, registry, key=owner.key, role="engine", rights=("join",)))


def test_s10_no_controller_process_reads_the_issuers_key():
    readers = ("read_issuer_key", "load_issuer", "issuer_key.read", ".issuer_key, ", "issuer.key")
    checked = 0
    for room in ("hub", "scheduler", "engine", "wire", "access", "store", "audit", "payload"):
        for path in (PACKAGE / room).rglob("*.py"):
            text = path.read_text()
            checked += 1
            assert not any(reader in text for reader in readers), path
    for name in ("supervisor", "supervision", "start_secrets"):
        path = PACKAGE / "cluster" / f"{name}.py"
        if path.exists():
            assert not any(reader in path.read_text() for reader in readers), path
    assert checked > 20


def test_s10_a_controller_starts_from_files_that_do_without_it(place):
    from secure_ipp.keys.cluster_keys import load_server

    place.issuer_key.unlink()
    assert load_server(place).config.issuer_key == load_capability(place.client_file).issuer_key
    assert Registry.load(place).version == 1


@pytest.mark.parametrize("role", ["client", "agent", "engine", "scheduler", "probe", "", "admin"])
def test_s14_no_role_speaks_for_another(role):
    words = {
        "client": "Submit", "agent": "Announce", "engine": "Result", "scheduler": "Forward", "hub": "Grants",
    }
    everything = [*fields.CLIENT_RIGHTS, *fields.JOIN_RIGHTS]
    for speaker, word in words.items():
        if speaker == role:
            rights.check(role, everything, word)
        else:
            with pytest.raises(Refused):
                rights.check(role, everything, word)


def test_s14_a_join_key_gives_no_right_to_run_anything(place):
    engine = load_capability(place.engine_file)
    for word in ("Submit", "Direct", "Signal", "Shutdown", "Ask", "Result", "Report"):
        with pytest.raises(Refused):
            rights.check("agent", engine.rights, word)


@pytest.mark.parametrize("right", fields.CLIENT_RIGHTS)
def test_s14_one_right_is_not_another(right):
    needs = {"Submit": "task", "Direct": "direct", "Signal": "control", "Shutdown": "control"}
    for word, needed in needs.items():
        if needed == right:
            rights.check("client", [right], word)
        else:
            with pytest.raises(Refused):
                rights.check("client", [right], word)


def test_s25_a_file_cannot_ask_for_a_plain_connection(place):
    plain = load_capability(place.client_file).as_dict()
    for changes in ({"curve": False}, {"server_keys": []}, {"door": ["ipc:///tmp/plain"]}):
        with pytest.raises(CapabilityError):
            parse_capability({**plain, **changes})
    del plain["server_keys"]
    with pytest.raises(CapabilityError):
        parse_capability(plain)


def test_s29_the_registry_is_not_changed_under_a_lock_that_may_be_a_lie(place, monkeypatch):
    issuer, before = load_issuer(place), place.registry.read_bytes()
    monkeypatch.setattr(filesystem, "is_local", lambda directory: False)
    with pytest.raises(EnvironmentProblem, match="network file system"):
        change_registry(place, issuer, lambda registry: registry.with_grant(eve(issuer, registry)))
    assert place.registry.read_bytes() == before
