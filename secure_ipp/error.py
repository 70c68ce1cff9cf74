"""The errors under their historic place: `ipp.error.RemoteError` and the like."""

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
    collect_exceptions,
)
from secure_ipp.errors import PolicyError
from secure_ipp.payload.markers import UnmetDependency
from secure_ipp.payload.objects import UntrustedResult

__all__ = [
    "CompositeError",
    "DependencyTimeout",
    "EngineError",
    "ImpossibleDependency",
    "InvalidDependency",
    "KernelError",
    "NoEnginesRegistered",
    "PolicyError",
    "RemoteError",
    "TaskAborted",
    "QuotaExceeded",
    "TaskRejectError",
    "TaskTimeout",
    "TimeoutError",
    "UnmetDependency",
    "UntrustedResult",
    "collect_exceptions",
]
