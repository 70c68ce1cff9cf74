"""The commands as a user types them, against real processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.running import RunningCluster, argv, command, gone, our_processes, wait_until

pytestmark = pytest.mark.live


@pytest.fixture
def own(request: pytest.FixtureRequest) -> RunningCluster:
    """A cluster of this test's own; started by the test, stopped afterwards whatever happens."""
    one = RunningCluster(engines=1)
    request.addfinalizer(one.stop)
    return one


def init(own: RunningCluster) -> dict[str, object]:
    done = own.run("secure-ipp", "keys", "init", "--bind", "127.0.0.1", "--host", "127.0.0.1", "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def foreground(own: RunningCluster, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        argv("ipcluster", "start", *args), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        stdin=subprocess.DEVNULL, env={**os.environ, "SECURE_IPP_HOME": str(own.home)}, start_new_session=True,
    )


def until(process: subprocess.Popen[str], word: str) -> str:
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if word in line:
            return seen
    pytest.fail(f"ended without saying {word!r}: {seen}")


def nothing_is_left_of(own: RunningCluster) -> None:
    marked = our_processes(own.home)
    assert not marked, [p.cmdline() for p in marked]
    left = {path.name for path in own.place.runtime_path.iterdir()}
    assert left <= {"controller.lock", "registry.lock"}, left
    assert not own.place.state_file.exists()


def test_the_life_of_a_cluster(own: RunningCluster) -> None:
    own.start()
    listed = json.loads(own.run("ipcluster", "list", "--json").stdout)
    assert [(entry["cluster"], entry["state"], entry["engines"]) for entry in listed] == [("default", "running", 1)]
    status = own.status()
    assert len(status["engines"]) == 1 and status["scheduler"]["connected"]
    text = own.run("secure-ipp", "status")
    assert text.returncode == 0 and "both with Curve" in text.stdout
    begun = time.monotonic()
    stopped = own.stop()
    assert stopped.returncode == 0 and "stopped" in stopped.stdout
    assert time.monotonic() - begun < 10
    nothing_is_left_of(own)
    assert json.loads(own.run("ipcluster", "list", "--json").stdout)[0]["state"] == "stopped"


def test_ports_and_files_stay_over_a_restart(own: RunningCluster) -> None:
    own.start()
    before = own.status()["controller"]
    client_file = own.place.client_file.read_bytes()
    own.stop()
    own.start()
    after = own.status()["controller"]
    assert (before["client_port"], before["engine_port"]) == (after["client_port"], after["engine_port"])
    assert own.place.client_file.read_bytes() == client_file


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_in_the_foreground_leaves_nothing(own: RunningCluster, signum: int) -> None:
    init(own)
    process = foreground(own, "-n", "1")
    until(process, "Ctrl-C stops it")
    pids = [*own.pids().values(), *own.agent_pids()]
    process.send_signal(signum)
    assert process.wait(15) == 0
    assert gone(pids, 1.0)
    nothing_is_left_of(own)
    process.communicate()


def test_an_interrupt_while_starting_leaves_nothing(own: RunningCluster) -> None:
    init(own)
    process = foreground(own, "-n", "1")
    until(process, "controller of cluster")
    process.send_signal(signal.SIGINT)
    process.wait(15)
    wait_until(lambda: not own.place.state_file.exists(), 5)
    nothing_is_left_of(own)
    process.communicate()


def test_killing_the_command_in_the_foreground_ends_its_cluster(own: RunningCluster) -> None:
    init(own)
    process = foreground(own, "-n", "1")
    until(process, "Ctrl-C stops it")
    pids = [*own.pids().values(), *own.agent_pids()]
    process.kill()
    process.communicate()
    assert gone(pids, 12.0)
    own.stop()
    nothing_is_left_of(own)


def test_killing_the_supervisor_ends_the_controller_within_two_seconds(own: RunningCluster) -> None:
    own.start()
    pids = own.pids()
    os.kill(pids["supervisor"], signal.SIGKILL)
    assert gone([pids["hub"], pids["scheduler"]], 2.0)
    stopped = own.stop()
    assert stopped.returncode == 0
    nothing_is_left_of(own)


@pytest.mark.parametrize("victim", ["hub", "scheduler"])
def test_a_process_that_dies_is_told_of_and_started_again(own: RunningCluster, victim: str) -> None:
    init(own)
    process = foreground(own, "-n", "1")
    until(process, "Ctrl-C stops it")
    client = own.client()
    before = own.pids()
    os.kill(before[victim], signal.SIGKILL)
    until(process, f"the {victim} had died and is running again")
    after = own.pids()
    assert after[victim] != before[victim] and after["supervisor"] == before["supervisor"]
    assert client[:].apply_sync(lambda: 7) == [7]
    process.send_signal(signal.SIGINT)
    assert process.wait(15) == 0
    process.communicate()
    nothing_is_left_of(own)


def test_stop_in_another_terminal_ends_the_foreground_command(own: RunningCluster) -> None:
    init(own)
    process = foreground(own, "-n", "1")
    until(process, "Ctrl-C stops it")
    assert own.stop().returncode == 0
    assert process.wait(15) == 0
    nothing_is_left_of(own)
    process.communicate()


def test_more_engines_and_fewer(own: RunningCluster) -> None:
    own.start()
    assert own.run("ipcluster", "engines", "-n", "1", "--daemonize").returncode == 0
    assert len(own.status()["engines"]) == 2
    assert {path.name for path in own.place.log_dir.glob("agent*.log")} == {"agent.log", "agent-2.log"}


def test_an_engine_with_a_copied_file(own: RunningCluster, tmp_path: Path) -> None:
    own.start()
    copy = tmp_path / "ipcontroller-engine.json"
    copy.touch(mode=0o600)
    copy.write_bytes(own.place.engine_file.read_bytes())
    process = subprocess.Popen(
        argv("ipengine", "-n", "1", "--file", str(copy)), stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL,
        env={**os.environ, "SECURE_IPP_HOME": str(tmp_path / "nothing")}, start_new_session=True,
    )
    until(process, "Ctrl-C stops them")
    assert len(own.status()["engines"]) == 2
    process.send_signal(signal.SIGINT)
    assert process.wait(15) == 0
    wait_until(lambda: len(own.status()["engines"]) == 1, 10)
    process.communicate()


def test_logs_are_private_and_one_a_process(own: RunningCluster) -> None:
    own.start()
    own.client()[:].apply_sync(os.getpid)
    own.stop()
    files = {path.name: path.stat().st_mode & 0o777 for path in own.place.log_dir.iterdir()}
    assert {"supervisor.log", "hub.log", "scheduler.log", "agent.log", "engine-0.log"} <= set(files)
    assert set(files.values()) == {0o600}
    assert own.place.log_dir.stat().st_mode & 0o777 == 0o700


# --- bad input ---------------------------------------------------------------------------------------------


def test_start_without_keys_names_the_command_that_makes_them(home: Path) -> None:
    done = command("ipcluster", "start", "-n", "1")
    assert done.returncode == 3
    assert "secure-ipp keys init" in done.stderr and "Traceback" not in done.stderr


def test_a_wrong_cluster_name(own: RunningCluster) -> None:
    init(own)
    done = own.run("ipcluster", "start", "--cluster", "nonsuch")
    assert done.returncode == 3 and "secure-ipp keys init --cluster nonsuch" in done.stderr
    bad = own.run("ipcluster", "start", "--cluster", "../etc")
    assert bad.returncode == 2 and "is not a name" in bad.stderr


@pytest.mark.parametrize("door", ["client_door", "engine_door"])
def test_a_port_in_use_is_named(own: RunningCluster, door: str) -> None:
    address = init(own)[door]
    assert isinstance(address, list)
    port = int(str(address[0]).rpartition(":")[2])
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen(1)
        done = own.run("ipcluster", "start", "-n", "1", "--daemonize")
    assert done.returncode == 7
    assert f"port {port}" in done.stderr and "is in use" in done.stderr and f"process {os.getpid()}" in done.stderr
    nothing_is_left_of(own)


def test_a_second_controller_is_refused_and_disturbs_nothing(own: RunningCluster) -> None:
    own.start()
    done = own.run("ipcluster", "start", "-n", "1", "--daemonize")
    assert done.returncode == 7 and "is running already" in done.stderr and "ipcluster stop" in done.stderr
    assert len(own.status()["engines"]) == 1
    assert own.client()[:].apply_sync(lambda: 7) == [7]


def test_stopping_what_does_not_run_is_no_error(own: RunningCluster) -> None:
    init(own)
    assert own.stop().returncode == 0
    assert own.run("secure-ipp", "status").returncode == 4


def test_no_curve_is_refused_with_the_way_on(own: RunningCluster) -> None:
    init(own)
    for name, *args in (["ipcluster", "start", "--no-curve"], ["ipcontroller", "--no-curve"]):
        done = own.run(name, *args)
        assert done.returncode == 2 and "has Curve" in done.stderr and "secure-ipp keys init --no-curve" in done.stderr
    nothing_is_left_of(own)


def test_a_client_file_given_to_an_engine(own: RunningCluster) -> None:
    init(own)
    done = own.run("ipengine", "--file", str(own.place.client_file))
    assert done.returncode == 5 and "ipcontroller-engine.json" in done.stderr


def test_an_engine_without_a_controller_gives_up_and_says_so(own: RunningCluster) -> None:
    """The agent's own patience is a minute; that it may be interrupted meanwhile is what is shown here."""
    init(own)
    process = subprocess.Popen(
        argv("ipengine"), stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL,
        env={**os.environ, "SECURE_IPP_HOME": str(own.home)}, start_new_session=True,
    )
    wait_until(own.agent_pids, 10)
    pids = own.agent_pids()
    process.send_signal(signal.SIGINT)
    process.wait(15)
    process.communicate()
    assert gone(pids, 1.0)
    nothing_is_left_of(own)


def test_doctor_finds_an_open_file(own: RunningCluster) -> None:
    init(own)
    assert own.run("secure-ipp", "doctor", "--json").returncode in (0, 1)
    own.place.client_file.chmod(0o644)
    done = own.run("secure-ipp", "doctor", "--json")
    assert done.returncode == 7
    found = json.loads(done.stdout)
    assert found["worst"] == "error"
    assert any("chmod 600" in finding["advice"] for finding in found["findings"] if finding["level"] == "error")
    own.place.client_file.chmod(0o600)


def test_s25_a_cluster_without_curve_listens_on_unix_sockets_alone(own: RunningCluster) -> None:
    """From its start to its end, and after all of it was killed at once."""
    assert own.run("secure-ipp", "keys", "init", "--no-curve").returncode == 0
    done = own.run("ipcluster", "start", "--no-curve", "-n", "1", "--daemonize")
    assert done.returncode == 0, done.stderr
    for pid in [*own.pids().values(), *own.agent_pids()]:
        heard = [one for one in psutil.Process(pid).net_connections("inet") if one.status == psutil.CONN_LISTEN]
        assert not heard, (psutil.Process(pid).cmdline(), heard)
    doors = [own.place.client_door_socket(), own.place.engine_door_socket()]
    assert [stat.S_IMODE(path.stat().st_mode) & 0o077 for path in doors] == [0, 0]
    said = own.run("secure-ipp", "status").stdout
    assert "doors: no port; by ssh" in said and "both with Curve" not in said
    told = json.loads(own.run("secure-ipp", "doctor", "--json").stdout)["findings"]
    assert [one["level"] for one in told if one["check"] == "gate"] == ["ok"] * 4
    gone_now = list(own.pids().values())
    for pid in gone_now:
        os.kill(pid, signal.SIGKILL)
    assert gone(gone_now, 5.0)
    assert own.run("ipcluster", "start", "--no-curve", "-n", "0", "--daemonize").returncode == 0
    assert own.stop().returncode == 0
    nothing_is_left_of(own)


def test_s25_the_door_for_ssh_is_opened_beside_curve_for_one_run(own: RunningCluster) -> None:
    init(own)
    done = own.run("ipcluster", "start", "--ssh-door", "-n", "0", "--daemonize")
    assert done.returncode == 0 and "secure-ipp keys ways --ssh-door" in done.stderr
    assert own.place.client_door_socket().is_socket()
    assert "both with Curve; by ssh" in own.run("secure-ipp", "status").stdout
    own.stop()
    nothing_is_left_of(own)
