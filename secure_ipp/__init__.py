"""Secure IPython Parallel: interactive parallel Python, where holding the right file lets you in and nothing else does.

`import secure_ipp as ipp` runs programs written for `import ipyparallel as ipp`.  Names are loaded when they are
first used (PEP 562), so that the import itself costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from secure_ipp._version import __version__

if TYPE_CHECKING:
    from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION

    from secure_ipp import error
    from secure_ipp.client.asyncresult import AsyncHubResult, AsyncResult
    from secure_ipp.client.balancedview import LoadBalancedView
    from secure_ipp.client.client import Client
    from secure_ipp.client.dependency import Dependency
    from secure_ipp.client.directview import BroadcastView, DirectView
    from secure_ipp.client.errors import (
        CompositeError,
        DependencyTimeout,
        EngineError,
        ImpossibleDependency,
        InvalidDependency,
        KernelError,
        NoEnginesRegistered,
        QuotaExceeded,
        RemoteError,
        TaskAborted,
        TaskRejectError,
        TaskTimeout,
        TimeoutError,
    )
    from secure_ipp.client.executor import ViewExecutor
    from secure_ipp.client.mapresult import AsyncMapResult
    from secure_ipp.client.remotefunction import ParallelFunction, RemoteFunction, parallel, remote
    from secure_ipp.errors import PolicyError, SecureIppError
    from secure_ipp.payload.markers import Reference, UnmetDependency, depend, dependent, interactive, require
    from secure_ipp.payload.objects import UntrustedResult

version_info = tuple(int(part) if part.isdigit() else part for part in __version__.split("."))

_ERRORS = (
    "CompositeError", "DependencyTimeout", "EngineError", "ImpossibleDependency", "InvalidDependency", "KernelError",
    "NoEnginesRegistered", "QuotaExceeded", "RemoteError", "TaskAborted", "TaskRejectError", "TaskTimeout",
    "TimeoutError",
)

_PLACES = {
    "ALL_COMPLETED": "concurrent.futures",
    "FIRST_COMPLETED": "concurrent.futures",
    "FIRST_EXCEPTION": "concurrent.futures",
    "AsyncHubResult": "secure_ipp.client.asyncresult",
    "AsyncMapResult": "secure_ipp.client.mapresult",
    "AsyncResult": "secure_ipp.client.asyncresult",
    "BroadcastView": "secure_ipp.client.directview",
    "Client": "secure_ipp.client.client",
    "Cluster": "secure_ipp.cluster.cluster",
    "Dependency": "secure_ipp.client.dependency",
    "DirectView": "secure_ipp.client.directview",
    "LoadBalancedView": "secure_ipp.client.balancedview",
    "ParallelFunction": "secure_ipp.client.remotefunction",
    "PolicyError": "secure_ipp.errors",
    "Reference": "secure_ipp.payload.markers",
    "RemoteFunction": "secure_ipp.client.remotefunction",
    "SecureIppError": "secure_ipp.errors",
    "UnmetDependency": "secure_ipp.payload.markers",
    "UntrustedResult": "secure_ipp.payload.objects",
    "ViewExecutor": "secure_ipp.client.executor",
    "depend": "secure_ipp.payload.markers",
    "dependent": "secure_ipp.payload.markers",
    "interactive": "secure_ipp.payload.markers",
    "parallel": "secure_ipp.client.remotefunction",
    "remote": "secure_ipp.client.remotefunction",
    "require": "secure_ipp.payload.markers",
    **dict.fromkeys(_ERRORS, "secure_ipp.client.errors"),
}

__all__ = [
    "ALL_COMPLETED",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "AsyncHubResult",
    "AsyncMapResult",
    "AsyncResult",
    "BroadcastView",
    "Client",
    "Cluster",
    "CompositeError",
    "Dependency",
    "DependencyTimeout",
    "DirectView",
    "EngineError",
    "ImpossibleDependency",
    "InvalidDependency",
    "KernelError",
    "LoadBalancedView",
    "NoEnginesRegistered",
    "ParallelFunction",
    "PolicyError",
    "Reference",
    "RemoteError",
    "RemoteFunction",
    "SecureIppError",
    "TaskAborted",
    "QuotaExceeded",
    "TaskRejectError",
    "TaskTimeout",
    "TimeoutError",
    "UnmetDependency",
    "UntrustedResult",
    "ViewExecutor",
    "__version__",
    "depend",
    "dependent",
    "error",
    "interactive",
    "parallel",
    "remote",
    "require",
    "version_info",
]


def __getattr__(name: str) -> Any:
    if name == "error":
        return importlib.import_module("secure_ipp.error")
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(place), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
