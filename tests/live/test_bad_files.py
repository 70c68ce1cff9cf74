"""Connection files that are wrong, missing, expired, foreign or damaged: a clear error, advice, and nobody notices."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import secure_ipp as ipp
from secure_ipp.errors import CapabilityError, ControllerUnreachable, PrivateFileError, Refused
from secure_ipp.keys.capability import load_capability
from secure_ipp.keys.cluster_keys import load_issuer
from secure_ipp.keys.curve import KeyPair
from secure_ipp.keys.issuer import IssuerKey
from secure_ipp.keys.private_files import MissingFile
from tests.live.mistakes import is_clear, remake
from tests.running import RunningCluster, command, short_directory

pytestmark = pytest.mark.live


def damage(cluster: RunningCluster, change: Callable[[str], str], mode: int = 0o600) -> Path:
    path = short_directory() / "ipcontroller-client.json"
    path.touch(mode=0o600)
    path.write_text(change(cluster.place.client_file.read_text()))
    path.chmod(mode)
    return path


def with_field(name: str, value: Any) -> Callable[[str], str]:
    return lambda text: json.dumps({**json.loads(text), name: value})


FRESH_COPY = "take a fresh copy"
DAMAGED: dict[str, tuple[Callable[[str], str], str]] = {
    "empty": (lambda text: "", FRESH_COPY),
    "cut short": (lambda text: text[:-30], FRESH_COPY),
    "not JSON": (lambda text: "pb://key@host:port/furl\n", FRESH_COPY),
    "a list": (lambda text: f"[{text}]", FRESH_COPY),
    "an unknown field": (with_field("ssh_command", "true"), FRESH_COPY),
    "another door": (with_field("door", ["tcp://127.0.0.1:20000"]), "changed after it was made"),
    "another name": (with_field("name", "admin"), "changed after it was made"),
    "another's key": (with_field("secret_key", KeyPair.generate().secret.text), FRESH_COPY),
    "a later format": (with_field("format", "secure-ipp-capability/2"), "install the version"),
    "without Curve": (with_field("curve", False), "ask for a fresh file"),
    "ipyparallel's": (lambda text: '{"key": "1", "ssh": "", "interface": "tcp://*"}', "secure-ipp keys init"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_file(cluster: RunningCluster, what: str) -> None:
    change, advice = DAMAGED[what]
    path = damage(cluster, change)
    with pytest.raises(CapabilityError) as caught:
        ipp.Client(str(path))
    is_clear(caught.value, advice, str(path))


def test_a_damaged_file_at_the_commands(cluster: RunningCluster) -> None:
    path = damage(cluster, lambda text: text[:-30])
    for name, *words in (["ipengine", "--file", str(path), "-n", "1"], ["secure-ipp", "keys", "show", str(path)]):
        done = command(name, *words)
        assert done.returncode == 5 and FRESH_COPY in done.stderr and "Traceback" not in done.stderr


def test_a_file_that_others_can_read(cluster: RunningCluster) -> None:
    path = damage(cluster, lambda text: text, mode=0o640)
    with pytest.raises(PrivateFileError) as caught:
        ipp.Client(str(path))
    is_clear(caught.value, f"chmod 600 {path}")


def test_a_missing_file() -> None:
    path = short_directory() / "ipcontroller-client.json"
    with pytest.raises(MissingFile) as caught:
        ipp.Client(str(path))
    is_clear(caught.value, str(path))
    done = command("ipengine", "--file", str(path))
    assert done.returncode == 2 and str(path) in done.stderr and "copy" in done.stderr


def test_an_engine_file_used_by_a_client_and_the_reverse(cluster: RunningCluster, undisturbed: None) -> None:
    with pytest.raises(CapabilityError) as caught:
        ipp.Client(str(cluster.place.engine_file))
    is_clear(caught.value, "ipcontroller-client.json")
    done = command("ipengine", "--file", str(cluster.place.client_file))
    assert done.returncode == 5 and "ipcontroller-engine.json" in done.stderr


def test_an_expired_file(cluster: RunningCluster, undisturbed: None) -> None:
    issuer, past = load_issuer(cluster.place), int(time.time()) - 60
    with pytest.raises(CapabilityError) as caught:
        ipp.Client(str(remake(load_capability(cluster.place.client_file), issuer, expires=past)))
    is_clear(caught.value, "expired on", "ask the cluster's owner")
    file = remake(load_capability(cluster.place.engine_file), issuer, expires=past)
    done = command("ipengine", "--file", str(file))
    assert done.returncode == 5 and "expired on" in done.stderr


def test_a_file_of_another_cluster_with_the_same_name(
    cluster: RunningCluster, undisturbed: None, wishing: Callable[[str], dict[str, str]]
) -> None:
    """Its keys were made elsewhere; its doors are these, as after a new `keys init` on one machine."""
    issuer, keys, server = IssuerKey.generate(), KeyPair.generate(), KeyPair.generate()
    file = load_capability(cluster.place.client_file)
    begun = time.monotonic()
    with pytest.raises(ControllerUnreachable) as caught:
        ipp.Client(str(remake(file, issuer, keys=keys, server_keys=(server.public,))), timeout=1.5)
    assert time.monotonic() - begun < 2.5
    is_clear(caught.value, "another server key than this file knows", "this file belongs to it and is current")
    with pytest.raises(Refused) as refused:
        ipp.Client(str(remake(file, issuer, keys=keys)), timeout=5)
    is_clear(refused.value, "ask the cluster's owner")
    foreign = remake(load_capability(cluster.place.engine_file), issuer, keys=keys)
    done = command("ipengine", "-n", "1", "--file", str(foreign), env=wishing("little patience"))
    assert done.returncode in (5, 6) and "  -> " in done.stderr  # soon after a start it is "not known yet"
