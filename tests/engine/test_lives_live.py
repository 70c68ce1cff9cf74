"""How engines and their agent live and die."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from secure_ipp import limits
from secure_ipp.keys.curve import KeyPair
from secure_ipp.payload import calls
from secure_ipp.wire import messages
from tests.engine.stage import SECONDS, Stage
from tests.engine.test_tasks_live import define

pytestmark = pytest.mark.live

PID = define("import os\ndef f(): return os.getpid()")
SLEEP = define("import time\ndef f(seconds):\n    time.sleep(seconds)\n    return 'slept'")


def family(stage: Stage) -> list[psutil.Process]:
    """The agent and all below it."""
    assert stage.process is not None
    agent = psutil.Process(stage.process.pid)
    return [agent, *agent.children(recursive=True)]


def all_gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=SECONDS)
    return not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]


def engine_processes(stage: Stage) -> dict[str, int]:
    """uuid -> pid, as the agent said."""
    found = {}
    for _, message, _ in stage.aside:
        if isinstance(message, messages.EngineStarted):
            found[message.uuid] = message.pid
    return found


def test_engines_are_processes_of_their_own_with_random_states_of_their_own(stage: Stage) -> None:
    uuids = stage.up(3, preload=["numpy", "random"])
    draw = define("import random, numpy\ndef f(): return random.random(), float(numpy.random.random())")
    drawn = [stage.apply(uuid, draw) for uuid in uuids]
    assert len({value for pair in drawn for value in pair}) == 6
    pids = [stage.apply(uuid, PID) for uuid in uuids]
    assert len(set(pids)) == 3
    for pid in pids:
        assert os.getsid(pid) == pid
        files = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
        assert "/dev/null" in files
    assert stage.process is not None
    template = next(p for p in psutil.Process(stage.process.pid).children())
    assert {p.pid for p in template.children()} == set(pids)


def test_death_is_reported_with_what_had_started(stage: Stage) -> None:
    one, two = stage.up(2)
    first = stage.assign(one, calls.pack_call(PID, (), {}))
    stage.value(one, first)
    doomed = stage.assign(one, calls.pack_call(define("import os\ndef f(): os._exit(7)"), (), {}))
    stage.assign(one, calls.pack_call(PID, (), {}))
    died, _ = stage.wait_for(messages.EngineDied)
    assert (died.death.uuid, died.death.started, died.death.status) == (one, doomed, 7)
    crash = define("import ctypes\ndef f(): ctypes.string_at(0)")
    stage.assign(two, calls.pack_call(crash, (), {}))
    died, _ = stage.wait_for(messages.EngineDied)
    assert (died.death.uuid, died.death.started, died.death.status) == (two, 1, -signal.SIGSEGV)
    assert stage.process is not None
    assert stage.process.wait(SECONDS) == 1, "an agent whose engines all crashed ends and says so"


def test_stop_and_restart_of_one_engine(stage: Stage) -> None:
    one, two = stage.up(2)
    pid = stage.apply(one, PID)
    stage.execute(one, "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); mark = 1")
    busy = stage.assign(one, calls.pack_call(SLEEP, (60,), {}))
    stage.wait_for(messages.Started, one)
    stage.tell_agent(messages.StopEngine(one, True))
    died, _ = stage.wait_for(messages.EngineDied)
    assert died.death.started == busy
    assert died.death.reason == "it was stopped"
    fresh = stage.event()
    assert fresh["event"] == "engine" and fresh["uuid"] not in (one, two) and fresh["pid"] != pid
    with pytest.raises(Exception, match="NameError"):
        stage.value(fresh["uuid"], stage.assign(fresh["uuid"], calls.pack_pull("mark")))
    stage.tell_agent(messages.StopEngine(two))
    stage.tell_agent(messages.StopEngine(fresh["uuid"]))
    assert stage.process is not None
    assert stage.process.wait(SECONDS) == 0, "an agent whose engines were all stopped has nothing left to do"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_agent_ends_in_order_and_leaves_nobody(stage: Stage, number: int) -> None:
    uuids = stage.up(2)
    stage.execute(uuids[0], "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    stage.assign(uuids[0], calls.pack_call(SLEEP, (60,), {}))
    processes = family(stage)
    assert len(processes) == 4
    assert stage.process is not None
    stage.process.send_signal(number)
    assert stage.process.wait(SECONDS) == 0
    assert all_gone(processes)
    stage.wait_for(lambda m: m == "gone", "agent-id")
    died = [m for _, m, _ in stage.aside if isinstance(m, messages.EngineDied)]
    assert {m.death.uuid for m in died} == set(uuids)


@pytest.mark.parametrize("victim", ["agent", "template"])
def test_killed_agent_or_template_takes_all_with_it(stage: Stage, victim: str) -> None:
    uuids = stage.up(2)
    stage.assign(uuids[0], calls.pack_call(SLEEP, (60,), {}))
    processes = family(stage)
    template = next(p for p in processes if p.children() and p is not processes[0])
    (processes[0] if victim == "agent" else template).kill()
    assert stage.process is not None
    stage.process.wait(SECONDS)
    assert all_gone(processes)


def test_engines_outlive_a_scheduler_and_report_to_the_next(stage: Stage) -> None:
    (uuid,) = stage.up(1)
    keep = stage.assign(uuid, calls.pack_call(PID, (), {}))
    stage.result(uuid, keep)  # never acknowledged
    slow = stage.assign(uuid, calls.pack_call(SLEEP, (3,), {}))
    queued = stage.assign(uuid, calls.pack_call(PID, (), {}))
    stage.wait_for(messages.Started, uuid)
    stage.drop_seen()
    stage.restart()
    join, _ = stage.wait_for(messages.Join)
    assert join.dead == []
    announce, _ = stage.wait_for(messages.Announce)
    assert stage.uuid_of[announce.keys[0]] == uuid
    report, _ = stage.wait_for(messages.Report)
    assert [(live.number, live.state) for live in report.live] == [(slow, "started"), (queued, "queued")]
    assert (report.highest, report.started, report.finished) == (queued, slow, [keep])
    assert stage.result(uuid, keep).status == "ok"
    assert stage.value(uuid, slow) == "slept"
    assert stage.value(uuid, queued) > 0


def test_death_while_the_scheduler_is_away_is_told_to_the_next(stage: Stage) -> None:
    one, _ = stage.up(2)
    pid = stage.apply(one, PID)
    assert stage.door is not None
    stage.in_loop(stage.door.close)
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=SECONDS)
    time.sleep(0.2)  # for the agent to hear of it while nobody listens
    stage.reopen()
    join, _ = stage.wait_for(lambda m: isinstance(m, messages.Join) and bool(m.dead))
    assert [(death.uuid, death.started, death.status) for death in join.dead] == [(one, 1, -signal.SIGKILL)]


def test_dismissed_agent_ends(stage: Stage) -> None:
    stage.up(1)
    processes = family(stage)
    stage.tell_agent(messages.Dismiss("over"))
    assert stage.process is not None
    assert stage.process.wait(SECONDS) == 0
    assert all_gone(processes)


def test_dismissed_engine_ends_even_while_busy(stage: Stage) -> None:
    one, two = stage.up(2)
    pids = [stage.apply(uuid, PID) for uuid in (one, two)]
    stage.assign(two, calls.pack_call(SLEEP, (60,), {}))
    for uuid in (one, two):
        stage.say(uuid, messages.Dismiss("declared dead"))
    for _ in pids:
        died, _ = stage.wait_for(messages.EngineDied)
        assert died.death.status == 0


def test_spawned_engines_do_the_same(stage: Stage) -> None:
    (uuid,) = stage.up(1, environment={"SECURE_IPP_SPAWN": "1"})
    pid = stage.apply(uuid, PID)
    assert len(family(stage)) == 2
    number = stage.assign(uuid, calls.pack_call(SLEEP, (60,), {}))
    stage.wait_for(messages.Started, uuid)
    stage.tell_agent(messages.SignalEngine(uuid, signal.SIGINT))
    result = stage.result(uuid, number)
    assert result.error is not None and result.error.ename == "KeyboardInterrupt"
    os.kill(pid, signal.SIGKILL)
    died, _ = stage.wait_for(messages.EngineDied)
    assert (died.death.started, died.death.status) == (number, -signal.SIGKILL)


def test_template_with_threads_refuses_to_fork(stage: Stage) -> None:
    (stage.tmp_path / "starts_a_thread.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n"
    )
    (uuid,) = stage.up(1, preload=["starts_a_thread"], environment={"PYTHONPATH": _path(stage.tmp_path)})
    pid = stage.apply(uuid, PID)
    assert stage.process is not None
    assert psutil.Process(pid).ppid() == stage.process.pid, "spawned by the agent instead"


def _path(more: Path) -> str:
    from tests.engine.stage import ROOT

    return os.pathsep.join([ROOT, str(more)])


def test_refused_key_is_an_error_with_advice(stage: Stage) -> None:
    stage.join_keys = KeyPair.generate()
    stage.gate._started_at -= limits.GATE_GRACE_SECONDS  # after it, an unknown key is refused for good
    stage.start_agent(1)
    event = stage.event()
    assert event["event"] == "failed" and event["code"] == "key-refused" and event["advice"]
    assert stage.process is not None
    assert stage.process.wait(SECONDS) != 0


def test_client_file_is_refused_with_advice(stage: Stage) -> None:
    capability: Any = stage.capability(role="client", rights=("task",)).as_dict()
    stage.start_agent(1, capability=capability)
    event = stage.event()
    assert event["event"] == "failed" and "engine" in event["advice"]
    assert stage.process is not None
    assert stage.process.wait(SECONDS) == 2


def test_engines_say_whether_they_can_open_what_they_should_not(stage: Stage) -> None:
    secret = stage.tmp_path / "private"
    secret.mkdir(mode=0o700)
    join_file = secret / "engine.json"
    join_file.write_text("{}")
    stage.up(1, cluster_dir=str(secret), join_file=str(secret / "absent"))
    report, _ = stage.wait_for(messages.Report)
    assert report.reads_cluster_dir is True
    assert report.reads_join_file is False
