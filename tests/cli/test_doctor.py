"""What doctor finds: each thing is broken on purpose, and the finding is seen."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from secure_ipp.cli import checks, doctor_cluster, doctor_file, doctor_host, doctor_install
from secure_ipp.cli.checks import Finding
from secure_ipp.cli.doctor import doctor
from secure_ipp.errors import EnvironmentProblem
from secure_ipp.keys import keyring_store
from secure_ipp.keys.capability import dump_capability, load_capability, sign_capability
from secure_ipp.keys.cluster_keys import init_cluster, load_issuer
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import write_private
from secure_ipp.keys.registry import Registry

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def place(home: Path) -> ClusterPlace:
    made = ClusterPlace("default", home)
    init_cluster(made, hosts=["127.0.0.1"], bind="127.0.0.1")
    return made


def levels(findings: Any) -> list[tuple[str, str]]:
    return [(finding.check, finding.level) for finding in findings]


def only(findings: Iterator[Finding]) -> Finding:
    (finding,) = findings
    return finding


# --- the frame ------------------------------------------------------------------------------------------------


def test_the_worst_counts() -> None:
    assert checks.worst([]) == "ok"
    assert checks.worst([Finding("a", "note", ""), Finding("a", "error", ""), Finding("a", "warning", "")]) == "error"


def test_a_check_that_breaks_is_a_finding_and_the_others_go_on() -> None:
    def broken() -> Iterator[Finding]:
        yield Finding("x", "ok", "before")
        raise RuntimeError("no such thing")

    def refused() -> Iterator[Finding]:
        raise EnvironmentProblem("it is not there", "put it there")
        yield

    found = checks.ask_all([("x", broken), ("y", refused), ("z", lambda: iter([Finding("z", "ok", "")]))])
    assert levels(found) == [("x", "ok"), ("x", "warning"), ("y", "error"), ("z", "ok")]
    assert "no such thing" in found[1].text and found[2].advice == "put it there"


@pytest.mark.parametrize(("level", "code"), [("ok", 0), ("note", 0), ("warning", 1), ("error", 7)])
def test_the_exit_code_is_that_of_the_worst(level: Any, code: int, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    findings = [Finding("a", "ok", "fine"), Finding("b", level, "text\x1b]0;x\x07", "advice\x1b[2J")]
    monkeypatch.setattr(checks, "ask_all", lambda asked: findings)
    done = CliRunner().invoke(doctor, ["--json"])
    assert done.exit_code == code
    assert json.loads(done.output) == {
        "format": "secure-ipp-doctor/1", "worst": level,
        "findings": [{"check": f.check, "level": f.level, "text": f.text, "advice": f.advice} for f in findings],
    }
    done = CliRunner().invoke(doctor, [])
    assert done.exit_code == code and "\x1b" not in done.output and "\\x1b" in done.output


def test_all_checks_have_their_words(place: ClusterPlace) -> None:
    """Scripts go by these."""
    asked = [*doctor_install.checks(), *doctor_host.checks(), *doctor_cluster.checks(place)]
    assert [name for name, _ in asked] == [
        "python", "libraries", "extras", "curve", "cipher", "commands", "ipyparallel", "system", "system", "cores",
        "ptrace", "clock", "keyring", "files", "modes", "clock", "ports", "gate", "processes", "separation",
    ]  # fmt: skip
    assert [name for name, _ in doctor_file.Examination("x").checks()] == ["file", "rights", "door", "ssh", "session"]
    found = checks.ask_all(asked)
    assert {finding.check for finding in found} <= {name for name, _ in asked}
    assert not [finding for finding in found if "could not be checked" in finding.text]


def test_s11_no_finding_shows_a_secret(place: ClusterPlace) -> None:
    secrets = [
        load_capability(place.client_file).secret_key.text, load_capability(place.engine_file).secret_key.text,
        *(json.loads(path.read_text())["secret_key"] for path in (place.server_key, place.issuer_key)),
    ]
    for words in ([], ["--json"], [str(place.client_file)], [str(place.client_file), "--json"]):
        output = CliRunner().invoke(doctor, words).output
        assert output and not any(secret in output for secret in secrets)


# --- the installation -----------------------------------------------------------------------------------------


def test_floors_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert [f"{name}>={floor}" for name, floor in doctor_install.FLOORS.items()] == project["dependencies"]
    extra = project["optional-dependencies"]
    for name, (floor, which, _) in doctor_install.EXTRAS.items():
        assert f"{name}>={floor}" in extra[which]


def test_versions_are_compared_as_numbers() -> None:
    numbers = doctor_install.numbers
    assert numbers("27.3.0rc1") == (27, 3, 0)
    assert numbers("27.10.0") > numbers("27.3.0")
    assert numbers("unknown") < numbers("0.1")


def test_a_library_below_its_floor_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"pyzmq": "27.2.0", "msgspec": "0.20.1"}
    monkeypatch.setattr(doctor_install, "FLOORS", {"pyzmq": "27.3.0", "msgspec": "0.19", "click": "8"})
    monkeypatch.setattr(doctor_install, "_version", versions.get)
    assert {finding.text: finding.level for finding in doctor_install.library_floors()} == {
        "pyzmq 27.2.0 is too old": "error", "msgspec 0.20.1 (at least 0.19)": "ok", "click is not installed": "error"
    }


def test_an_extra_that_is_too_old_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_install, "_version", {"numpy": "1.20", "keyring": "25.1"}.get)
    found = {finding.text.split()[0]: finding for finding in doctor_install.extras()}
    assert found["numpy"].level == "warning" and "secure-ipp[numpy]" in found["numpy"].advice
    assert found["keyring"].level == "ok" and "not installed" in found["paramiko"].text


def test_an_old_python_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_install, "sys", SimpleNamespace(version_info=(3, 10, 1), executable="python"))
    assert only(doctor_install.python_version()).level == "error"


def test_a_libzmq_without_curve_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from secure_ipp.wire import sockets

    monkeypatch.setattr(sockets.zmq, "has", lambda what: False)
    (found,) = checks.ask_all([("curve", doctor_install.curve)])
    assert found.level == "error" and found.advice


def test_a_slow_cipher_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_install, "SLOW_CIPHER", float("inf"))
    finding = only(doctor_install.cipher_speed())
    assert finding.level in ("warning", "note")  # a note where the library cannot be found
    assert "27.3.0" in finding.advice or finding.level == "note"
    monkeypatch.setattr(doctor_install, "sodium", lambda: None)
    assert only(doctor_install.cipher_speed()).level == "note"


def test_commands_of_another_package_are_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert {finding.level for finding in doctor_install.command_owner()} == {"note"}
    for name, text in (("ipcluster", "from ipyparallel.x import main"), ("ipengine", "from secure_ipp.cli import x")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    found = list(doctor_install.command_owner())
    assert [finding.level for finding in found] == ["warning", "note", "ok"]
    assert "use secure-ipp cluster" in found[0].advice


def test_ipyparallel_beside_us_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_install, "_version", lambda name: None)
    assert only(doctor_install.other_package()).level == "ok"
    monkeypatch.setattr(doctor_install, "_version", lambda name: "9.0.1")
    finding = only(doctor_install.other_package())
    assert finding.level == "note" and "9.0.1" in finding.text and "secure_ipp" in finding.advice


# --- the machine ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bound", "level"), [("128\n", "note"), ("4096\n", "ok")])
def test_a_kernel_that_lets_few_connections_wait(
    bound: str, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_host, "BACKLOG_BOUND", tmp_path / "somaxconn")
    assert list(doctor_host.backlog()) == []
    doctor_host.BACKLOG_BOUND.write_text(bound)
    finding = only(doctor_host.backlog())
    assert finding.level == level and bound.strip() in finding.text
    assert ("net.core.somaxconn" in finding.advice) == (level == "note")


@pytest.mark.parametrize(("most", "level"), [(1024, "note"), (4096, "ok"), (-1, "ok")])
def test_a_bound_on_open_files(most: int, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (most, most))
    finding = only(doctor_host.descriptors())
    assert finding.level == level and (str(most) in finding.text or most < 0)
    assert ("ulimit -n" in finding.advice) == (level == "note")


@pytest.mark.parametrize(("pattern", "limit", "level"), [
    ("core\n", 0, "ok"), ("core\n", -1, "note"), ("core\n", 5, "note"), ("|/usr/share/apport/apport %p\n", 0, "note"),
    ("|", 0, "note"), (None, 0, "ok"), (None, -1, "note"),
])  # fmt: skip
def test_core_files(
    pattern: str | None, limit: int, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (limit, limit))
    monkeypatch.setattr(doctor_host, "CORE_PATTERN", tmp_path / "core_pattern")
    if pattern is not None:
        doctor_host.CORE_PATTERN.write_text(pattern)
    finding = only(doctor_host.core_files())
    assert finding.level == level and bool(finding.advice) == (level == "note")
    assert ("apport" in finding.text) == ("apport" in (pattern or ""))


@pytest.mark.parametrize(("scope", "level"), [(None, "note"), ("0\n", "note"), ("1\n", "ok"), ("3\n", "ok")])
def test_ptrace(scope: str | None, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_host, "sys", SimpleNamespace(platform="linux"))
    monkeypatch.setattr(doctor_host, "PTRACE_SCOPE", tmp_path / "ptrace_scope")
    if scope is not None:
        doctor_host.PTRACE_SCOPE.write_text(scope)
    assert only(doctor_host.ptrace_scope()).level == level


@pytest.mark.parametrize(("state", "expected"), [(0, ["ok"]), (5, ["note"]), (-1, [])])
def test_a_clock_that_nobody_sets(state: int, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_host, "sys", SimpleNamespace(platform="linux"))
    monkeypatch.setattr(doctor_host, "clock_state", lambda: state)
    assert [finding.level for finding in doctor_host.synchronised()] == expected


def test_asking_for_the_clock_changes_nothing() -> None:
    before = time.time()
    assert doctor_host.clock_state() in (-1, 0, 1, 2, 3, 4, 5)
    assert 0 <= time.time() - before < 5


@pytest.mark.parametrize(("module", "level"), [
    ("keyring.backends.SecretService", "ok"), ("keyrings.alt.file", "note"), ("keyring.backends.null", "note"),
    ("keyring.backends.fail", "note"),
])  # fmt: skip
def test_keyring_back_ends(module: str, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = type("Keyring", (), {"__module__": module})()
    core = pytest.importorskip("keyring")
    monkeypatch.delenv(keyring_store.BACKEND_VARIABLE, raising=False)
    monkeypatch.setattr(core, "get_keyring", lambda: backend)
    finding = only(doctor_host.keyring_backend())
    assert finding.level == level and module in finding.text


def test_no_keyring_at_all_is_nothing_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(named: str) -> Any:
        raise keyring_store.NoKeyring("the package keyring is not installed", "")

    monkeypatch.setattr(keyring_store, "_backend", none)
    assert only(doctor_host.keyring_backend()).level == "ok"


# --- the cluster's files ----------------------------------------------------------------------------------------


def test_without_keys_there_is_a_note_that_says_how(home: Path) -> None:
    place = ClusterPlace("default", home)
    finding = only(doctor_cluster.key_files(place))
    assert finding.level == "note" and "secure-ipp keys init" in finding.advice
    for name, check in doctor_cluster.checks(place):
        if name != "files":
            assert list(check()) == []


def test_every_private_file_is_looked_at(place: ClusterPlace) -> None:
    assert {finding.level for finding in doctor_cluster.key_files(place)} == {"ok"}
    for path in (place.server_key, place.issuer_key, place.registry, place.client_file, place.engine_file):
        path.chmod(0o640)
        assert "error" in {finding.level for finding in doctor_cluster.key_files(place)}, path
        assert [finding.level for finding in doctor_cluster.modes(place)] == ["error"], path
        path.chmod(0o600)
    place.dir.chmod(0o755)
    assert "error" in {finding.level for finding in doctor_cluster.key_files(place)}
    assert [finding.level for finding in doctor_cluster.modes(place)] == ["error"]
    place.dir.chmod(0o700)
    assert [finding.level for finding in doctor_cluster.modes(place)] == ["ok"]


def test_whatever_lies_there_is_looked_at(place: ClusterPlace, tmp_path: Path) -> None:
    def broken(*parts: str) -> Finding:
        finding = only(doctor_cluster.modes(place))
        assert finding.level == "error" and all(part in finding.text for part in parts)
        return finding

    (place.dir / "log").mkdir(mode=0o700)
    stray = place.dir / "log" / "copy.json"
    stray.write_text("x")
    stray.chmod(0o644)
    assert f"chmod go= {stray}" in broken(str(stray), "0644").advice
    stray.chmod(0o600)
    (tmp_path / "other").hardlink_to(stray) if stray.stat().st_dev == tmp_path.stat().st_dev else os.link(
        stray, place.home / "other"
    )
    broken(str(stray), "2 names")
    stray.unlink()
    stray.symlink_to("/etc/passwd")
    broken("symbolic link")
    stray.unlink()
    if os.geteuid() == 0:
        stray.touch(mode=0o600)
        os.chown(stray, 12345, -1)
        broken("belongs to user 12345")
        stray.unlink()
    place.home.chmod(0o777)
    assert "chmod go-w" in broken("others may write in the directory").advice
    place.home.chmod(0o700)


def test_many_wrong_files_are_counted(place: ClusterPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        (place.dir / f"x{number}").touch(mode=0o644)
        (place.dir / f"x{number}").chmod(0o644)
    found = list(doctor_cluster.modes(place))
    assert len(found) == doctor_cluster.MOST_SHOWN + 1 and found[-1].text == "and 10 more"
    monkeypatch.setattr(doctor_cluster, "MOST_ENTRIES", 3)
    assert any("only the first 3" in finding.text for finding in doctor_cluster.modes(place))


def test_a_damaged_registry_is_an_error(place: ClusterPlace) -> None:
    text = place.registry.read_text()
    place.registry.write_text(text.replace('"owner"', '"owned"', 1))
    assert ("files", "error") in levels(doctor_cluster.key_files(place))


def test_a_clock_that_was_set_back_is_a_warning(place: ClusterPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(doctor_cluster.clock(place)) == []
    later = time.time()
    monkeypatch.setattr(doctor_cluster.time, "time", lambda: later - 7200)
    finding = only(doctor_cluster.clock(place))
    assert finding.level == "warning" and "set back" in finding.text and "2.0 hours" in finding.text


@pytest.mark.parametrize(("told", "level", "words"), [
    ({}, "ok", ""), ({"jump": 7200.0}, "error", "secure-ipp clock --accept"),
    ({"behind": 7200.0}, "warning", "set it right"),
])  # fmt: skip
def test_a_controller_that_does_not_follow_the_clock(
    told: dict[str, float], level: str, words: str, place: ClusterPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from secure_ipp.cluster import clock_change

    running(monkeypatch)
    monkeypatch.setattr(clock_change, "look", lambda place: {"jump": 0.0, "behind": 0.0, **told})
    finding = only(doctor_cluster.clock(place))
    assert finding.level == level and words in finding.advice and (not told or "2.0 hours" in finding.text)


def test_a_clock_that_was_set_back_while_nothing_ran(place: ClusterPlace) -> None:
    from secure_ipp.hub.clock import Clock
    from secure_ipp.hub.clock_mark import Reading

    Clock(place, lambda: Reading(time.time() + 7200, 0.0, "another boot")).keep()
    assert only(doctor_cluster.clock(place)).level == "warning"


def test_a_port_in_use_is_an_error(place: ClusterPlace) -> None:
    assert [finding.level for finding in doctor_cluster.door_ports(place)] == ["ok", "ok"]
    from secure_ipp.keys.config import load_config

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", load_config(place).client_port))
        taken.listen()
        found = list(doctor_cluster.door_ports(place))
    assert [finding.level for finding in found] == ["error", "ok"] and "in use" in found[0].text


# --- a running cluster, as it says ------------------------------------------------------------------------------


def running(monkeypatch: pytest.MonkeyPatch, *, engines: Any = (), pid: int = 0) -> Any:
    """Let it look as if a controller ran."""
    from secure_ipp.cluster import control, state

    controller = SimpleNamespace(
        client_port=1, engine_port=2, bind="*", pid=pid, hub=pid, scheduler=pid, host=socket.gethostname(),
        client_socket="", engine_socket="",
    )
    monkeypatch.setattr(state, "read_state", lambda place: controller)
    monkeypatch.setattr(state, "read_agents", lambda place: [])
    monkeypatch.setattr(control, "ask", lambda place, what: {"engines": list(engines)})
    return controller


def doors(
    monkeypatch: pytest.MonkeyPatch, known: str, stranger: str, spoilt_verdict: str = "refused"
) -> list[str]:
    """Let doors do this about keys that stand in the files, and about others."""
    from secure_ipp.wire import intruder

    tried: list[str] = []

    def verdict(
        endpoint: str, server_key: Any, keys: KeyPair, timeout: float = 1.0, *, proves: Any = None, spoilt: bool = False
    ) -> str:
        assert (proves is not None) is endpoint.startswith("ipc:")
        tried.append(endpoint)
        if spoilt:
            return spoilt_verdict
        return known if keys.public.fingerprint in KNOWN else stranger

    monkeypatch.setattr(intruder, "try_door", verdict)
    return tried


KNOWN: set[str] = set()


@pytest.mark.parametrize(("known", "stranger", "expected"), [
    ("admitted", "refused", ["ok", "ok", "ok", "ok"]), ("admitted", "admitted", ["ok", "error", "ok", "error"]),
    ("refused", "refused", ["error", "ok", "error", "ok"]), ("silent", "silent", ["error", "warning", "error", "ok"]),
    ("closed", "refused", ["error", "ok", "error", "ok"]),
])  # fmt: skip
def test_doors_are_tried(
    known: str, stranger: str, expected: list[str], place: ClusterPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    KNOWN.update(load_capability(file).public_key.fingerprint for file in (place.client_file, place.engine_file))
    assert list(doctor_cluster.gate(place)) == []
    running(monkeypatch)
    tried = doors(monkeypatch, known, stranger)
    found = list(doctor_cluster.gate(place))
    assert [finding.level for finding in found] == expected
    assert set(tried) == {"tcp://127.0.0.1:1", "tcp://127.0.0.1:2"}
    if stranger == "admitted":
        assert "LETS STRANGERS IN" in found[1].text and "ipcluster stop" in found[1].advice


@pytest.mark.parametrize(("known", "stranger", "spoilt", "expected"), [
    ("admitted", "refused", "refused", ["ok", "ok"] * 4), ("silent", "refused", "silent", ["error", "ok"] * 4),
    ("admitted", "refused", "admitted", ["ok", "ok", "ok", "error"] * 2),
    ("admitted", "admitted", "refused", ["ok", "error"] * 4),
])  # fmt: skip
def test_s25_doors_for_ssh_are_tried_too(
    known: str, stranger: str, spoilt: str, expected: list[str], place: ClusterPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With proofs that hold, of a stranger's key, and of a known key whose secret half the maker does not have."""
    KNOWN.update(load_capability(file).public_key.fingerprint for file in (place.client_file, place.engine_file))
    controller = running(monkeypatch)
    controller.client_socket, controller.engine_socket = "/run/client.door", "/run/engine.door"
    tried = doors(monkeypatch, known, stranger, spoilt)
    found = list(doctor_cluster.gate(place))
    assert [finding.level for finding in found] == expected
    assert set(tried) == {"tcp://127.0.0.1:1", "tcp://127.0.0.1:2", "ipc:///run/client.door", "ipc:///run/engine.door"}
    assert not any("LETS STRANGERS IN" in one.text for one in found) or "admitted" in (stranger, spoilt)
    controller.client_port = controller.engine_port = 0
    tried.clear()
    assert [finding.level for finding in doctor_cluster.gate(place)] == expected[2:4] + expected[6:]
    assert all(endpoint.startswith("ipc:") for endpoint in tried)


def test_a_controller_that_could_leave_a_core_file_is_an_error(
    place: ClusterPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process stands for one that did not forbid it."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_CORE)
    if before[1] == 0:
        pytest.skip("no process here may leave a core file")
    running(monkeypatch, pid=os.getpid())
    assert {finding.level for finding in doctor_cluster.processes(place)} == {"error"}


def test_a_controller_that_may_not_is_fine(place: ClusterPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    def child() -> None:
        from secure_ipp.hardening import keep_secrets_inside

        keep_secrets_inside()

    import subprocess
    import sys

    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE,
                               preexec_fn=child)
    try:
        running(monkeypatch, pid=process.pid)
        found = list(doctor_cluster.processes(place))
        # dumpable comes back with the exec: whoever is not root sees that
        assert {finding.level for finding in found} == ({"ok"} if os.geteuid() == 0 else {"error"})
        assert len(found) == 3
    finally:
        process.communicate()


def test_s26_engines_that_read_the_keys_are_a_note(place: ClusterPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert only(doctor_cluster.separation(place)).level == "note"
    apart = {"id": 0, "reads_cluster_dir": False, "reads_join_file": False}
    running(monkeypatch, engines=[apart])
    assert only(doctor_cluster.separation(place)).level == "ok"
    running(monkeypatch, engines=[apart, {**apart, "reads_join_file": True}])
    finding = only(doctor_cluster.separation(place))
    assert finding.level == "note" and "1 of 2" in finding.text and "another user" in finding.advice


# --- a file -----------------------------------------------------------------------------------------------------


@pytest.fixture
def listening(place: ClusterPlace) -> Iterator[Callable[..., Path]]:
    """Makes capability files whose door is a port where something listens (or not)."""
    server = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=accept_all, args=(server,), daemon=True).start()
    number = 0

    def make(*, there: bool = True, **changes: Any) -> Path:
        nonlocal number
        number += 1
        port = server.getsockname()[1] if there else 1
        known = load_capability(place.client_file)
        keys = KeyPair.generate()
        KNOWN.add(keys.public.fingerprint)
        values = {
            "cluster": known.cluster, "cluster_id": known.cluster_id, "role": "client", "name": "guest",
            "rights": ("task", "direct"), "expires": 0, "server_keys": known.server_keys,
            "door": (f"tcp://127.0.0.1:{port}",), **changes,
        }
        path = place.home / f"guest{number}.json"
        write_private(path, dump_capability(sign_capability(load_issuer(place), keys=keys, **values)))
        return path

    yield make
    server.close()


def accept_all(server: socket.socket) -> None:
    while True:
        try:
            server.accept()[0].close()
        except OSError:
            return


def examined(path: Path) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    asked = [(name, check) for name, check in doctor_file.Examination(str(path)).checks() if name != "session"]
    for finding in checks.ask_all(asked):
        found.setdefault(finding.check, []).append(finding)
    return found


def test_a_good_file(listening: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    doors(monkeypatch, "admitted", "refused")
    found = examined(listening())
    assert {finding.level for findings in found.values() for finding in findings} == {"ok"}
    assert "'guest'" in found["file"][0].text and "run load-balanced tasks" in found["rights"][0].text
    assert "admits this file's" in found["door"][0].text


def test_a_file_that_is_none(tmp_path: Path, listening: Callable[..., Path]) -> None:
    path = listening()
    assert [f.level for f in examined(tmp_path / "nothing.json")["file"]] == ["error"]
    path.chmod(0o644)
    found = examined(path)
    assert list(found) == ["file"] and found["file"][0].level == "error" and "chmod 600" in found["file"][0].advice
    path.chmod(0o600)
    path.write_text(path.read_text().replace("guest", "quest"))
    assert examined(path)["file"][0].level == "error"


@pytest.mark.parametrize(("left", "level"), [
    (-5, "error"), (1800, "warning"), (3600 * 5, "note"), (86400 * 9, "ok"), (None, "ok"),
])  # fmt: skip
def test_until_when(
    left: int | None, level: str, listening: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    doors(monkeypatch, "admitted", "refused")
    found = examined(listening(expires=0 if left is None else int(time.time()) + left))
    assert found["rights"][1].level == level and bool(found["rights"][1].advice) == (level != "ok")


@pytest.mark.parametrize(("known", "stranger", "expected"), [
    ("refused", "refused", ["error", "ok"]), ("silent", "silent", ["error", "error"]),
    ("closed", "closed", ["error", "error"]),
    ("admitted", "admitted", ["ok", "error"]), ("admitted", "silent", ["ok", "warning"]),
])  # fmt: skip
def test_what_the_door_does(
    known: str, stranger: str, expected: list[str], listening: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    doors(monkeypatch, known, stranger)
    assert [finding.level for finding in examined(listening())["door"]] == expected


def test_a_door_that_is_not_there(listening: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    doors(monkeypatch, "admitted", "refused")
    assert [finding.level for finding in examined(listening(there=False))["door"]] == ["note", "error"]


def test_the_next_server_key_is_tried_too(listening: Callable[..., Path], place: ClusterPlace,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    from secure_ipp.wire import intruder

    coming = KeyPair.generate().public
    monkeypatch.setattr(
        intruder, "try_door",
        lambda endpoint, server_key, keys, timeout: "closed" if server_key != coming else
        "admitted" if keys.public.fingerprint in KNOWN else "refused",
    )
    known = load_capability(place.client_file)
    found = examined(listening(server_keys=(known.server_key, coming)))
    assert [finding.level for finding in found["door"]] == ["ok", "ok"]


def test_a_sealed_file_is_not_asked_for(listening: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from secure_ipp.cli.main import secure_ipp

    path = listening()
    read, write = os.pipe()
    os.write(write, b"a long enough passphrase\n")
    os.close(write)
    done = CliRunner().invoke(secure_ipp, ["keys", "seal", str(path)], env={"SECURE_IPP_PASSPHRASE_FD": str(read)})
    assert done.exit_code == 0, done.output
    doors(monkeypatch, "admitted", "refused")
    found = examined(path)
    assert [finding.level for finding in found["file"]] == ["ok", "note"]
    assert [finding.level for finding in found["door"]] == ["ok", "ok"]
    read, write = os.pipe()
    os.write(write, b"a long enough passphrase\n")
    os.close(write)
    monkeypatch.setenv("SECURE_IPP_PASSPHRASE_FD", str(read))
    found = examined(path)
    assert [finding.level for finding in found["file"]] == ["ok", "ok"]
    assert "admits this file's" in found["door"][0].text


def test_rights_that_the_controller_sees_otherwise(place: ClusterPlace) -> None:
    file = load_capability(place.client_file)
    grant = Registry.load(place).named(file.name)
    assert grant is not None
    same = {"user": grant.id, "name": file.name, "rights": list(file.rights), "expires": file.expires}
    for change, expected in (
        ({}, ["ok"]), ({"rights": ["task"]}, ["warning"]), ({"rights": [*file.rights, "extra"]}, ["note"]),
        ({"expires": 5}, ["ok", "note"]),
    ):
        found = doctor_file.identity_findings(file, {**same, **change})
        assert [finding.level for finding in found] == expected
