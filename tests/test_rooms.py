"""What each room may do, where import-linter cannot see it: calls, not imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "secure_ipp"

ONLY_IN = {
    "exec": ("engine/",),
    "eval": ("engine/",),
    "os.fork": ("engine/", "cluster/", "tunnel/keeper.py"),  # the keeper lets go of whoever started it
    "os.system": (),
    "os.popen": (),
    "os.execv": ("engine/", "cluster/", "tunnel/"),
    "os.execve": ("engine/", "cluster/"),
    "subprocess.getoutput": (),
}


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return ""


def _calls() -> Iterator[tuple[str, str, ast.Call]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                yield path.relative_to(PACKAGE).as_posix(), _name(node.func), node


@pytest.mark.parametrize("name", ONLY_IN)
def test_a_call_stays_in_its_room(name: str) -> None:
    strangers = {file for file, called, _ in _calls() if called == name and not file.startswith(ONLY_IN[name] or "-")}
    assert strangers == set()


def test_no_process_is_started_through_a_shell() -> None:
    """S22: argv lists only."""
    through_shell = [
        (file, node.lineno)
        for file, called, node in _calls() if called.startswith(("subprocess.", "asyncio."))
        for keyword in node.keywords
        if keyword.arg == "shell" and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
    ]
    assert through_shell == []


def test_no_file_is_longer_than_a_head_can_hold() -> None:
    long = {
        path.relative_to(PACKAGE).as_posix(): lines
        for path in PACKAGE.rglob("*.py") if (lines := len(path.read_text().splitlines())) > 400
    }
    assert long == {}


def test_only_the_paramiko_back_end_imports_paramiko_and_sshtunnel() -> None:
    importers = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else \
                [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] in ("paramiko", "sshtunnel") for name in names):
                importers.add(path.relative_to(PACKAGE).as_posix())
    assert importers == {f"tunnel/{name}.py" for name in (
        "forwarder", "paramiko_identity", "paramiko_login", "paramiko_session", "paramiko_stream", "ssh_config")}
