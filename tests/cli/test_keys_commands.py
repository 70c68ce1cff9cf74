"""``secure-ipp keys issue`` and what follows: what is shown, asked, refused, and written for scripts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from secure_ipp import keys as keys_api
from secure_ipp.cli import keys_issue
from secure_ipp.cli.keys import keys
from secure_ipp.cli.options import ExitCode
from secure_ipp.cluster import owner_keys
from secure_ipp.errors import UsageError
from secure_ipp.keys.capability import load_capability
from secure_ipp.keys.cluster_keys import init_cluster
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.registry import Registry
from tests.keys.desks import files, names


@pytest.fixture
def own(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cluster with keys, and a directory to work in."""
    init_cluster(ClusterPlace("default", home), hosts=["127.0.0.1"], bind="127.0.0.1")
    path = tmp_path / "own"
    path.mkdir(mode=0o700)
    monkeypatch.chdir(path)
    yield path


@pytest.fixture
def place(home: Path) -> ClusterPlace:
    return ClusterPlace("default", home)


class Terminal:
    """A stdin that somebody sits at."""

    def isatty(self) -> bool:
        return True


def run(*words: str, code: int = 0, **options: Any) -> Any:
    result = CliRunner().invoke(keys, words, **options)
    assert result.exit_code == code, result.output
    return result


def as_json(*words: str) -> Any:
    return json.loads(run(*words, "--json").stdout)


def test_issue_says_what_was_made_and_that_it_waits_for_the_controller(own: Path, place: ClusterPlace) -> None:
    output = run("issue", "ada", "--expires", "7d", "--out", "ada.json").output
    file = load_capability(own / "ada.json")
    for text in ("task, direct", file.public_key.fingerprint, file.issuer_key.fingerprint, "in 6 days 23 hours",
                 "its own while it works", "in force at its next start (registry version 2)"):
        assert text in output or text.replace("6 days 23 hours", "7 days") in output
    assert file.secret_key.text not in output


def test_issue_as_json(own: Path) -> None:
    engine = ("--role", "engine", "--single-use", "--network", "192.0.2.0/24")
    facts = as_json("issue", "lab", *engine, "--out", "lab.json")
    assert facts["grant"]["joins"] == 1 and facts["grant"]["networks"] == ["192.0.2.0/24"]
    assert (facts["in_force"], facts["controller"], facts["version"]) == (False, "stopped", 2)
    facts = as_json("issue", "ada", "--shared-engines", "--quota", "tasks=5,bytes=1K", "--rights", "observe,task",
                    "--out", "a.json")
    assert facts["grant"]["shared_engines"] and facts["grant"]["quotas"] == {"tasks": 5, "bytes": 1024}
    assert facts["grant"]["rights"] == ["task", "observe"]


@pytest.mark.parametrize("words", [
    ("issue", "ada"), ("issue", "Ada", "--out", "x"), ("issue", "ada", "--rights", "root", "--out", "x"),
    ("issue", "ada", "--joins", "2", "--out", "x"), ("issue", "owner", "--out", "x"), ("issue", "a", "--role", "x"),
    ("issue", "lab", "--role", "engine", "--single-use", "--joins", "2", "--out", "x"),
    ("issue", "ada", "--expires", "2001-01-01", "--out", "x"), ("revoke", "nobody"), ("renew", "owner"),
    ("renew", "owner", "--expires", "7d"), ("renew", "owner", "--expires", "7d", "--out", "a", "--file", "b"),
    ("rotate", "owner"), ("rotate", "owner", "--out", "x", "--yes"), ("revoke", "own", "--prefix"),
])
def test_wrong_usage_changes_nothing(own: Path, place: ClusterPlace, words: tuple[str, ...]) -> None:
    run(*words, code=ExitCode.USAGE)
    assert files(own) == [] and Registry.load(place).version == 1


def test_an_existing_file_is_kept(own: Path, place: ClusterPlace) -> None:
    (own / "x").write_text("mine")
    assert "nothing is overwritten" in run("issue", "ada", "--out", "x", code=ExitCode.ENVIRONMENT).stderr
    assert (own / "x").read_text() == "mine" and names(place) == ["owner", "engines"]


def test_list_and_show_say_what_became_of_it(own: Path, place: ClusterPlace) -> None:
    run("issue", "ada", "--expires", "7d", "--quota", "tasks=5", "--out", "ada.json")
    line = next(line for line in run("list").output.splitlines() if line.startswith("ada "))
    assert "own" in line and "task,direct" in line
    assert "in 6 days" in run("show", "ada").output or "in 7 days" in run("show", "ada").output
    key = load_capability(own / "ada.json").public_key.fingerprint
    assert as_json("show", key)["name"] == "ada"
    assert as_json("show", "ada.json")["in_registry"] == "yes"
    run("revoke", "ada")
    assert as_json("show", "ada.json")["in_registry"] == "no"
    listed = as_json("list")
    assert listed["retired"] == [key] and listed["derived"] == [] and listed["version"] == 3


def test_revoke_by_prefix_lists_and_asks(own: Path, place: ClusterPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("course-1", "course-2", "other"):
        run("issue", name, "--out", name)
    refused = run("revoke", "course-", "--prefix", code=ExitCode.USAGE)
    assert "course-1" in refused.stdout and "--yes" in refused.stderr
    out = run("revoke", "course-", "--prefix", "--yes").output
    assert "revoked course-1" in out and "revoked course-2" in out
    assert names(place) == ["owner", "engines", "other"]
    facts = as_json("revoke", "oth", "--prefix", "--yes")
    assert [one["name"] for one in facts["revoked"]] == ["other"] and facts["controller"] == "stopped"


def test_whoever_is_asked_may_say_no(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr(keys_issue.click, "confirm", lambda question: asked.append(question))  # None is a no
    with pytest.raises(UsageError, match="nothing was done"):
        keys_issue.compare("Is it?", "--yes", False)
    monkeypatch.setattr(keys_issue.click, "confirm", lambda question: asked.append(question) is None)
    keys_issue.compare("Is it?", "--yes", False)
    with pytest.raises(UsageError, match="nobody can be asked"):
        keys_issue.compare("Is it?", "--yes", True)
    assert asked == ["Is it?", "Is it?"]


def test_the_way_of_a_key_whose_secret_stays(own: Path, place: ClusterPlace) -> None:
    asked = as_json("request", "--name", "ada", "--out", "ada.request")
    refused = run("approve", "ada.request", "--as", "ada", "--out", "a", code=ExitCode.USAGE)
    assert asked["key"] in refused.stdout and "--fingerprint" in refused.stderr
    other = "aaaa-aaaa-aaaa-aaaa-aaaa-aaaa"
    run("approve", "ada.request", "--as", "ada", "--fingerprint", other, "--out", "a", code=ExitCode.USAGE)
    assert names(place) == ["owner", "engines"] and "a" not in files(own)
    run("approve", "ada.request", "--as", "ada", "--fingerprint", asked["key"], "--expires", "1d", "--out",
        "ada.answer")
    issuer = Registry.load(place).issuer_key.fingerprint
    run("accept", "ada.answer", "--issuer", other, "--out", "ada.json", code=ExitCode.REFUSED)
    shown = run("accept", "ada.answer", "--issuer", issuer, "--out", "ada.json").output
    assert "as expected" in shown and "removed" in shown
    assert load_capability(own / "ada.json").public_key.fingerprint == asked["key"]
    run("renew", "ada", "--expires", "30d", "--out", "new.answer")
    assert "renewed ada.json" in run("accept", "new.answer", "--out", "ada.json").output
    assert as_json("request", "--out", "next.request")["key_file"] == "next.request.key"
    run("rotate", "ada", "--request", "next.request", "--out", "n.answer", code=ExitCode.USAGE)
    run("rotate", "ada", "--request", "next.request", "--yes", "--out", "n.answer")
    assert as_json("accept", "n.answer", "--out", "ada-2.json")["name"] == "ada"
    assert as_json("show", "ada.json")["in_registry"] == "no"


def test_rotate_and_renew_here(own: Path, place: ClusterPlace) -> None:
    run("issue", "ada", "--expires", "1d", "--out", "ada.json")
    before = load_capability(own / "ada.json")
    run("renew", "ada", "--expires", "never", "--file", "ada.json")
    assert load_capability(own / "ada.json").expires == 0
    facts = as_json("rotate", "ada", "--out", "ada-2.json")
    assert facts["grant"]["key"] != before.public_key.fingerprint
    assert Registry.load(place).retired == (before.public_key,)


def test_what_is_not_in_force_fails_and_says_so(
    own: Path, place: ClusterPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from secure_ipp.cluster import registry_change

    monkeypatch.setattr(registry_change, "is_locked", lambda place: True)  # a controller runs, and answers nothing
    monkeypatch.setattr(registry_change.apply, "__kwdefaults__", {"demand": True, "seconds": 0.1})
    for words in (("issue", "ada", "--out", "ada.json"), ("rotate", "ada", "--out", "b.json"), ("revoke", "ada")):
        failed = run(*words, code=ExitCode.ENVIRONMENT)
        assert "not in force" in failed.stderr and "in force now" not in failed.stdout
    assert names(place) == ["owner", "engines"]


def test_engines_that_can_read_the_keys_are_told_of(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner_keys, "is_locked", lambda place: True)
    engines = [{"reads_cluster_dir": reads, "reads_join_file": False} for reads in (True, False)]
    monkeypatch.setattr(owner_keys, "ask", lambda place, what, seconds: {"engines": engines})
    assert "1 engine can read" in run("list").output
    assert as_json("list")["engines_that_can_read_the_keys"] == 1


def test_the_same_in_python(own: Path, place: ClusterPlace) -> None:
    issued = keys_api.issue("ada", "ada.json", rights=["task"], expires="7d", quotas={"tasks": 4})
    assert issued.grant.name == "ada" and not issued.applied.in_force
    assert [one.title for one in keys_api.identities()] == ["owner", "engines", "ada"]
    assert keys_api.describe("ada")["quotas"] == {"tasks": 4}
    assert keys_api.describe(own / "ada.json")["in_registry"] == "yes"
    keys_api.renew("ada", "never", file="ada.json")
    keys_api.rotate("ada", "ada-2.json")
    asked = keys_api.request("ben.request", name="ben")
    keys_api.approve("ben.request", "ben", "ben.answer", fingerprint=asked.fingerprint)
    assert keys_api.accept("ben.answer", "ben.json").capability.name == "ben"
    assert [one.title for one in keys_api.revoke("ben", prefix=True).identities] == ["ben"]
    assert names(place) == ["owner", "engines", "ada"]
    assert keys_api.rotate_server(files=["ada-2.json"]).rotation.phase == "announced"
    step = keys_api.abort_server_rotation()
    assert step is not None and step.rotation.phase == "steady"
    assert keys_api.rotate_server("now").rewritten == (str(place.client_file), str(place.engine_file))
    with pytest.raises(UsageError):
        keys_api.rotate_server("switch")
    assert set(keys_api.__all__) <= set(dir(keys_api))
    assert keys_api.init("lab", bind="127.0.0.1").place == ClusterPlace("lab")
    with pytest.raises(AttributeError):
        keys_api.nothing  # noqa: B018


@pytest.mark.parametrize("module", ["secure_ipp.cluster", "cryptography", "secure_ipp.keys.registry"])
def test_importing_the_room_costs_nothing(module: str) -> None:
    code = f"import sys, secure_ipp, secure_ipp.keys; assert {module!r} not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30, env=dict(os.environ))
