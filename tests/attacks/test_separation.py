"""Engines that can reach the owner's keys, and engines that cannot (S26): both are told apart, and shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from typing import Any

import pytest

from secure_ipp.cluster import control
from secure_ipp.keys.capability import load_capability
from tests.attacks.rogue import Trail
from tests.running import ROOT, RunningCluster, journal_lines, short_directory, wait_until

pytestmark = pytest.mark.live
NOBODY = 65534


@pytest.fixture
def town() -> Iterator[RunningCluster]:
    cluster = RunningCluster(engines=1)
    cluster.start()
    yield cluster
    cluster.stop()


def read_text(path: str) -> str:
    from pathlib import Path

    return Path(path).read_text()


def engines(town: RunningCluster) -> list[dict[str, Any]]:
    return list(control.ask(town.place, "status")["engines"])


def test_s26_an_engine_that_reads_the_keys_is_shown_with_what_to_do(town: RunningCluster) -> None:
    """It is the owner's uid, so it can; rights and revocation do not bind code there, and that is said."""
    wait_until(lambda: engines(town))
    assert engines(town)[0]["reads_cluster_dir"] and engines(town)[0]["reads_join_file"]
    client = town.client()
    client.wait_for_engines(1, timeout=30)
    stolen = client[0].apply_sync(read_text, str(town.place.engine_file))
    assert load_capability(town.place.engine_file).secret_key.text in stolen, "what is shown is true"
    shown = town.run("secure-ipp", "status")
    assert "can read the cluster's private files" in shown.stdout and "another user or on another host" in shown.stdout
    issue = ["issue", "guest", "--out", str(town.home / "guest.json")]
    for name, *words in (
        ["secure-ipp", "status"], ["ipcluster", "list"], ["secure-ipp", "keys", *issue], ["secure-ipp", "keys", "list"],
        ["secure-ipp", "doctor"],
    ):
        said = " ".join(town.run(name, *words).stdout.split())
        assert "can read" in said and "rights and revocation do not bind" in said, (name, words, said)
        assert "as another user or on another host, or hide the cluster's directory" in said, (name, words, said)
    (listed,) = json.loads(town.run("ipcluster", "list", "--json").stdout)
    assert listed["engines_that_can_read_the_keys"] == 1
    found = json.loads(town.run("secure-ipp", "doctor", "--json").stdout)["findings"]
    (separation,) = [finding for finding in found if finding["check"] == "separation"]
    assert separation["level"] == "note" and "1 of 1" in separation["text"] and separation["advice"]
    (record,) = [line for line in journal_lines(town.place) if line["event"] == "engine_joined"]
    assert record["reads_cluster_dir"] and record["reads_join_file"]


HIDE = 'mount -t tmpfs -o mode=0755 none "$1" && exec "$2" -P -m secure_ipp.engine.agent'


def python_of_everybody() -> str:
    """An interpreter of this version that another user may run: ours, or the system's.

    Raises:
        OSError: there is none.
    """
    candidates = (sys.executable, "/usr/bin/python{}.{}".format(*sys.version_info))
    for candidate in candidates:
        try:
            if subprocess.run([candidate, "-c", ""], user=NOBODY, group=NOBODY, cwd="/", check=False).returncode == 0:
                return candidate
        except OSError:
            continue  # under somebody's private home, or not there
    raise FileNotFoundError(f"another user can run none of {', '.join(candidates)}")


def start_apart(town: RunningCluster, how: str) -> subprocess.Popen[bytes]:
    """An agent that is told the file over a pipe: as another user, or with the directory hidden from it.

    Raises:
        OSError: this machine does not let us.
    """
    home = short_directory()
    command: list[str] = [sys.executable, "-P", "-m", "secure_ipp.engine.agent"]
    options: dict[str, Any] = {}
    packages = os.pathsep.join([str(ROOT), sysconfig.get_paths()["platlib"]])
    if how == "user":
        command[0] = python_of_everybody()
        os.chown(home, NOBODY, NOBODY)
        options = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    else:
        command = ["unshare", "--mount", "sh", "-c", HIDE, "sh", str(town.place.dir), sys.executable]
    agent = subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/", **options,
        env={**os.environ, "HOME": str(home), "IPYTHONDIR": str(home), "PYTHONPATH": packages},
    )
    orders = {
        "capability": load_capability(town.place.engine_file).as_dict(), "engines": 1, "work_dir": str(home),
        "cluster_dir": str(town.place.dir), "join_file": str(town.place.engine_file),
    }
    assert agent.stdin is not None
    agent.stdin.write(json.dumps(orders).encode() + b"\n")
    agent.stdin.flush()
    return agent


@pytest.mark.parametrize("how", ["user", "namespace"])
def test_s26_an_engine_that_was_kept_apart_is_not_counted_among_them(town: RunningCluster, how: str) -> None:
    """Both ways that the advice names; the engine tries, and cannot."""
    wait_until(lambda: engines(town))
    trail = Trail(town.place)
    try:
        agent = start_apart(town, how)
    except OSError as error:
        pytest.skip(f"no engine of another kind can be had here: {error}")
    try:
        wait_until(lambda: agent.poll() is not None or len(engines(town)) == 2, 30)
        if agent.poll() is not None:
            pytest.skip("another user cannot run this Python, or mount")
        apart = engines(town)[1]
        assert not apart["reads_cluster_dir"] and not apart["reads_join_file"]
        client = town.client()
        client.wait_for_engines(2, timeout=30)
        with pytest.raises(Exception, match=r"PermissionError|FileNotFoundError"):
            client[apart["id"]].apply_sync(read_text, str(town.place.engine_file))
        trail.wait("engine_joined", uuid=apart["uuid"], reads_cluster_dir="False", reads_join_file="False")
        assert "1 of 2" in town.run("secure-ipp", "doctor").stdout
    finally:
        agent.terminate()
        agent.wait(20)
        if agent.stdin is not None:
            agent.stdin.close()
