"""The commands about keys while the cluster runs: in force when they return, and for whom they are meant alone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import secure_ipp
from secure_ipp.errors import SecureIppError
from tests import running
from tests.running import RunningCluster

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def cluster() -> Iterator[RunningCluster]:
    """A cluster of this module's own."""
    one = RunningCluster(engines=2)
    one.start()
    yield one
    one.stop()


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tmp_path.chmod(0o700)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def keys(cluster: RunningCluster, *words: str, code: int = 0) -> Any:
    done = cluster.run("secure-ipp", "keys", *words, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout if code == 0 else done.stderr)


def connect(file: Path, **options: Any) -> Any:
    return secure_ipp.Client(file, timeout=20, **options)


def work(client: Any) -> int:
    return int(client.load_balanced_view().apply_sync(lambda: 6 * 7))


def test_an_identity_is_in_force_when_the_command_returns(cluster: RunningCluster, own: Path) -> None:
    made = keys(cluster, "issue", "ada", "--shared-engines", "--out", "ada.json")
    assert (made["in_force"], made["controller"]) == (True, "running")
    with connect(own / "ada.json") as ada:
        assert work(ada) == 42
        gone = keys(cluster, "revoke", "ada")
        assert gone["in_force"] is True
        with pytest.raises(SecureIppError):
            work(ada)
    with pytest.raises(SecureIppError):
        connect(own / "ada.json")
    assert keys(cluster, "show", "ada.json")["in_registry"] == "no"


def test_a_renewal_disturbs_nobody_and_a_rotation_ends_the_old_key_alone(cluster: RunningCluster, own: Path) -> None:
    keys(cluster, "issue", "ben", "--shared-engines", "--expires", "2d", "--out", "ben.json")
    keys(cluster, "issue", "cay", "--shared-engines", "--out", "cay.json")
    with connect(own / "ben.json") as ben, connect(own / "cay.json") as cay:
        assert keys(cluster, "renew", "ben", "--expires", "30d", "--file", "ben.json")["in_force"] is True
        assert work(ben) == work(cay) == 42
        assert keys(cluster, "rotate", "ben", "--out", "ben-2.json")["in_force"] is True
        with pytest.raises(SecureIppError):
            connect(own / "ben.json")
        with connect(own / "ben-2.json") as again:
            assert work(again) == work(cay) == 42
    keys(cluster, "revoke", "ben")
    keys(cluster, "revoke", "cay")


def test_the_secret_stays_with_its_holder_and_lets_it_in(cluster: RunningCluster, own: Path) -> None:
    asked = keys(cluster, "request", "--name", "dee", "--out", "dee.request")
    granted = keys(cluster, "approve", "dee.request", "--as", "dee", "--fingerprint", asked["key"], "--shared-engines",
                   "--out", "dee.answer")
    keys(cluster, "accept", "dee.answer", "--issuer", granted["issuer"], "--out", "dee.json")
    with connect(own / "dee.json") as dee:
        assert work(dee) == 42
    keys(cluster, "revoke", "dee")


def test_a_holder_hands_on_and_the_owner_sees_it_and_takes_it_away(cluster: RunningCluster, own: Path) -> None:
    keys(cluster, "issue", "eli", "--shared-engines", "--expires", "2d", "--out", "eli.json")
    child = keys(cluster, "attenuate", "eli.json", "--rights", "task", "--expires", "1h", "--out", "fay.json")
    assert child["handed_on_by"] == ["eli"] and child["rights"] == ["task"]
    listed = {one["title"]: one for one in keys(cluster, "list")["derived"]}
    assert listed["eli/fay"]["good"] and listed["eli/fay"]["key"] == child["key"]
    with pytest.warns(RuntimeWarning, match="1 hour|59 minutes"):
        fay = connect(own / "fay.json")
    with fay, connect(own / "eli.json") as eli:
        assert work(fay) == work(eli) == 42
        keys(cluster, "revoke", "eli/fay")
        with pytest.raises(SecureIppError):
            work(fay)
        assert work(eli) == 42
    wider = keys(cluster, "attenuate", "eli.json", "--rights", "control", "--out", "gus.json", code=2)
    assert "do not hold" in wider["error"]["message"] and not (own / "gus.json").exists()
    (own / "there.json").write_text("mine")
    assert keys(cluster, "attenuate", "eli.json", "--out", "there.json", code=7)["error"]["code"] == "exists"
    assert [one["title"] for one in keys(cluster, "list")["derived"]] == []
    keys(cluster, "revoke", "eli")


def test_many_commands_at_once_are_all_in_force(cluster: RunningCluster, own: Path) -> None:
    import subprocess

    env = {**os.environ, "SECURE_IPP_HOME": str(cluster.home)}
    started = [
        subprocess.Popen(
            running.argv("secure-ipp", "keys", "issue", f"guest-{number}", "--out", f"{number}.json", "--json"),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, text=True,
        )
        for number in range(6)
    ]
    said = [process.communicate(timeout=60) for process in started]
    assert [process.returncode for process in started] == [0] * 6, said
    facts = [json.loads(out) for out, _ in said]
    assert all(one["in_force"] for one in facts) and len({one["version"] for one in facts}) == 6
    gone = keys(cluster, "revoke", "guest-", "--prefix", "--yes")
    assert len(gone["revoked"]) == 6 and gone["in_force"] is True


def test_with_the_controller_stopped_it_is_in_force_at_its_next_start(cluster: RunningCluster, own: Path) -> None:
    keys(cluster, "issue", "hal", "--shared-engines", "--out", "hal.json")
    assert cluster.run("ipcluster", "stop").returncode == 0
    assert keys(cluster, "revoke", "hal")["controller"] == "stopped"
    made = keys(cluster, "issue", "ida", "--shared-engines", "--out", "ida.json")
    assert (made["in_force"], made["controller"]) == (False, "stopped")
    refused = keys(cluster, "attenuate", "ida.json", "--timeout", "2", "--out", "x.json", code=6)
    assert refused["error"]["code"] == "unreachable"
    cluster.start()
    with pytest.raises(SecureIppError):
        connect(own / "hal.json")
    with connect(own / "ida.json") as ida:
        assert work(ida) == 42
