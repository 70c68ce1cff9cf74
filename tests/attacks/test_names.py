"""Names, paths and texts from outside (S22), and ways to ask for less than Curve (S25).

A name that is none is refused wherever it enters, before a file is made or a process is started; no text becomes a
shell's, a path's or a terminal's.
"""

from __future__ import annotations

import ast
import inspect
import os
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

import secure_ipp as ipp
from secure_ipp.cli import main
from secure_ipp.cli.options import run_safely
from secure_ipp.errors import CapabilityError, EnvironmentProblem, SecureIppError, UsageError
from secure_ipp.keys.capability import load_capability, sign_capability
from secure_ipp.keys.cluster_keys import init_cluster, load_issuer
from secure_ipp.keys.places import ClusterPlace
from tests.running import short_directory

HOSTILE = [
    "../../etc", "/etc", "..", "-rf", "--file=/etc/passwd", "$(touch PWNED)", "`touch PWNED`", "a;touch PWNED", "a b",
    "a\nb", "a\x1b]0;owned\x07", "{0.__class__}", "%s%n", "ä", "A", "a" * 65, "a\0b",
]
PACKAGE = Path(inspect.getfile(ipp)).parent


def command(name: str, *args: str) -> Any:
    if name == "ipcluster":
        return CliRunner().invoke(main.ipcluster, list(args))
    return CliRunner().invoke(main.secure_ipp, list(args) if name == "secure-ipp" else [name, *args])


COMMANDS = [
    ("secure-ipp", "keys", "init"), ("secure-ipp", "keys", "list"), ("secure-ipp", "status"), ("secure-ipp", "doctor"),
    ("ipcluster", "start", "--daemonize"), ("ipcluster", "stop"), ("ipcluster", "engines"), ("controller",),
    ("engine",),
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("option", ["--cluster", "--profile", "--cluster-id"])
def test_s22_no_command_takes_what_is_no_name(home: Path, words: tuple[str, ...], option: str) -> None:
    for name in HOSTILE:
        if option == "--cluster-id" and name in ("..", "-rf", "--file=/etc/passwd"):
            continue  # "default-.." is a harmless name
        done = command(*words, f"{option}={name}")
        assert done.exit_code == 2, (name, done.output)
        assert "\x1b" not in done.output and "Traceback" not in done.output
    assert list(home.iterdir()) == [] and not Path("PWNED").exists()


@pytest.mark.parametrize("name", HOSTILE)
def test_s22_no_call_takes_what_is_no_name(home: Path, name: str) -> None:
    for use in (
        lambda: ipp.Client(cluster=name), lambda: ipp.Client(profile=name), lambda: ClusterPlace(name),
        lambda: ipp.Cluster(n=1, profile=name).start_cluster_sync(),
    ):
        with pytest.raises(SecureIppError):
            use()
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("word", ["-oProxyCommand=touch PWNED", "a;touch PWNED", "a b", "a\nb", "$(x)", "a:1", "*", ""])
@pytest.mark.parametrize("option", ["--host", "--bind"])
def test_s22_no_host_is_an_option_or_a_command(home: Path, word: str, option: str) -> None:
    if (option, word) in (("--bind", "*"), ("--bind", "")):
        return
    done = command("secure-ipp", "keys", "init", f"{option}={word}")
    assert done.exit_code == 2, done.output
    assert not any(path.is_file() for path in home.rglob("*") if path.suffix in (".json", ".key", ".toml"))


@pytest.mark.parametrize("name", ["with space", "$(touch PWNED)", "quo'te\"", "new\nline", "-dash", "%n{0}", "ä"])
def test_s22_a_home_of_any_name_is_just_a_directory(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("SECURE_IPP_HOME", str(short_directory() / name))
    made = command("secure-ipp", "keys", "init", "--bind=127.0.0.1", "--host=127.0.0.1")
    assert made.exit_code == 0, made.output
    assert command("secure-ipp", "keys", "list").exit_code == 0
    with pytest.raises(SecureIppError):
        ipp.Client(timeout=0.3)  # found its file, and nobody at the door
    assert not Path("PWNED").exists()


def test_s22_the_last_words_of_a_door_do_not_reach_the_terminal_as_they_are() -> None:
    @click.command()
    @run_safely
    def fails() -> None:
        raise EnvironmentProblem("gone\x1b]0;owned\x07\nroot# rm", "\x1b[2Jdo this")

    done = CliRunner().invoke(fails)
    assert "\x1b" not in done.output and "\x07" not in done.output and "\nroot#" not in done.output


def test_s22_nothing_in_the_package_runs_a_shell_or_evaluates_a_template() -> None:
    """The user's own code on an engine aside, which is what engines are for."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            shell = name.startswith("subprocess.") and any(word.arg == "shell" for word in node.keywords)
            if shell or name in ("os.system", "os.popen", "os.spawnl", "os.execl", "subprocess.getoutput"):
                found.append(f"{path.name}:{node.lineno} {name}")
            if name in ("eval", "exec", "compile") and path.parent.name != "engine":
                found.append(f"{path.name}:{node.lineno} {name}")
    assert found == []


# --- less than Curve ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [("ipcluster", "start"), ("controller",)], ids=" ".join)
def test_s25_no_command_takes_curve_away(home: Path, words: tuple[str, ...]) -> None:
    """Neither --no-curve nor an edited cluster.toml makes a port that is plain; nothing is started, nothing is made."""
    place = ClusterPlace("default")
    init_cluster(place, hosts=["127.0.0.1"], bind="127.0.0.1")
    done = command(*words, "--no-curve")
    assert done.exit_code == 2 and "has Curve" in done.output and "keys init --no-curve" in done.output
    place.config.write_text(place.config.read_text().replace("curve = true", "curve = false"))
    for more in ((), ("--no-curve",), ("--curve",)):
        done = command(*words, *more)
        assert done.exit_code == 7 and "nothing listens on TCP without Curve" in done.output
    assert not place.state_file.exists() and not place.log_dir.exists()


@pytest.mark.parametrize("words", [("ipcluster", "start"), ("controller",)], ids=" ".join)
@pytest.mark.parametrize("more", [(), ("--curve",), ("--ssh-door",)], ids=" ".join)
def test_s25_nobody_gets_less_than_curve_without_saying_so(
    home: Path, words: tuple[str, ...], more: tuple[str, ...]
) -> None:
    place = ClusterPlace("lab")
    init_cluster(place, curve=False)
    done = command(*words, *more, "--cluster", "lab")
    assert done.exit_code == 2 and "ipcluster start --no-curve --cluster lab" in done.output
    with pytest.raises(UsageError, match="made without Curve"):
        ipp.Cluster(1, cluster="lab").start_cluster_sync()
    assert not place.state_file.exists() and not place.log_dir.exists()


def test_s25_a_cluster_without_curve_has_no_port_to_give(home: Path) -> None:
    """In its files, in what the scheduler is told, and however it is started."""
    from secure_ipp.cluster.doors import doors_for

    place = ClusterPlace("lab")
    config = init_cluster(place, curve=False).config
    doors = doors_for(place, config, curve=False)
    assert doors.client_endpoints() == doors.engine_endpoints() == []
    assert doors.client_socket == str(place.client_door_socket())
    assert Path(doors.client_socket).parent.stat().st_mode & 0o777 == 0o700
    for given in ({"client_port": 5000}, {"engine_port": 5000}, {"bind": "*"}):
        with pytest.raises(UsageError, match="nothing of it listens on TCP"):
            doors_for(place, config, curve=False, **given)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="nothing listens on TCP"):
            init_cluster(ClusterPlace("other"), curve=False, **given)  # type: ignore[arg-type]
    for file in (place.client_file, place.engine_file):
        assert not load_capability(file).tcp_doors


def test_s25_a_signed_file_that_says_curve_false_is_refused(home: Path) -> None:
    """Even the issuer's own signature does not make a plain connection."""
    import msgspec

    from secure_ipp.keys import capability as module
    from secure_ipp.keys import fields

    place = ClusterPlace("default")
    init_cluster(place, hosts=["127.0.0.1"], bind="127.0.0.1")
    made, issuer = load_capability(place.client_file), load_issuer(place)
    plain = msgspec.structs.replace(made, curve=False)
    signed = msgspec.structs.replace(
        plain, signature=fields.sign(issuer, module.PURPOSE, module._public_part(plain))
    )
    with pytest.raises(CapabilityError) as caught:
        ipp.Client(signed.as_dict())
    assert caught.value.code == "no-curve" and caught.value.advice
    said = ("cluster", "cluster_id", "role", "name", "rights", "expires", "door")
    kept = {name: getattr(made, name) for name in said}
    with pytest.raises(CapabilityError, match="a plain connection"):  # nor do the owner's commands sign such a file
        sign_capability(issuer, keys=made.keys, server_keys=made.server_keys, curve=False, **kept)


def test_s25_a_libzmq_without_curve_is_an_error_before_any_socket(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import zmq

    init_cluster(ClusterPlace("default"), hosts=["127.0.0.1"], bind="127.0.0.1")
    monkeypatch.setattr(zmq, "has", lambda what: what != "curve")
    made: list[Any] = []
    monkeypatch.setattr(zmq.Context, "socket", lambda *args, **options: made.append(args))
    with pytest.raises(EnvironmentProblem) as caught:
        ipp.Client(timeout=1)
    assert caught.value.code == "no-curve" and "pip install" in caught.value.advice
    assert not made
    assert command("secure-ipp", "doctor").exit_code == 7


def test_s25_no_door_of_a_file_is_anything_but_tcp_with_curve_or_a_socket_without_it(home: Path) -> None:
    place = ClusterPlace("default")
    init_cluster(place, hosts=["127.0.0.1"], bind="127.0.0.1")
    plain = load_capability(place.client_file).as_dict()
    for door in ("ipc:///tmp/x", "inproc://x", "udp://127.0.0.1:1", "tcp://127.0.0.1", "http://127.0.0.1:80", ""):
        with pytest.raises(CapabilityError):
            ipp.Client({**plain, "door": [door]})
    assert os.listdir(home) == ["default"]
