"""The systems that are measured: how each is found, and what it needs."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from core.peer import Peer


@dataclass(frozen=True)
class Entry:
    """One system.

    Attributes:
        place: module and class.
        requirements: what is installed in its own venv; empty: it runs in ours.
        quick: whether it is part of the quick run.
        secured: what protects its connections, for the report.
    """

    place: str
    requirements: tuple[str, ...]
    quick: bool
    secured: str


_SHARED = ("numpy", "psutil")

PEERS = {
    "ours": Entry("core.peers.ours:Ours", (), True, "Curve, ZAP, rights per message"),
    "ipyparallel": Entry(
        "core.peers.ipyparallel:IPyParallel", ("ipyparallel==9.2.0", *_SHARED), True, "Curve, one key for all"
    ),
    "concurrent.futures": Entry("core.peers.futures:Futures", (), True, "none (pipes of one machine)"),
    "router": Entry("core.peers.router:Router", (), True, "Curve, anybody let in"),
    "parsl": Entry("core.peers.parsl:Parsl", ("parsl", *_SHARED), False, "Curve, one key for all"),
    "dask": Entry("core.peers.dask:Dask", ("distributed", "cryptography", *_SHARED), False, "TLS, one key for all"),
    "ray": Entry("core.peers.ray:Ray", ("ray", *_SHARED), False, "none"),
}


def make(name: str) -> Peer:
    """A peer, not started; in the interpreter that it needs."""
    module, _, kind = PEERS[name].place.partition(":")
    peer = getattr(importlib.import_module(module), kind)()
    assert isinstance(peer, Peer)
    return peer
