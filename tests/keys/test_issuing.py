"""Issuing, renewing, rotating and revoking: file and registry change together or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from secure_ipp.errors import CapabilityError, EnvironmentProblem, SecureIppError, UsageError
from secure_ipp.keys import desk as desk_module
from secure_ipp.keys.capability import load_capability
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.derived import DerivedGrants, live_derived, no_derived
from secure_ipp.keys.desk import Desk
from secure_ipp.keys.facts import all_facts, capability_facts, grant_facts, in_registry
from secure_ipp.keys.grants import Quotas, sign_derived
from secure_ipp.keys.holder import HolderKey
from secure_ipp.keys.issuing import Issued, issue
from secure_ipp.keys.orders import make_order
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import AlreadyThere
from secure_ipp.keys.registry import Registry, RegistryError, change_registry
from secure_ipp.keys.renewal import renew_by_answer, renew_in_place, rotate_holder
from secure_ipp.keys.revoking import choose, identities, revoke
from secure_ipp.keys.ways import make_ways
from tests.keys.desks import files, names, new_desk

NOW = 1_900_000_000.0


@pytest.fixture
def desk(place: ClusterPlace) -> Desk:
    return new_desk(place)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "files"
    path.mkdir(mode=0o700)
    return path


def give(desk: Desk, out: Path, name: str = "ada", **order: Any) -> Issued:
    return issue(desk, make_order(name, now=NOW, **order), out, NOW)


def take(desk: Desk, word: str, **options: Any) -> Any:
    return revoke(desk, choose(identities(desk), word, **options))


def test_the_file_and_the_registry_say_the_same(desk: Desk, own: Path) -> None:
    issued = give(
        desk, own / "ada.json", rights="task,observe", expires="7d", quotas="tasks=9",
        ways=make_ways(ssh="ada@gate.example:2222"),
    )
    registry, file = Registry.load(desk.place), load_capability(own / "ada.json", now=NOW)
    grant = registry.named("ada")
    assert grant == issued.grant and registry.version == issued.applied.registry.version == 2
    assert (file.public_key, file.rights, file.expires, file.name) == (grant.key, grant.rights, grant.expires, "ada")
    assert (grant.tenancy, grant.quotas, file.ssh) == ("own", Quotas(tasks=9), "ada@gate.example:2222")
    assert grant.signing_key == HolderKey.of(file.secret_key).public()
    assert file.door == load_capability(desk.place.client_file).door
    assert file.issuer_key.fingerprint == issued.issuer
    assert not issued.applied.in_force and issued.applied.controller == "stopped"
    assert (own / "ada.json").stat().st_mode & 0o777 == 0o600


def test_an_engine_key(desk: Desk, own: Path) -> None:
    grant = give(desk, own / "lab.json", "lab", role="engine", joins=1, networks=["192.0.2.0/24"], engines=4).grant
    file = load_capability(own / "lab.json", now=NOW).require_role("engine")
    assert (grant.joins, grant.networks, grant.engines, grant.signing_key) == (1, ("192.0.2.0/24",), 4, None)
    assert file.door == load_capability(desk.place.engine_file).door


def test_nothing_is_left_of_what_cannot_be(desk: Desk, own: Path) -> None:
    before, engines = desk.place.registry.read_bytes(), files(desk.place.dir)
    (own / "there.json").write_text("mine")
    closed = own / "closed"
    closed.mkdir()
    closed.chmod(0o777)
    attempts: list[tuple[Path, str, type[SecureIppError]]] = [
        (own / "there.json", "ada", AlreadyThere), (own / "nowhere" / "x.json", "ada", SecureIppError),
        (closed / "x.json", "ada", SecureIppError), (own / "x.json", "owner", UsageError),
    ]
    for out, name, error in attempts:
        with pytest.raises(error):
            give(desk, out, name)
    (own / "link.json").symlink_to(own / "gone")
    with pytest.raises(AlreadyThere):
        give(desk, own / "link.json")
    assert files(own) == ["closed", "link.json", "there.json"] and files(closed) == []
    assert (own / "there.json").read_text() == "mine"
    assert desk.place.registry.read_bytes() == before and files(desk.place.dir) == engines


def test_a_registry_that_cannot_be_changed_leaves_no_file(desk: Desk, own: Path) -> None:
    def fails(*_: Any) -> Any:
        raise EnvironmentProblem("the disk is full", "make room")

    give(desk, own / "ada.json")
    before = (own / "ada.json").read_bytes()
    broken = replace(desk, apply=fails)
    steps: list[Callable[[], Any]] = [
        lambda: give(broken, own / "ben.json", "ben"),
        lambda: rotate_holder(broken, "ada", own / "new.json", now=NOW),
        lambda: renew_by_answer(broken, "ada", int(NOW) + 50, own / "answer", now=NOW),
        lambda: renew_in_place(broken, "ada", int(NOW) + 50, own / "ada.json", now=NOW),
    ]
    for step in steps:
        with pytest.raises(EnvironmentProblem, match="disk is full"):
            step()
        assert files(own) == ["ada.json"] and (own / "ada.json").read_bytes() == before
    assert names(desk.place) == ["owner", "engines", "ada"]


def test_a_change_that_stands_but_is_not_in_force_keeps_its_file(desk: Desk, own: Path) -> None:
    def unconfirmed(place: ClusterPlace, issuer: Any, change: Any) -> Any:
        change_registry(place, issuer, change)
        raise EnvironmentProblem("not in force", "look at the log", code="not-in-force")

    with pytest.raises(EnvironmentProblem) as caught:
        give(replace(desk, apply=unconfirmed), own / "ada.json")
    assert "ada.json" in caught.value.advice
    assert load_capability(own / "ada.json", now=NOW).public_key == Registry.load(desk.place).named("ada").key


def test_when_in_doubt_the_file_stays(desk: Desk, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def torn(place: ClusterPlace, *_: Any) -> Any:
        def unreadable(place: ClusterPlace) -> Registry:
            raise RegistryError("gone")

        monkeypatch.setattr(desk_module.Registry, "load", unreadable)
        raise EnvironmentProblem("the disk is gone")

    with pytest.raises(EnvironmentProblem):
        give(replace(desk, apply=torn), own / "ada.json")
    assert files(own) == ["ada.json"]


def test_renewing_changes_the_end_alone(desk: Desk, own: Path) -> None:
    give(desk, own / "ada.json", expires="1d", quotas="tasks=9", ways=make_ways(ssh="ada@gate.example"))
    old = Registry.load(desk.place).named("ada")
    renewed = renew_in_place(desk, "ada", old.expires + 500, own / "ada.json", now=NOW)
    file = load_capability(own / "ada.json", now=NOW)
    assert renewed.grant == Registry.load(desk.place).named("ada")
    assert (file.expires, file.ssh, file.public_key) == (old.expires + 500, "ada@gate.example", old.key)
    for name in ("id", "key", "rights", "quotas", "tenancy", "signing_key", "name"):
        assert getattr(renewed.grant, name) == getattr(old, name)


def test_an_expired_identity_can_be_renewed(desk: Desk, own: Path) -> None:
    give(desk, own / "ada.json", expires="30m")
    with pytest.raises(CapabilityError):
        load_capability(own / "ada.json", now=NOW + 1801)
    renew_in_place(desk, "ada", 0, own / "ada.json", now=NOW + 9000)
    assert load_capability(own / "ada.json", now=NOW + 9000).expires == 0


def test_another_identitys_file_is_not_renewed(desk: Desk, own: Path) -> None:
    give(desk, own / "ada.json")
    give(desk, own / "ben.json", "ben")
    before = (own / "ben.json").read_bytes()
    with pytest.raises(UsageError, match="not the file"):
        renew_in_place(desk, "ada", int(NOW) + 60, own / "ben.json", now=NOW)
    assert (own / "ben.json").read_bytes() == before


def test_rotating_keeps_the_identity_and_retires_the_key(desk: Desk, own: Path) -> None:
    old = give(desk, own / "ada.json", expires="7d", quotas="bytes=1M").grant
    new = rotate_holder(desk, old.key.fingerprint, own / "new.json", now=NOW).grant
    registry = Registry.load(desk.place)
    assert registry.named("ada") == new and registry.retired == (old.key,)
    assert new.key == load_capability(own / "new.json", now=NOW).public_key != old.key
    for name in ("id", "rights", "quotas", "expires", "tenancy"):
        assert getattr(new, name) == getattr(old, name)
    assert new.signing_key != old.signing_key is not None
    assert in_registry(load_capability(own / "ada.json", now=NOW)) == "no"
    assert in_registry(load_capability(own / "new.json", now=NOW)) == "yes"


def test_engine_keys_rotate_alike(desk: Desk, own: Path) -> None:
    old = Registry.load(desk.place).named("engines")
    new = rotate_holder(desk, "engines", own / "new.json", now=NOW).grant
    assert (new.id, new.engines, new.signing_key) == (old.id, old.engines, None) and new.key != old.key


def test_a_grant_that_was_changed_meanwhile_is_not_overwritten(desk: Desk, own: Path) -> None:
    give(desk, own / "ada.json", expires="1d")

    def late(place: ClusterPlace, issuer: Any, change: Any) -> Any:
        rotate_holder(desk, "ada", own / "first.json", now=NOW)
        return desk.apply(place, issuer, change)

    with pytest.raises(UsageError, match="meanwhile"):
        renew_by_answer(replace(desk, apply=late), "ada", 0, own / "answer", now=NOW)
    assert files(own) == ["ada.json", "first.json"]
    assert Registry.load(desk.place).named("ada").expires > 0


def test_revoking_by_name_fingerprint_and_prefix(desk: Desk, own: Path) -> None:
    grants = [give(desk, own / f"{name}.json", name).grant for name in ("c-1", "c-2", "c-3", "ada")]
    take(desk, grants[3].key.fingerprint)
    assert names(desk.place) == ["owner", "engines", "c-1", "c-2", "c-3"]
    take(desk, "c-2")
    version = Registry.load(desk.place).version
    take(desk, "c-", prefix=True)
    registry = Registry.load(desk.place)
    assert registry.version == version + 1 and [grant.name for grant in registry.grants] == ["owner", "engines"]
    assert set(registry.retired) == {grant.key for grant in grants}
    give(desk, own / "again.json", "ada")  # the name is free, the key is not


@pytest.mark.parametrize(
    ("word", "prefix"), [("nobody", False), ("nobody", True), ("", True), ("", False), ("ow", False)]
)
def test_a_word_that_means_nobody(desk: Desk, word: str, prefix: bool) -> None:
    with pytest.raises(UsageError):
        choose(identities(desk), word, prefix=prefix)


def test_revoking_what_is_gone_says_so(desk: Desk, own: Path) -> None:
    give(desk, own / "ada.json")
    chosen = choose(identities(desk), "ada")
    revoke(desk, chosen)
    with pytest.raises(UsageError, match="no longer"):
        revoke(desk, chosen)


# --- what holders handed on -----------------------------------------------------------------------------------


def hand_on(desk: Desk, own: Path, *to: str) -> DerivedGrants:
    """ada hands on to each of these."""
    if not (own / "ada.json").exists():
        give(desk, own / "ada.json", expires="7d")
    registry, file = Registry.load(desk.place), load_capability(own / "ada.json", now=NOW)
    derived = no_derived(registry.cluster_id)
    for name in to:
        keys = KeyPair.generate()
        derived = derived.with_grant(sign_derived(
            HolderKey.of(file.secret_key), registry.cluster_id, registry.named("ada"), name=name, key=keys.public,
            rights=("task",), now=NOW, expires=int(NOW) + 60, signing_key=HolderKey.of(keys.secret).public(),
        ))
    derived.save(desk.place)
    return derived


def live(desk: Desk, derived: DerivedGrants) -> list[str]:
    return [grant.name for grant in live_derived(Registry.load(desk.place), derived, NOW)]


def test_a_derived_identity_is_listed_and_can_be_taken_away(desk: Desk, own: Path) -> None:
    derived = hand_on(desk, own, "ben", "owner")
    assert [one.title for one in identities(desk)] == ["owner", "engines", "ada", "ada/ben", "ada/owner"]
    take(desk, "ada/ben")
    assert live(desk, derived) == ["owner"]
    assert [one.title for one in identities(desk)] == ["owner", "engines", "ada", "ada/owner"]
    assert "owner" in names(desk.place)
    found = all_facts(desk.place, NOW)
    assert [(facts["title"], facts["good"]) for facts in found["derived"]] == [("ada/owner", True)]
    assert [facts["name"] for facts in found["grants"]] == ["owner", "engines", "ada"]
    assert all_facts(desk.place, NOW + 60)["derived"][0]["good"] is False


def test_names_that_holders_chose_never_stand_for_the_owners(desk: Desk, own: Path) -> None:
    hand_on(desk, own, "owner", "ben", "ben")
    (found,) = choose(identities(desk), "owner")
    assert not found.grant.parent
    with pytest.raises(UsageError) as caught:
        choose(identities(desk), "ada/ben")
    assert caught.value.code == "ambiguous"
    with pytest.raises(UsageError, match="handed on"):
        rotate_holder(desk, "ada/owner", own / "x.json", now=NOW)


def test_a_parent_takes_its_children_along(desk: Desk, own: Path) -> None:
    for end in (lambda: take(desk, "ada"), lambda: rotate_holder(desk, "ada", own / "new.json", now=NOW)):
        (own / "ada.json").unlink(missing_ok=True)
        derived = hand_on(desk, own, "ben")
        assert live(desk, derived) == ["ben"]
        end()
        assert live(desk, derived) == []


def test_renewing_a_parent_keeps_its_children(desk: Desk, own: Path) -> None:
    derived = hand_on(desk, own, "ben")
    renew_in_place(desk, "ada", 0, own / "ada.json", now=NOW)
    assert live(desk, derived) == ["ben"]


def test_s11_what_is_shown_is_never_secret(desk: Desk, own: Path) -> None:
    issued = give(desk, own / "ada.json")
    file = load_capability(own / "ada.json", now=NOW)
    shown = [repr(issued), str(grant_facts(issued.grant, NOW)), str(capability_facts(file, NOW)),
             str(all_facts(desk.place, NOW))]
    assert not any(file.secret_key.text in text or desk.issuer().text in text for text in shown)
