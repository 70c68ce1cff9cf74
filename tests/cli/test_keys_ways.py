"""``secure-ipp keys ways``, the options for ssh of commands that make files, and what other commands say of them."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from secure_ipp import keys as keys_api
from secure_ipp.cli import cluster_commands, doctor_file, main, running, status
from secure_ipp.cli.checks import Finding
from secure_ipp.cli.doctor_file import Examination
from secure_ipp.cli.keys import keys
from secure_ipp.cli.options import ExitCode
from secure_ipp.cluster import launch, state
from secure_ipp.errors import UsageError
from secure_ipp.keys.capability import load_capability
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.registry import Registry
from secure_ipp.wire import intruder

KEYS = (f"SHA256:{'a' * 42}A", f"SHA256:{'b' * 42}A")
ROUTE = "ada@login.example:2222"
SAY = ("--ssh", ROUTE, "--ssh-host-key", KEYS[0], "--ssh-host-key", KEYS[1])


@pytest.fixture
def place(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterPlace:
    path = tmp_path / "own"
    path.mkdir(mode=0o700)
    monkeypatch.chdir(path)
    return ClusterPlace("default", home)


def run(*words: str, code: int = 0) -> Any:
    result = CliRunner().invoke(keys, words)
    assert result.exit_code == code, result.output
    return result


def as_json(*words: str) -> Any:
    return json.loads(run(*words, "--json").stdout)


def command(*words: str, code: int = 0) -> Any:
    result = CliRunner().invoke(main.secure_ipp, words)
    assert result.exit_code == code, result.output
    return result


def test_init_says_the_ways(place: ClusterPlace) -> None:
    output = run("init", "--bind", "127.0.0.1", *SAY, "--ssh-door", "--require-post-quantum").output
    for text in (ROUTE, *KEYS, "only the account that owns the cluster", "ipcluster start -n 4", "copy"):
        assert text in output
    file = load_capability(place.client_file)
    assert (file.ssh, file.ssh_host_keys, file.post_quantum) == (ROUTE, KEYS, True)
    assert len(file.tcp_doors) == len(file.socket_doors) == 1


def test_init_without_curve_says_how_it_is_started_and_opens_no_port(place: ClusterPlace) -> None:
    output = run("init", "--no-curve", "--cluster", "lab").output
    assert "ipcluster start --cluster lab --no-curve -n 4" in output and "no port" in output
    assert "a firewall" not in output and "cannot connect" in output
    facts = as_json("init", "--no-curve", "--cluster", "more", *SAY)
    assert facts["client_door"] == list(load_capability(ClusterPlace("more").client_file).door)
    assert facts["client_door"][0].startswith("ipc:///") and facts["ways"]["curve"] is False
    assert "a client's host" in run("init", "--no-curve", "--cluster", "last", *SAY).output


@pytest.mark.parametrize("words", [
    ("--client-port", "25001"), ("--engine-port", "25001"), ("--bind", "127.0.0.1"), ("--host", "head.example"),
    ("--ssh", "-x"), ("--ssh-host-key", KEYS[0]), ("--ssh", ROUTE, "--ssh-host-key", "SHA256:short"),
])
def test_init_refuses_what_cannot_be(place: ClusterPlace, words: tuple[str, ...]) -> None:
    assert "->" in run("init", "--no-curve", *words, code=ExitCode.USAGE).stderr
    assert not place.config.exists()


def test_ways_are_shown_and_changed(place: ClusterPlace) -> None:
    run("init", "--bind", "127.0.0.1")
    before = place.client_file.read_bytes()
    assert "door for ssh   none" in run("ways").output and place.client_file.read_bytes() == before
    facts = as_json("ways", *SAY, "--ssh-door", "--require-post-quantum")
    assert (facts["ssh"], facts["ssh_host_keys"], facts["require_post_quantum"]) == (ROUTE, list(KEYS), True)
    assert facts["rewritten"] == [str(place.client_file), str(place.engine_file)] and not facts["restart_needed"]
    assert facts["sockets"] == [str(place.client_door_socket()), str(place.engine_door_socket())]
    assert as_json("ways")["ssh_door"] is True
    assert as_json("show", str(place.engine_file))["door"][1] == f"ipc://{place.engine_door_socket()}"
    output = run("ways", "--no-ssh-door").output
    assert "door for ssh   none" in output and f"rewritten: {place.client_file}" in output
    assert "rewritten" not in run("ways", "--no-ssh-door").output


def running_with(place: ClusterPlace, **sockets: str) -> state.ControllerState:
    """This process, on record as the cluster's controller."""
    pid = os.getpid()
    made = state.ControllerState(
        cluster="default", host=socket.gethostname(), pid=pid, created=state.created_at(pid), client_port=5,
        engine_port=6, bind="*", started=0.0, hub=0, scheduler=0, restarts=0, version="0", **sockets,
    )
    state.write_state(place, made)
    return made


def test_ways_say_that_a_controller_has_the_doors_of_its_start(place: ClusterPlace) -> None:
    run("init", "--bind", "127.0.0.1")
    running_with(place)
    assert "after a new start" in run("ways", "--ssh-door").output
    assert "after a new start" in run("ways").output
    running_with(place, client_socket="/run/a", engine_socket="/run/b")  # it was started with --ssh-door
    assert "after a new start" not in run("ways", "--ssh-door").output


def test_files_are_left_and_told_of_where_they_cannot_be_opened(place: ClusterPlace) -> None:
    run("init", "--bind", "127.0.0.1")
    place.client_file.chmod(0o644)
    facts = as_json("ways", "--ssh-door")
    assert [one["file"] for one in facts["left"]] == [str(place.client_file)]
    assert facts["rewritten"] == [str(place.engine_file)]
    place.client_file.chmod(0o600)
    assert as_json("ways", "--ssh-door")["rewritten"] == [str(place.client_file)]


def test_files_of_others_say_what_was_ordered(place: ClusterPlace) -> None:
    run("init", "--bind", "127.0.0.1", *SAY, "--ssh-door")
    for name, words, expected in (
        ("a", (), (ROUTE, list(KEYS), 1)), ("b", ("--ssh-door",), (ROUTE, list(KEYS), 2)),
        ("c", ("--ssh", ""), ("", [], 1)), ("d", ("--ssh", "gate.example"), ("gate.example", [], 1)),
        ("e", ("--ssh-host-key", KEYS[1], "--no-ssh-door"), (ROUTE, [KEYS[1]], 1)),
    ):
        run("issue", name, *words, "--out", f"{name}.json")
        facts = as_json("show", f"{name}.json")
        assert (facts["ssh"], facts["ssh_host_keys"], len(facts["door"])) == expected
    run("rotate", "a", "--ssh-door", "--out", "a2.json")
    run("request", "--name", "f", "--out", "f.request")
    run("approve", "f.request", "--as", "f", "--yes", "--ssh-door", "--out", "f.answer")
    run("accept", "f.answer", "--out", "f.json")
    run("renew", "b", "--expires", "3d", "--file", "b.json")
    for file in ("a2.json", "f.json", "b.json"):
        assert len(load_capability(file).socket_doors) == 1
    run("renew", "f", "--expires", "3d", "--out", "renewed", "--no-ssh-door")
    run("accept", "renewed", "--out", "f.json")
    assert not load_capability("f.json").socket_doors


@pytest.mark.parametrize("words", [
    ("renew", "owner", "--expires", "3d", "--file", "x", "--ssh-door"), ("rotate", "--ssh-door"),
    ("renew", "owner", "--expires", "3d", "--file", "x", "--ssh-host-key", KEYS[0]), ("rotate", "--ssh", ROUTE),
    ("issue", "ada", "--ssh-door", "--out", "x"), ("issue", "ada", "--ssh-host-key", KEYS[0], "--out", "x"),
    ("issue", "ada", "--ssh-host-key", "here;x", "--ssh", ROUTE, "--out", "x"), ("ways", "--ssh-host-key", KEYS[0]),
])
def test_wrong_usage_changes_nothing(place: ClusterPlace, words: tuple[str, ...]) -> None:
    run("init", "--bind", "127.0.0.1")
    before = place.config.read_bytes()
    run(*words, code=ExitCode.USAGE)
    assert Registry.load(place).version == 1 and place.config.read_bytes() == before and not os.listdir()


def test_in_python(place: ClusterPlace) -> None:
    keys_api.init(bind="127.0.0.1", ssh=ROUTE, ssh_host_keys=KEYS)
    changed = keys_api.change_ways(ssh_door=True, require_post_quantum=True)
    assert changed.config.ssh_door and len(changed.files) == 2
    keys_api.issue("ada", "ada.json", ssh_door=True)
    assert keys_api.describe("ada.json")["post_quantum"] and load_capability("ada.json").socket_doors
    with pytest.raises(UsageError) as caught:
        keys_api.issue("ben", "ben.json", ssh="a b")
    assert caught.value.advice


# --- what other commands say of them ----------------------------------------------------------------------------


def test_a_run_with_the_door_says_which_files_do_not_name_it(
    place: ClusterPlace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("init", "--bind", "127.0.0.1", "--cluster", "lab")
    lab = ClusterPlace("lab", place.home)
    running.note_on_ssh_door(lab)
    told = capsys.readouterr().err
    assert "ipcontroller-client.json and ipcontroller-engine.json do not name" in told
    run(*told.rpartition("secure-ipp keys ")[2].split())  # the command that it names is the one that helps
    running.note_on_ssh_door(lab)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("words", [("cluster", "start"), ("controller",)], ids=" ".join)
@pytest.mark.parametrize("curve", [True, False])
def test_what_was_asked_for_reaches_the_supervisor(
    place: ClusterPlace, words: tuple[str, ...], curve: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def start(place: ClusterPlace, **said: Any) -> None:
        asked.append(said)
        raise UsageError("it has been asked for, and that is all")

    monkeypatch.setattr(launch, "start_controller", start)
    run("init", *(() if curve else ("--no-curve",)))
    CliRunner().invoke(main.secure_ipp, [*words, "--ssh-door", *(() if curve else ("--no-curve",))])
    (one,) = asked
    assert one["ssh_door"] is True and one["curve"] is curve


def test_list_says_how_a_cluster_is_reached(place: ClusterPlace) -> None:
    run("init", "--bind", "127.0.0.1", "--ssh-door")
    run("init", "--no-curve", "--cluster", "lab")
    output = CliRunner().invoke(main.ipcluster, ["list"]).output
    assert "ssh only" in output and " + ssh" in output
    first, second = (cluster_commands.describe(ClusterPlace(name, place.home)) for name in ("default", "lab"))
    assert (first["curve"], first["ssh_door"], second["curve"], second["client_port"]) == (True, True, False, 0)


def test_status_says_which_doors_are_open() -> None:
    ports = {"client_port": 5, "engine_port": 6, "client_socket": "", "engine_socket": ""}
    assert status._doors(ports) == "clients 5, engines 6, both with Curve"
    both = {**ports, "client_socket": "/run/a", "engine_socket": "/run/b"}
    told = status._doors(both)
    assert told.startswith("clients 5, engines 6, both with Curve; by ssh") and "/run/a" in told
    assert status._doors({**both, "client_port": 0, "engine_port": 0}).startswith("no port; by ssh")


def test_a_state_file_of_an_earlier_version_is_read(place: ClusterPlace) -> None:
    """It names no sockets."""
    run("init", "--bind", "127.0.0.1")
    made = running_with(place)
    plain = json.loads(place.state_file.read_text())
    del plain["client_socket"], plain["engine_socket"]
    place.state_file.write_text(json.dumps(plain))
    assert state.read_state(place) == made


def test_the_doctor_of_a_file_says_what_it_can_of_its_ways(
    place: ClusterPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("init", "--no-curve", *SAY, "--require-post-quantum")

    def found(check: str) -> list[Any]:
        checks = dict(Examination(str(place.client_file)).checks())
        list(checks["file"]())
        return list(checks[check]())

    (door,) = found("door")
    assert door.level == "note" and "not on this host" in door.text and ROUTE in door.text
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place.client_door_socket()))
        assert found("door")[0].level == "note" and "cannot be reached" in found("door")[0].text
        listener.listen(4)
        for verdict, level in (("admitted", "ok"), ("refused", "error"), ("silent", "error")):
            monkeypatch.setattr(intruder, "try_door", lambda *args, proves, verdict=verdict: verdict)
            assert found("door")[0].level == level
    monkeypatch.setattr(doctor_file, "route_finding", lambda capability: Finding("route", "ok", capability.ssh))
    ssh, quantum, tried = found("ssh")
    assert tried.text == ROUTE
    assert ROUTE in ssh.text and "2 fingerprints" in ssh.text and "post-quantum" in quantum.text
    run("ways", "--ssh", "", "--no-require-post-quantum")
    (warning,) = found("ssh")
    assert warning.level == "warning" and "names no route" in warning.text and warning.advice


def test_the_doctor_of_a_cluster_without_curve_asks_for_no_port(place: ClusterPlace) -> None:
    from secure_ipp.cli.doctor_cluster import door_ports, gate

    run("init", "--no-curve")
    (finding,) = door_ports(place)
    assert finding.level == "ok" and "no port" in finding.text
    assert not list(gate(place))


def test_a_start_without_saying_so_starts_nothing(place: ClusterPlace) -> None:
    run("init", "--no-curve")
    with pytest.raises(UsageError, match="made without Curve"):
        launch.start_controller(place)
    told = command("cluster", "start", code=ExitCode.USAGE).stderr
    assert "ipcluster start --no-curve" in told
