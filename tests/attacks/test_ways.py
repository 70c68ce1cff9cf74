"""Attacks on the choice of a way: hostile files, and libraries without Curve (S22, S23, S25)."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

import secure_ipp as ipp
from secure_ipp.errors import SecureIppError
from secure_ipp.keys.capability import Capability, load_capability, sign_capability
from secure_ipp.keys.cluster_keys import init_cluster
from secure_ipp.keys.issuer import IssuerKey
from secure_ipp.keys.places import ClusterPlace
from secure_ipp.keys.private_files import write_private
from secure_ipp.tunnel import first_use, reach, reached
from secure_ipp.tunnel.first_use import RouteNotAgreed
from tests.running import short_directory

HOSTILE = (
    "-oProxyCommand=touch /tmp/owned", "ada@-oProxyCommand=x", "host;touch /tmp/owned", "$(touch /tmp/owned)",
    "ada@host -p 22", "host\n-oProxyCommand=x", "`x`@host", "ada@host:22:33", "%h@host",
)


def somebody_elses(**values: Any) -> Capability:
    """A file that is good in itself, of a cluster whose keys lie elsewhere."""
    issuer = IssuerKey.generate()
    place = ClusterPlace("lab", short_directory())
    init_cluster(place, hosts=["127.0.0.1"], bind="127.0.0.1")
    own = load_capability(place.client_file)
    return sign_capability(
        issuer, keys=own.keys, cluster="lab", cluster_id=own.cluster_id, role="client", name="ada",
        rights=("task",), expires=0, server_keys=own.server_keys, door=own.door, **values,
    )


@pytest.fixture
def no_ssh(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH on which every program named ssh leaves a mark when it is run."""
    place = short_directory()
    mark = place / "was-run"
    program = place / "ssh"
    program.write_text(f"#!{sys.executable}\nopen({str(mark)!r}, 'w').close()\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    return mark


@pytest.mark.parametrize("route", HOSTILE)
def test_s22_no_route_or_door_of_a_file_reaches_ssh_as_anything_else(no_ssh: Path, route: str) -> None:
    with pytest.raises(SecureIppError):
        somebody_elses(ssh=route)
    plain = {**somebody_elses(ssh="host").as_dict(), "ssh": route}
    with pytest.raises(SecureIppError):
        ipp.Client(plain, timeout=1)
    with pytest.raises(SecureIppError):
        ipp.Client(somebody_elses().as_dict(), sshserver=route, timeout=1)
    assert not no_ssh.exists()


@pytest.mark.parametrize("door", [
    "ipc://relative", "ipc:///a/../b", "ipc:///tmp/x:/etc/passwd", "ipc:///tmp/x\n", "tcp://-oX:1", "tcp://h;id:1",
    "ipc:///" + "a" * 200,
])
def test_s22_no_door_of_a_file_reaches_ssh_as_anything_else(home: Path, door: str) -> None:
    try:
        capability = somebody_elses(ssh="host")
        hostile = msgspec.structs.replace(capability, door=(*capability.door, door))
        spec = reach.spec_of(hostile, reach.ways(reach.Known(
            tcp_doors=hostile.tcp_doors, socket_doors=hostile.socket_doors, local_sockets=(), has_curve=True,
            route="host", route_named=False,
        ), "ssh")[0], reached.Wishes(backend="openssh"))
        forwards = spec.order(Path("/nowhere")).forwards
    except SecureIppError:
        return
    for one in forwards:  # what passed as an address is one, whatever shell or program reads it
        assert shlex.split(one.target) == [one.target] and not one.target.startswith("-")


def test_s23_a_files_route_is_not_used_before_its_user_agreed(no_ssh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    capability = somebody_elses(ssh="eve@evil.example")
    file = short_directory() / "ada.json"
    write_private(file, capability.to_file())
    with pytest.raises(RouteNotAgreed, match=r"eve@evil\.example"):
        ipp.Client(str(file), timeout=3, transport="ssh")  # nobody is at a terminal here
    asked = []
    with pytest.raises(RouteNotAgreed):
        first_use.check_first_use(capability, lambda question: bool(asked.append(question)))
    assert "eve@evil.example" in asked[0]
    assert not no_ssh.exists()
    first_use.check_first_use(capability, lambda question: True)
    first_use.check_first_use(capability, None)  # agreed to once
    other = somebody_elses(ssh="eve@evil.example")
    with pytest.raises(RouteNotAgreed):  # for that cluster's file, and no other's
        first_use.check_first_use(other, None)
    with pytest.raises(RouteNotAgreed):
        first_use.check_first_use(msgspec.structs.replace(capability, ssh="eve@elsewhere.example"), None)


def test_s25_a_way_without_curve_is_never_taken_in_place_of_one_with_it(home: Path, no_ssh: Path) -> None:
    """A file with both doors whose port nobody answers: the socket beside it is not tried, though it is there."""
    import socket

    directory = short_directory()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "client.door"))
        listener.listen()
        listener.settimeout(0.5)
        capability = somebody_elses()
        capability = msgspec.structs.replace(
            capability, door=("tcp://127.0.0.1:9", f"ipc://{directory}/client.door")
        )
        with pytest.raises(SecureIppError):
            ipp.Client(_signed_again(capability), timeout=1)
        with pytest.raises(TimeoutError):
            listener.accept()


def _signed_again(capability: Capability) -> dict[str, Any]:
    issuer = IssuerKey.generate()
    return sign_capability(
        issuer, keys=capability.keys, cluster=capability.cluster, cluster_id=capability.cluster_id, role="client",
        name="ada", rights=capability.rights, expires=0, server_keys=capability.server_keys, door=capability.door,
    ).as_dict()
