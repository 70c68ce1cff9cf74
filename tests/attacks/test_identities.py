"""Attacks on the life of an identity: swapped requests and answers, old registries, names that mean somebody else."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import Any

import msgspec
import pytest

from secure_ipp import keys
from secure_ipp.cluster import registry_change
from secure_ipp.errors import EnvironmentProblem, PolicyError, SecureIppError, UsageError
from secure_ipp.keys import fields
from secure_ipp.keys.capability import load_capability
from secure_ipp.keys.cluster_keys import init_cluster, load_issuer
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.derived import live_derived, no_derived
from secure_ipp.keys.grants import sign_derived
from secure_ipp.keys.holder import HolderKey
from secure_ipp.keys.pending import read_pending
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import write_private
from secure_ipp.keys.registry import Registry, change_registry
from secure_ipp.keys.requests import PURPOSE, parse_request


@pytest.fixture
def place(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterPlace:
    own = tmp_path / "own"
    own.mkdir(mode=0o700)
    monkeypatch.chdir(own)
    place = ClusterPlace("default", home)
    init_cluster(place, hosts=["127.0.0.1"], bind="127.0.0.1")
    return place


def names(place: ClusterPlace) -> list[str]:
    return [grant.name for grant in Registry.load(place).grants]


def test_s10_a_request_swapped_on_its_way_is_not_approved(place: ClusterPlace) -> None:
    honest = keys.request("ada.request", name="ada")
    keys.request("eve.request", name="ada")
    Path("ada.request").write_bytes(Path("eve.request").read_bytes())
    with pytest.raises(UsageError) as caught:
        keys.approve("ada.request", "ada", "ada.answer", fingerprint=honest.fingerprint)
    assert caught.value.code == "fingerprint"
    assert names(place) == ["owner", "engines"] and not Path("ada.answer").exists()


def test_s10_a_request_for_anothers_key_needs_its_secret(place: ClusterPlace) -> None:
    """Who knows a public key only cannot write a request under the signing key that belongs to it."""
    keys.request("ada.request", name="ada")
    honest = parse_request(Path("ada.request").read_bytes())
    eve = HolderKey.generate()
    stolen = msgspec.structs.replace(honest, name="eve", rights=("task", "control"))
    message = fields.canonical(stolen, without=frozenset({"signature"}))
    forged = msgspec.structs.replace(stolen, signature=fields.sign(eve, PURPOSE, message))
    with pytest.raises(PolicyError):
        parse_request(fields.to_file(forged))


def test_s10_what_a_request_wishes_grants_nothing(place: ClusterPlace) -> None:
    asked = keys.request("eve.request", name="owner", rights="task,direct,observe,control,admin")
    issued = keys.approve("eve.request", "eve", "eve.answer", fingerprint=asked.fingerprint)
    assert issued.grant.rights == ("task", "direct") and issued.grant.name == "eve"


def test_s8_an_answer_of_somebody_elses_cluster_is_seen(place: ClusterPlace, tmp_path: Path) -> None:
    asked = keys.request("ada.request", name="ada")
    theirs = ClusterPlace("default", tmp_path / "eve")
    init_cluster(theirs, hosts=["127.0.0.1"], bind="127.0.0.1")
    keys.approve("ada.request", "ada", "false.answer", fingerprint=asked.fingerprint, cluster=theirs)
    told = load_issuer(place).fingerprint
    with pytest.raises(PolicyError) as caught:
        keys.accept("false.answer", "ada.json", issuer=told)
    assert caught.value.code == "issuer" and not Path("ada.json").exists()
    keys.approve("ada.request", "ada", "true.answer", fingerprint=asked.fingerprint)
    keys.accept("true.answer", "ada.json", issuer=told)
    with pytest.raises(PolicyError):  # nor afterwards, as a renewal, whoever compares nothing
        keys.accept("false.answer", "ada.json")


@pytest.mark.parametrize("changes", [
    {"door": ["tcp://192.0.2.66:20001"]}, {"server_keys": [KeyPair.generate().public.text]}, {"rights": ["admin"]},
    {"ssh": "eve@192.0.2.66"}, {"expires": 0}, {"issuer_key": KeyPair.generate().public.text},
])
def test_s8_an_answer_that_leads_elsewhere_is_refused(place: ClusterPlace, changes: dict[str, Any]) -> None:
    asked = keys.request("ada.request", name="ada")
    keys.approve("ada.request", "ada", "ada.answer", fingerprint=asked.fingerprint, expires="7d")
    plain = json.loads(Path("ada.answer").read_bytes())
    plain["capability"].update(changes)
    Path("ada.answer").write_text(json.dumps(plain))
    with pytest.raises(PolicyError):
        keys.accept("ada.answer", "ada.json")
    assert not Path("ada.json").exists() and Path("ada.request.key").exists()


def test_s11_the_secret_of_a_request_is_in_nothing_that_travels(place: ClusterPlace) -> None:
    asked = keys.request("ada.request", name="ada")
    keys.approve("ada.request", "ada", "ada.answer", fingerprint=asked.fingerprint)
    secret = read_pending("ada.request.key").secret
    for path in (Path("ada.request"), Path("ada.answer"), place.registry):
        for spelling in (secret.text.encode(), secret.raw, secret.raw.hex().encode()):
            assert spelling not in path.read_bytes()


def test_s11_a_command_that_fails_shows_no_secret_in_its_traceback(
    place: ClusterPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys.issue("ada", "ada.json")
    secret = load_capability("ada.json").secret_key

    def fails(*_: Any, **__: Any) -> Any:
        raise EnvironmentProblem("the disk is full")

    monkeypatch.setattr(registry_change, "apply", fails)
    steps = [lambda: keys.renew("ada", "7d", file="ada.json"), lambda: keys.issue("ben", "ben.json"),
             lambda: keys.rotate("ada", "new.json")]
    for step in steps:
        with pytest.raises(EnvironmentProblem) as caught:
            step()
        found = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        text = "".join(found.format())
        assert "disk is full" in text and secret.text not in text and '"secret_key"' not in text


def test_s12_a_key_that_was_rotated_away_or_revoked_never_comes_back(place: ClusterPlace) -> None:
    asked = keys.request("ada.request", name="ada")
    keys.approve("ada.request", "ada", "1.answer", fingerprint=asked.fingerprint)
    keys.rotate("ada", "ada-2.json")
    for again in range(2):
        with pytest.raises(PolicyError) as caught:
            keys.approve("ada.request", f"ben{again}", f"{again}.json", fingerprint=asked.fingerprint)
        assert caught.value.code == "key-reused"
        with pytest.raises(PolicyError):
            keys.rotate("owner", "x.answer", request="ada.request", fingerprint=asked.fingerprint)
        if not again:
            keys.revoke("ada")


def test_s10_an_older_registry_put_back_while_nothing_runs_revives_nobody(place: ClusterPlace) -> None:
    keys.issue("eve", "eve.json")
    old = place.registry.read_bytes()
    keys.revoke("eve")
    write_private(place.registry, old, exclusive=False)
    with pytest.raises(PolicyError, match="seen before"):
        Registry.load(place)  # as the hub does at the next start
    with pytest.raises(PolicyError, match="seen before"):
        keys.issue("ben", "ben.json")  # nor is it signed anew by the next command
    assert not Path("ben.json").exists()


def test_s32_a_name_chosen_by_a_holder_never_stands_for_the_owners(place: ClusterPlace) -> None:
    keys.issue("ada", "ada.json", expires="7d")
    registry, file, own = Registry.load(place), load_capability("ada.json"), KeyPair.generate()
    derived = no_derived(registry.cluster_id).with_grant(sign_derived(
        HolderKey.of(file.secret_key), registry.cluster_id, registry.named("ada"), name="owner", key=own.public,
        rights=("task",), now=1.0, expires=file.expires, signing_key=HolderKey.of(own.secret).public(),
    ))
    derived.save(place)
    (revoked,) = keys.revoke("ada/owner").identities
    assert revoked.grant.key == own.public and "owner" in names(place)
    assert live_derived(Registry.load(place), derived, 1.0) == []


def test_s10_a_name_that_is_anothers_fingerprint_is_refused(place: ClusterPlace) -> None:
    """Else whoever revokes by fingerprint would hit the wrong one."""
    owner = Registry.load(place).named("owner")
    with pytest.raises(UsageError):
        keys.issue(owner.key.fingerprint, "x.json")


def test_s27_a_second_identity_has_engines_of_its_own_unless_sharing_is_chosen(place: ClusterPlace) -> None:
    assert keys.issue("ada", "ada.json").grant.tenancy == "own"
    assert keys.issue("ben", "ben.json", shared_engines=True).grant.tenancy == "shared"
    keys.rotate("ada", "ada-2.json")
    keys.renew("ada", "7d", file="ada-2.json")
    assert Registry.load(place).named("ada").tenancy == "own"


def test_s9_no_file_is_ever_overwritten_or_written_where_others_could_change_it(
    place: ClusterPlace, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    Path("link.json").symlink_to(victim)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    for out in ("link.json", str(victim), str(shared / "x.json")):
        with pytest.raises(SecureIppError):
            keys.issue("ada", out)
        with pytest.raises(SecureIppError):
            keys.rotate("owner", out)
    assert victim.read_text() == "precious" and list(shared.iterdir()) == []
    assert names(place) == ["owner", "engines"] and Registry.load(place).version == 1


def test_s10_a_change_is_made_by_the_issuers_key_alone(place: ClusterPlace) -> None:
    from secure_ipp.keys.issuer import IssuerKey

    before = place.registry.read_bytes()
    with pytest.raises(PolicyError):
        change_registry(place, IssuerKey.generate(), lambda registry: registry.without_grant(registry.grants[0].id))
    assert place.registry.read_bytes() == before
