"""S11, S12: no secret of a whole run stands where anybody else could find it.

The run is a real one, at its most talkative: keys made, a cluster started, clients, tasks, output, errors, every
process killed once, all of it stopped; with core files allowed, and (for root) without the capabilities that would let
one process look into another that does not allow it.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from secure_ipp.keys import base64url
from secure_ipp.keys.curve import KeyPair
from tests.attacks.canaries import (
    Canaries,
    Watch,
    found_in_memory,
    key_files,
    leaks_in_files,
    memory_of,
    secrets_of,
    spellings,
    texts_in_memory,
)
from tests.running import RunningCluster, argv, short_directory, wait_until

pytestmark = [
    pytest.mark.live, pytest.mark.skipif(sys.platform != "linux", reason="looks at other processes through /proc")
]

_PR_CAPBSET_DROP = 24

# What users and their mistakes make a client and its engines say.
CLIENT = """
import json, logging, os, sys, traceback
logging.basicConfig(level="DEBUG")
import secure_ipp as ipp

def tell_all(error):
    print("".join(traceback.TracebackException.from_exception(error, capture_locals=True).format()))

def give_away_the_session_key(directory):
    import gc, os, secure_ipp.wire.connection
    kind = secure_ipp.wire.connection.Connection
    (connection,) = [found for found in gc.get_objects() if isinstance(found, kind)]
    with open(os.path.join(directory, f"session-{os.getpid()}.key"), "wb") as file:
        file.write(connection._keys.secret.raw)

client = ipp.Client(sys.argv[1], timeout=20)
client.wait_for_engines(2, timeout=20)
view = client[:]
view.apply_sync(give_away_the_session_key, sys.argv[4])
print(client, vars(client), repr(client.session), vars(client.session), client.session.capability)
print(view.apply_sync(lambda: dict(__import__("os").environ)))
print(view.apply_sync(lambda: [__import__("sys").argv, open("/proc/self/cmdline").read()]))
result = view.execute("print('said on an engine'); 1 / 0")
result.wait()
print(result.stdout, result.stderr)
for bad in (lambda: result.get(), lambda: ipp.Client(sys.argv[2]), lambda: ipp.Client(json.load(open(sys.argv[3]))),
            lambda: ipp.Client(json.load(open(sys.argv[3])), timeout=-1)):
    try:
        bad()
    except Exception as error:
        tell_all(error)
    else:
        sys.exit("no error")
print(client.load_balanced_view().map_sync(abs, range(-50, 0)))
client.close()
print("done")
"""

AFTERWARDS = """
import sys
import secure_ipp as ipp

with ipp.Client(sys.argv[1], timeout=20) as client:
    client.wait_for_engines(1, timeout=20)
    view = client.load_balanced_view()
    with view.temp_flags(retries=3):  # an engine that died just now may be tried first
        assert view.apply_sync(abs, -1) == 1
"""

# Whether a process of the same user may look into others: {pid: what came of it}.
SPY = """
import json, sys
verdicts = {}
for pid in sys.argv[1:]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as environ, open(f"/proc/{pid}/mem", "rb") as memory:
            verdicts[pid] = "open" if environ.read() else "empty"
    except PermissionError:
        verdicts[pid] = "closed"
print(json.dumps(verdicts))
"""


def as_an_ordinary_process() -> None:
    """Between fork and exec: core files as large as they come, and no capabilities for what is exec'ed."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None)
        for capability in range(64):
            libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)


class FullRun:
    """A cluster in a directory of its own, in which everything that it and its commands write must end up."""

    def __init__(self) -> None:
        self.base = short_directory()
        for name in ("h", "user", "tmp", "work"):
            (self.base / name).mkdir(mode=0o700)
        self.own = RunningCluster(engines=2, home=self.base / "h")
        self.environment = {
            **os.environ, "SECURE_IPP_HOME": str(self.own.home), "HOME": str(self.base / "user"),
            "TMPDIR": str(self.base / "tmp"), "IPYTHONDIR": str(self.base / "user"),
        }
        self._said = 0
        self.foreground: subprocess.Popen[bytes] | None = None

    def start(self, words: list[str]) -> subprocess.Popen[bytes]:
        """Start a command whose words go to a file in this directory."""
        self._said += 1
        with self.output(self._said).open("wb") as said:
            return subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, env=self.environment,
                cwd=self.base / "work", preexec_fn=as_an_ordinary_process, start_new_session=True,
            )

    def output(self, number: int) -> Path:
        return self.base / f"said-{number}.txt"

    def run(self, words: list[str], statuses: tuple[int, ...] = (0,)) -> str:
        process = self.start(words)
        number = self._said
        status = process.wait(60)
        said = self.output(number).read_text()
        assert status in statuses, (words[2:], said)
        return said

    def begin(self) -> None:
        self.foreground = self.start(argv("ipcluster", "start", "-n", "2", "--log-level", "DEBUG"))
        said = self.output(self._said)
        wait_until(lambda: "Ctrl-C stops it" in said.read_text(), 40, "the cluster is ready")

    def end(self) -> None:
        if self.foreground is not None and self.foreground.poll() is None:
            self.foreground.send_signal(signal.SIGINT)
            self.foreground.wait(20)

    def processes(self) -> dict[str, int]:
        """By role; engines as engine-0 and so on."""
        assert self.foreground is not None
        found, engines = {}, 0
        for process in psutil.Process(self.foreground.pid).children(recursive=True):
            try:
                line, parent = process.cmdline(), process.parent()
                above = "" if parent is None else " ".join(parent.cmdline())
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
            role = line[line.index("-m") + 1].rpartition(".")[2] if "-m" in line else ""
            if role == "template" and "secure_ipp.engine.template" in above:
                role, engines = f"engine-{engines}", engines + 1
            found[role] = process.pid
        return found


@pytest.fixture(scope="module")
def full_run() -> Iterator[FullRun]:
    run = FullRun()
    yield run
    run.end()


def add_hidden_secrets(run: FullRun, canaries: Canaries) -> list[str]:
    """Adds secrets that lie in no file of ours: those of each engine, and of the hub link as far as memory shows them.

    Returns:
        Names of the engines' secrets.
    """
    pids = run.processes()
    engines = {f"engine-{path.stem}": path.read_bytes() for path in run.base.glob("session-*.key")}
    assert len(set(engines.values())) == 2
    for name, raw in engines.items():
        canaries.add(name, raw)
    if os.geteuid() == 0:
        for role, field in (("hub", "link_server_secret"), ("scheduler", "link_secret"), ("scheduler", "ticket_key")):
            for number, raw in enumerate(sorted(texts_in_memory(pids[role], field))):
                canaries.add(f"{field} {number}", raw)
    return list(engines)


def check_processes(run: FullRun, canaries: Canaries) -> None:
    pids = run.processes()
    assert set(pids) >= {"supervisor", "hub", "scheduler", "agent", "template", "engine-0", "engine-1"}, pids
    guarded = {str(pids[role]) for role in ("supervisor", "hub", "scheduler", "agent")}
    for pid in guarded:
        assert re.search(r"Max core file size +0 +0 ", Path(f"/proc/{pid}/limits").read_text()), pids
    open_ones = {str(pids[role]) for role in ("template", "engine-0")}
    verdicts = json.loads(run.run([sys.executable, "-c", SPY, *guarded, *open_ones]))
    assert verdicts == {**dict.fromkeys(guarded, "closed"), **dict.fromkeys(open_ones, "open")}
    if os.geteuid() == 0:
        assert "join" in found_in_memory(canaries, pids["agent"])  # else the search finds nothing anywhere
        assert "server" in found_in_memory(canaries, pids["scheduler"])
        assert "issuer" not in found_in_memory(canaries, pids["supervisor"])
        assert found_in_memory(canaries.only("server", "issuer", "join", "client"), pids["hub"]) == set()


def check_engines_memory(run: FullRun, canaries: Canaries, engines: list[str]) -> None:
    """What code on an engine can read in its own process, and in the one that made it (S12)."""
    pids = run.processes()
    assert found_in_memory(canaries, pids["template"]) == set()
    found = [found_in_memory(canaries, pids[role]) for role in ("engine-0", "engine-1")]
    assert sorted(map(sorted, found)) == sorted([name] for name in engines)  # each its own key, and no other


def whole(run: FullRun) -> bool:
    """Whether both parts of the controller are there and know of an engine."""
    said = run.run(argv("secure-ipp", "status", "--json"), statuses=(0, 4, 6, 7))
    status = json.loads(said) if said.startswith("{") else {}
    return bool(status.get("engines")) and bool(status["scheduler"]["connected"])


def break_things(run: FullRun) -> None:
    """Every process that may die and come back dies, some with a wish for a core file."""
    for role, signum in (("engine-1", signal.SIGABRT), ("hub", signal.SIGABRT), ("scheduler", signal.SIGSEGV)):
        pid = run.processes()[role]
        os.kill(pid, signum)
        wait_until(lambda pid=pid: pid not in run.processes().values(), 20, f"{role} is gone")
        wait_until(lambda: whole(run), 20, "the controller is whole")
        run.run([sys.executable, "-c", AFTERWARDS, str(run.own.place.client_file)])


def commands(run: FullRun, damaged: Path) -> None:
    client = str(run.own.place.client_file)
    for name, *words in (
        ["secure-ipp", "status"], ["secure-ipp", "status", "--json"], ["secure-ipp", "keys", "list"],
        ["secure-ipp", "keys", "list", "--json"], ["secure-ipp", "keys", "show", client],
        ["secure-ipp", "keys", "show", client, "--json"], ["secure-ipp", "keys", "show", str(damaged)],
        ["secure-ipp", "doctor"], ["secure-ipp", "doctor", "--json"], ["ipcluster", "list", "--json"],
        ["ipengine", "--file", client], ["ipengine", "--file", str(damaged)], ["ipcluster", "start", "-n", "1"],
        ["secure-ipp", "keys", "init"],
    ):
        run.run(argv(name, *words), statuses=(0, 1, 2, 5, 7))


def test_s11_no_secret_is_seen_in_a_full_run(full_run: FullRun) -> None:
    run, place = full_run, full_run.own.place
    run.run(argv("secure-ipp", "keys", "init", "--bind", "127.0.0.1", "--host", "127.0.0.1"))
    canaries = secrets_of(place)
    spared = set(key_files(place).values())
    damaged, unsigned = run.base / "damaged.json", run.base / "unsigned.json"
    for file, text in ((damaged, place.client_file.read_text()[:-40]), (unsigned, place.client_file.read_text())):
        file.touch(mode=0o600)
        file.write_text(text.replace('"default"', '"another"'))
        spared.add(file)
    with Watch(canaries) as watch:
        run.begin()
        words = map(str, (place.client_file, damaged, unsigned, run.base))
        said = run.run([sys.executable, "-c", CLIENT, *words])
        assert "said on an engine" in said and "ZeroDivisionError" in said and said.endswith("done\n")
        commands(run, damaged)
        check_processes(run, canaries)
        engines = add_hidden_secrets(run, canaries)
        spared |= set(run.base.glob("session-*.key"))
        check_engines_memory(run, canaries, engines)
        leaks, count = leaks_in_files(canaries, run.base, spared)
        assert leaks == [] and count > 25
        break_things(run)
        run.end()
    assert watch.leaks == []
    assert watch.looks > 50 and {
        "secure_ipp.cluster.supervisor", "secure_ipp.hub", "secure_ipp.scheduler", "secure_ipp.engine.agent",
        "secure_ipp.engine.template", "ipcluster", "ipengine",
    } <= watch.programs
    check_cores(run, canaries)
    leaks, count = leaks_in_files(canaries, run.base, spared | set(core_files(run)))
    assert leaks == [] and count > 25


def core_files(run: FullRun) -> list[Path]:
    return [path for path in run.base.rglob("core*") if path.is_file() and path.read_bytes()[:4] == b"\x7fELF"]


def check_cores(run: FullRun, canaries: Canaries) -> None:
    """Only the engine may have left one, with nothing in it but the key that died with it."""
    cores = core_files(run)
    assert all(path.parent == run.base / "work" for path in cores) and len(cores) <= 1, cores
    for path in cores:
        assert canaries.only("client", "join", "server", "issuer").seen_in(path.read_bytes()) == set()


# --- the search itself --------------------------------------------------------------------------------------


@pytest.fixture
def planted() -> tuple[bytes, Canaries]:
    raw = KeyPair.generate().secret.raw
    return raw, Canaries({"planted": raw})


def test_the_search_finds_every_spelling(planted: tuple[bytes, Canaries], tmp_path: Path) -> None:
    raw, canaries = planted
    assert len(spellings(raw)) >= 9
    for number, form in enumerate(spellings(raw)):
        assert canaries.seen_in(b"so " + form + b" it is") == {"planted"}
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "a.log").write_bytes(form)
        leaks, count = leaks_in_files(canaries, tmp_path / str(number), set())
        assert len(leaks) == 1 and count == 1
    assert canaries.seen_in(raw[:-1]) == set()


@pytest.mark.parametrize("where", ["argv", "environ"])
def test_the_search_finds_a_secret_of_a_process(planted: tuple[bytes, Canaries], where: str) -> None:
    raw, canaries = planted
    text = base64url.encode(raw)
    words: dict[str, Any] = {"argv": ["sleep", "30"], "environ": {**os.environ}}
    if where == "argv":
        words["argv"] = ["sh", "-c", "sleep 30", text]
    else:
        words["environ"]["KEY"] = text
    with Watch(canaries) as watch:
        process = subprocess.Popen(words["argv"], env=words["environ"], start_new_session=True)
        try:
            wait_until(lambda: watch.leaks, 10)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_the_search_finds_a_secret_in_memory(planted: tuple[bytes, Canaries]) -> None:
    raw, canaries = planted
    code = "import sys; held = bytes(b ^ 1 for b in sys.stdin.buffer.read(32)); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(bytes(byte ^ 1 for byte in raw))
        process.stdin.flush()
        process.stdout.readline()
        assert sum(map(len, memory_of(process.pid))) > 1_000_000
        assert found_in_memory(canaries, process.pid) == {"planted"}
        process.kill()
