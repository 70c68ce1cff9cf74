"""Doctor and a real cluster: what it says of doors, and of a file before and after its holder was revoked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.running import RunningCluster, journal_lines

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def town() -> Iterator[RunningCluster]:
    one = RunningCluster(engines=1)
    one.start()
    yield one
    one.stop()


def doctor(town: RunningCluster, *words: str) -> dict[str, list[dict[str, Any]]]:
    done = town.run("secure-ipp", "doctor", *words, "--json")
    found: dict[str, list[dict[str, Any]]] = {}
    for finding in json.loads(done.stdout)["findings"]:
        found.setdefault(finding["check"], []).append(finding)
    return found


def guest(town: RunningCluster, name: str, *words: str) -> Path:
    path = town.home / f"{name}.json"
    done = town.run("secure-ipp", "keys", "issue", name, "--role", "client", *words, "--out", str(path))
    assert done.returncode == 0, done.stderr
    return path


def test_a_healthy_cluster(town: RunningCluster) -> None:
    found = doctor(town)
    for check in ("files", "modes", "ports", "gate", "processes"):
        assert {finding["level"] for finding in found[check]} == {"ok"}, found[check]
    assert len(found["gate"]) == 4 and len(found["processes"]) == 4
    assert any("keys expire by" in finding["text"] and finding["level"] == "ok" for finding in found["clock"])


def test_a_file_until_it_is_revoked(town: RunningCluster) -> None:
    path = guest(town, "visitor", "--rights", "task")
    found = doctor(town, str(path))
    for check in ("file", "rights", "door", "session"):
        assert {finding["level"] for finding in found[check]} == {"ok"}, found[check]
    assert "run load-balanced tasks" in found["rights"][0]["text"]
    assert "knows its holder as visitor" in found["session"][0]["text"]
    done = town.run("secure-ipp", "keys", "revoke", "visitor")
    assert done.returncode == 0, done.stderr
    found = doctor(town, str(path))
    assert "session" not in found
    refused = [finding for finding in found["door"] if finding["level"] == "error"]
    assert len(refused) == 1 and "refuses this file's key" in refused[0]["text"] and "revoked" in refused[0]["advice"]


def test_the_engine_file(town: RunningCluster) -> None:
    found = doctor(town, str(town.place.engine_file))
    assert {finding["level"] for finding in found["door"]} == {"ok"}
    assert "session" not in found, "a session of it would be a host that joins"


def test_looking_changes_nothing(town: RunningCluster) -> None:
    before = town.place.registry.read_bytes()
    begun = max((line["n"] for line in journal_lines(town.place)), default=-1)
    doctor(town, str(town.place.client_file))
    assert town.place.registry.read_bytes() == before
    assert not [line for line in journal_lines(town.place, begun) if "task" in str(line.get("event", ""))]


def test_a_file_of_a_cluster_that_does_not_run(town: RunningCluster) -> None:
    path = guest(town, "late")
    town.stop()
    found = doctor(town, str(path))
    assert found["door"][-1]["level"] == "error" and "none of its doors answers" in found["door"][-1]["text"]
    assert {finding["level"] for finding in doctor(town)["ports"]} == {"ok"}
