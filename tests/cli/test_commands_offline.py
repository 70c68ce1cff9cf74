"""Commands that need no running cluster: help, start-up, and what doctor finds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from secure_ipp.cli import checks, main
from secure_ipp.cli.controller_command import controller
from secure_ipp.cli.engine_command import engine
from secure_ipp.cli.lazy import LazyGroup
from secure_ipp.keys.cluster_keys import init_cluster
from secure_ipp.keys.places import ClusterPlace


def walk(command: click.Command, path: str) -> list[tuple[str, click.Command]]:
    found = [(path, command)]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            found += walk(below, f"{path} {name}")
    return found


ALL = [
    *walk(main.secure_ipp, "secure-ipp"), *walk(main.ipcluster, "ipcluster"), *walk(controller, "ipcontroller"),
    *walk(engine, "ipengine"),
]


@pytest.mark.parametrize(("path", "command"), ALL, ids=[path for path, _ in ALL])
def test_every_help_has_an_example_of_that_command(path: str, command: click.Command) -> None:
    result = CliRunner().invoke(command, ["--help"], prog_name=path)
    assert result.exit_code == 0
    if isinstance(command, click.Group) and not isinstance(command, LazyGroup):
        return  # a plain group lists commands that have examples of their own
    name = path.split()[-1].removeprefix("ip")
    assert "Example" in result.output and name in result.output.partition("Example")[2]


def test_all_commands_are_there() -> None:
    names = {path for path, _ in ALL}
    for group, commands in {
        "secure-ipp": ["keys", "cluster", "controller", "engine", "status", "doctor", "demo"],
        "secure-ipp keys": ["init", "list", "show"], "ipcluster": ["start", "stop", "engines", "list"],
    }.items():
        assert {f"{group} {command}" for command in commands} <= names


@pytest.mark.parametrize("module", ["zmq", "IPython", "cryptography", "psutil", "secure_ipp.client", "tqdm", "numpy"])
def test_help_imports_nothing_heavy(module: str) -> None:
    code = f"""
import sys
from click.testing import CliRunner
from secure_ipp.cli.main import secure_ipp, ipcluster
assert CliRunner().invoke(secure_ipp, ["--help"]).exit_code == 0
assert CliRunner().invoke(ipcluster, ["--help"]).exit_code == 0
assert {module!r} not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30, env=dict(os.environ))


# --- doctor ---------------------------------------------------------------------------------------------------


def test_versions_are_compared_as_numbers() -> None:
    assert checks.numbers("27.3.0rc1") == (27, 3, 0)
    assert checks.numbers("27.10.0") > checks.numbers("27.3.0")
    assert checks.numbers("unknown") < checks.numbers("0.1")


def test_a_library_below_its_floor_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"pyzmq": "27.2.0", "msgspec": "0.20.1"}

    def version(name: str) -> str:
        if name not in versions:
            raise checks.importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    needed = ["pyzmq>=27.3.0", "msgspec>=0.19", "click>=8", 'numpy>=1; extra == "numpy"']
    monkeypatch.setattr(checks.importlib.metadata, "requires", lambda name: needed)
    monkeypatch.setattr(checks.importlib.metadata, "version", version)
    found = {finding.text: finding.level for finding in checks.library_floors()}
    assert found == {
        "pyzmq 27.2.0 is too old": "error", "msgspec 0.20.1 (at least 0.19)": "ok", "click is not installed": "error"
    }


def test_a_slow_cipher_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "SLOW_CIPHER", float("inf"))
    (finding,) = checks.cipher_speed()
    assert finding.level in ("warning", "note")  # a note where the library cannot be found


@pytest.mark.parametrize(("bound", "level"), [("128\n", "note"), ("4096\n", "ok")])
def test_doctor_names_a_kernel_that_lets_few_connections_wait(bound, level, tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "BACKLOG_BOUND", tmp_path / "somaxconn")
    assert list(checks.backlog()) == []
    checks.BACKLOG_BOUND.write_text(bound)
    (finding,) = checks.backlog()
    assert finding.level == level and bound.strip() in finding.text
    assert ("net.core.somaxconn" in finding.advice) == (level == "note")


@pytest.mark.parametrize(("most", "level"), [(1024, "note"), (4096, "ok"), (-1, "ok")])
def test_doctor_names_a_bound_on_open_files(most, level, monkeypatch):
    monkeypatch.setattr("resource.getrlimit", lambda _: (most, most))
    (finding,) = checks.descriptors()
    assert finding.level == level and (str(most) in finding.text or most < 0)
    assert ("ulimit -n" in finding.advice) == (level == "note")



def test_a_check_that_breaks_is_a_finding(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    def broken() -> None:
        raise RuntimeError("no such thing")

    monkeypatch.setattr(checks, "curve", broken)
    found = [finding for finding in checks.all_findings(ClusterPlace("default")) if finding.check == "curve"]
    assert [finding.level for finding in found] == ["warning"] and "no such thing" in found[0].text


def test_doctor_without_keys_is_a_note_that_says_how(home: Path) -> None:
    (finding,) = checks.key_files(ClusterPlace("default"))
    assert finding.level == "note" and "secure-ipp keys init" in finding.advice


def test_doctor_looks_at_every_private_file(home: Path) -> None:
    place = ClusterPlace("default", home)
    init_cluster(place, hosts=["127.0.0.1"], bind="127.0.0.1")
    assert {finding.level for finding in checks.key_files(place)} == {"ok"}
    for path in (place.server_key, place.issuer_key, place.registry, place.client_file, place.engine_file):
        path.chmod(0o640)
        assert "error" in {finding.level for finding in checks.key_files(place)}, path
        path.chmod(0o600)
    place.dir.chmod(0o755)
    assert "error" in {finding.level for finding in checks.key_files(place)}
    place.dir.chmod(0o700)
