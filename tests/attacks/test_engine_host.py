"""Attacks on an engine host: looking for keys where they must not be (S11, S12)."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import psutil
import pytest

from tests.engine.conftest import stage as stage  # the fixture
from tests.engine.stage import Stage
from tests.engine.test_lives_live import family
from tests.engine.test_tasks_live import define

pytestmark = [pytest.mark.live, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]


def memory_holds(pid: int, secrets: list[bytes]) -> bool:
    """Whether any of these stands in the writable memory of a process."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            match = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw.. \S+ \S+ \S+ *(.*)", line)
            if match is None or match[3].startswith("[v"):
                continue
            first, last = int(match[1], 16), int(match[2], 16)
            memory.seek(first)
            piece = b""
            while first < last:
                try:
                    data = memory.read(min(1 << 22, last - first))
                except OSError:
                    break
                if not data:
                    break
                if any(secret in piece[-64:] + data for secret in secrets):
                    return True
                piece, first = data, first + len(data)
    return False


def test_s12_join_key_is_in_the_agent_and_nowhere_else(stage: Stage) -> None:
    uuids = stage.up(2, preload=["json"])
    for uuid in uuids:
        stage.apply(uuid, define("def f(): return 1"))
    secrets = [stage.join_keys.secret.raw, stage.join_keys.secret.text.encode()]
    agent, *others = family(stage)
    assert len(others) == 3
    assert memory_holds(agent.pid, secrets), "the search must be able to find something"
    for process in others:
        assert not memory_holds(process.pid, secrets)


def test_s12_session_key_is_in_its_engine_and_the_agent_only(stage: Stage) -> None:
    one, two = stage.up(2)
    find = define(
        "import gc, os\ndef f():\n"
        "    return os.getpid(), [o.secret_key for o in gc.get_objects() if type(o).__name__ == 'EngineBootstrap'][0]"
    )
    (first_pid, first), (second_pid, second) = stage.apply(one, find), stage.apply(two, find)
    assert first != second
    _, *others = family(stage)
    assert memory_holds(first_pid, [first.encode()])
    for process in others:
        own = {first_pid: first, second_pid: second}.get(process.pid)
        assert not memory_holds(process.pid, [key.encode() for key in (first, second) if key != own])


def test_s11_no_secret_in_argv_or_environment_and_no_core_of_the_agent(stage: Stage) -> None:
    stage.up(1)
    secret = stage.join_keys.secret.text.encode()
    for process in family(stage):
        for file in ("cmdline", "environ"):
            assert secret not in Path(f"/proc/{process.pid}/{file}").read_bytes()
    assert stage.process is not None
    assert psutil.Process(stage.process.pid).rlimit(psutil.RLIMIT_CORE) == (0, 0)


def test_s12_siblings_share_no_descriptor_but_the_standard_ones(stage: Stage) -> None:
    uuids = stage.up(3)
    code = (
        "import os\ndef f():\n    names = [f'/proc/self/fd/{n}' for n in os.listdir('/proc/self/fd') if int(n) > 2]\n"
        "    return {os.readlink(name) for name in names if os.path.lexists(name)}"
    )
    found = [stage.apply(uuid, define(code)) for uuid in uuids]
    shared = {name for name in found[0] & found[1] if name.startswith(("socket:", "pipe:"))}
    assert not shared
