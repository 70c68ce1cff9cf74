"""What is told to a starting process, and what it answers."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_ipp.cluster import bootstrap
from secure_ipp.cluster.bootstrap import SupervisorBootstrap, parse_event, read_bootstrap
from secure_ipp.errors import ControllerUnreachable, EnvironmentProblem, Refused


def told(data: bytes) -> SupervisorBootstrap:
    """Give these bytes through a pipe, then its end."""
    reading, writing = os.pipe()

    def write() -> None:
        try:
            os.write(writing, data)
        except BrokenPipeError:
            pass
        os.close(writing)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        return read_bootstrap(reading, SupervisorBootstrap)
    finally:
        os.close(reading)
        writer.join()


def test_a_line_is_read_and_not_a_byte_more() -> None:
    reading, writing = os.pipe()
    wanted = SupervisorBootstrap(cluster="default", client_port=4711, tether=True)
    os.write(writing, msgspec.json.encode(wanted) + b"\nmore")
    assert read_bootstrap(reading, SupervisorBootstrap) == wanted
    assert os.read(reading, 100) == b"more"
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize(
    "line",
    [b"", b"\n", b"{}\n", b'{"cluster": "a"', b'{"cluster": "a", "shell": "rm"}\n', b'{"cluster": 1}\n', b"[]\n"],
)
def test_anything_else_is_refused(line: bytes) -> None:
    with pytest.raises(EnvironmentProblem):
        told(line)


@given(st.binary(max_size=300))
def test_garbage_from_a_child_is_an_error_and_nothing_else(line: bytes) -> None:
    try:
        assert isinstance(parse_event(line, "the hub")["event"], str)
    except EnvironmentProblem as error:
        assert "the hub" in error.message


@pytest.mark.parametrize(
    ("code", "kind"),
    [("unreachable", ControllerUnreachable), ("refused", Refused), ("port-in-use", EnvironmentProblem), ("", None)],
)
def test_a_childs_failure_keeps_its_branch(code: str, kind: type[Exception] | None) -> None:
    line = bootstrap.failed_line(ControllerUnreachable("m", "a", code=code))
    error = bootstrap.failure_of(parse_event(line, "the agent"), "the agent")
    assert type(error) is (kind or EnvironmentProblem)
    assert (error.message, error.advice) == ("m", "a")


def test_an_endless_line_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "LINE_BYTES", 1000)
    with pytest.raises(EnvironmentProblem):
        told(b" " * 5000 + b"\n")


def test_children_find_this_very_package_and_home(monkeypatch: pytest.MonkeyPatch) -> None:
    import secure_ipp._version

    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv("SECURE_IPP_HOME", "/elsewhere")
    environment = bootstrap.child_environment(Path("/here"))
    assert environment["SECURE_IPP_HOME"] == "/here"
    package = Path(secure_ipp._version.__file__).resolve().parent.parent
    assert environment.get("PYTHONPATH") == str(package) or "site-packages" in str(package)


def test_the_working_directory_is_not_on_the_module_path() -> None:
    assert "-P" in bootstrap.module_command("secure_ipp.hub")


def test_s11_no_child_is_told_of_a_descriptor_that_it_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number is that of another file there, which would be read as a passphrase, and closed."""
    monkeypatch.setenv("SECURE_IPP_PASSPHRASE_FD", "3")
    monkeypatch.setenv("SECURE_IPP_NEW_PASSPHRASE_FD", "4")
    assert not [name for name in bootstrap.child_environment(None) if "PASSPHRASE" in name]
