"""The errors that a client's user meets, under the names that ipyparallel's users know.

All are branches of the one tree in `secure_ipp.errors`.  Whatever ended a task at the cluster's side is a
`KernelError`; what came out of remote code, or was decided about it there, is a `RemoteError` that carries the
remote exception's name, message and traceback as text.  Text from engines is made harmless for terminals here.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from typing import Any

from secure_ipp.client.terminal import harmless, show_text
from secure_ipp.errors import EngineSideError, EnvironmentProblem, SecureIppError, UsageError
from secure_ipp.payload import markers


class KernelError(SecureIppError):
    """Something ended a task that should have gone well."""


class TimeoutError(SecureIppError, builtins.TimeoutError):
    """The result, or whatever was waited for, did not come in the time given."""

    code = "timeout"


class NoEnginesRegistered(EnvironmentProblem, KernelError):
    """The operation needs engines, and there are none."""

    code = "no-engines"

    def __init__(self, message: str = "", advice: str = "") -> None:
        super().__init__(
            message or "this operation needs engines, and none is registered",
            advice or "start some, or wait for them with client.wait_for_engines(n)",
        )


class NoSuchEngine(UsageError, IndexError):
    """An engine was named that is not there (any more)."""

    code = "no-such-engine"


class WrongMoment(UsageError, RuntimeError):
    """This can be asked only before, or only after, a task has ended."""

    code = "wrong-moment"


class ClientClosed(UsageError, RuntimeError):
    """The client was closed, or belongs to another process."""

    code = "closed"


class TaskAborted(KernelError):
    """The task was aborted before it started."""

    code = "aborted"


class RemoteError(EngineSideError, KernelError):
    """An exception that was raised at an engine, as text.

    Args:
        ename: name of the exception's class.
        evalue: its message.
        traceback: as rendered at the engine; may hold colours.
        engine_info: "engine_id", "engine_uuid" and "method", where known.
    """

    code = "remote"

    def __init__(self, ename: str, evalue: str, traceback: str = "", engine_info: dict[str, Any] | None = None) -> None:
        ename, evalue, traceback = harmless(ename), harmless(evalue), harmless(traceback)
        super().__init__(evalue)
        self.ename = ename
        self.evalue = evalue
        self.traceback = traceback
        self.engine_info = engine_info or {}
        self.args = (ename, evalue)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _rebuilt, (type(self), self.ename, self.evalue, self.traceback, self.engine_info)

    def __repr__(self) -> str:
        where = self.engine_info.get("engine_id", "")
        return f"<{type(self).__name__}[{where}]:{self.ename}({self.evalue})>"

    def _where(self) -> str:
        if "engine_id" not in self.engine_info:
            return "[cluster]"
        return f"[{self.engine_info['engine_id']}:{self.engine_info.get('method', 'apply')}]"

    def __str__(self) -> str:
        return f"{self._where()} {self.ename}: {self.evalue}"

    def render_traceback(self) -> list[str]:
        """The remote traceback, as lines."""
        return [self._where(), *(self.traceback or f"{self.ename}: {self.evalue}").splitlines()]

    def _render_traceback_(self) -> list[str]:
        """IPython shows this in place of the local traceback."""
        return self.render_traceback()

    def print_traceback(self, excid: int | None = None) -> None:
        """Print the remote traceback."""
        show_text("\n".join(self.render_traceback()))


class _Decided(RemoteError):
    """What the cluster says about a task, rather than what the task's own code raised."""

    def __init__(
        self, message: str = "", evalue: str | None = None, traceback: str = "",
        engine_info: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(type(self).__name__, message if evalue is None else evalue, traceback, engine_info)


class EngineError(_Decided):
    """The engine died, or was lost, with the task."""

    code = "engine-died"


class TaskTimeout(_Decided):
    """The task took longer than it was allowed to."""

    code = "task-timeout"


class TaskRejectError(_Decided):
    """An engine, or the controller, would not take the task."""

    code = "rejected"


class QuotaExceeded(_Decided):
    """This identity, or whoever handed its key on, has used up a quota; the message names it and its amount."""

    code = "quota"


class UnknownTask(_Decided, KeyError):
    """No task of this id is known to the cluster; or it was forgotten; or it is not yours."""

    code = "unknown-task"

    __str__ = RemoteError.__str__


class UnmetDependency(_Decided, markers.UnmetDependency):
    """No engine meets what the task depends on."""

    code = "unmet-dependency"


class ImpossibleDependency(UnmetDependency):
    """What the task depends on has ended in a way that can never fulfil it."""

    code = "impossible-dependency"


class DependencyTimeout(ImpossibleDependency):
    """What the task depends on did not end in the time allowed."""

    code = "dependency-timeout"


class InvalidDependency(ImpossibleDependency):
    """The task depends on something that nobody knows."""

    code = "invalid-dependency"


DECIDED: dict[str, type[_Decided]] = {
    kind.__name__: kind
    for kind in (
        EngineError, TaskTimeout, TaskRejectError, QuotaExceeded, UnmetDependency, ImpossibleDependency,
        DependencyTimeout, InvalidDependency,
    )
}


class CompositeError(RemoteError):
    """Several tasks of one call failed.

    Args:
        message: what was called.
        elist: the errors, as (ename, evalue, traceback, engine_info) or as exceptions.

    Attributes:
        tb_limit: how many tracebacks are shown; the others are counted.
    """

    code = "composite"
    tb_limit = 4

    def __init__(self, message: str, elist: Sequence[tuple[str, str, str, dict[str, Any]] | BaseException]) -> None:
        super().__init__("CompositeError", message)
        self.msg = message
        self._errors = [item if isinstance(item, BaseException) else RemoteError(*item) for item in elist]
        self.args = (message, len(self._errors))

    @property
    def elist(self) -> list[tuple[str, str, str, dict[str, Any]]]:
        """(ename, evalue, traceback, engine_info) of each."""
        return [
            (e.ename, e.evalue, e.traceback, e.engine_info) if isinstance(e, RemoteError)
            else (type(e).__name__, str(e), "", {})
            for e in self._errors
        ]

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return CompositeError, (self.msg, self._errors)

    def __repr__(self) -> str:
        return f"<CompositeError({len(self._errors)})>"

    def __str__(self) -> str:
        shown = self._errors[:16]
        lines = [self.msg, *(_one_line(error) for error in shown)]
        if len(self._errors) > len(shown):
            lines.append(f"... and {len(self._errors) - len(shown)} more")
        return "\n".join(lines)

    def render_traceback(self, excid: int | None = None) -> list[str]:
        """Lines of one of the tracebacks, or of the first few."""
        if excid is not None:
            return _rendered(self._pick(excid))
        lines: list[str] = []
        for error in self._errors[: self.tb_limit]:
            lines += [*_rendered(error), ""]
        more = len(self._errors) - self.tb_limit
        if more > 0:
            lines.append(f"... and {more} more exceptions")
        return lines

    def _render_traceback_(self) -> list[str]:
        return self.render_traceback()

    def print_traceback(self, excid: int | None = None) -> None:
        """Print one of the tracebacks, or the first few."""
        show_text("\n".join(self.render_traceback(excid)))

    def raise_exception(self, excid: int = 0) -> None:
        """Raise one of the errors.

        Raises:
            IndexError: there are not so many.
        """
        raise self._pick(excid) from None

    def _pick(self, excid: int) -> BaseException:
        try:
            return self._errors[excid]
        except IndexError:
            raise IndexError(f"there is no error {excid}: there are {len(self._errors)}") from None


def collect_exceptions(results: Sequence[Any], method: str = "unspecified") -> Sequence[Any]:
    """The results, if there is no exception among them.

    Raises:
        CompositeError: of all that are.
    """
    errors = [result for result in results if isinstance(result, BaseException)]
    if errors:
        raise CompositeError(f"one or more exceptions raised in: {method}", errors)
    return results


def remote_error(ename: str, evalue: str, traceback: Sequence[str], engine_info: dict[str, Any]) -> KernelError:
    """The local class for what ended a task; its texts are made harmless."""
    ename, evalue = harmless(ename), harmless(evalue)
    text = joined(traceback)
    if ename == TaskAborted.__name__:
        return TaskAborted(evalue)
    kind = DECIDED.get(ename)
    if kind is not None:
        return kind(ename, evalue, text, engine_info)
    return RemoteError(ename, evalue, text, engine_info)


def joined(traceback: Sequence[str]) -> str:
    """A traceback's entries as one harmless text."""
    return harmless("".join(entry if entry.endswith("\n") else entry + "\n" for entry in traceback)).rstrip("\n")


def _rebuilt(kind: type[RemoteError], ename: str, evalue: str, traceback: str, info: dict[str, Any]) -> RemoteError:
    return kind(ename, evalue, traceback, info)


def _one_line(error: BaseException) -> str:
    text = str(error) if isinstance(error, RemoteError) else harmless(f"{type(error).__name__}: {error}")
    return harmless(text.splitlines()[0]) if text else type(error).__name__


def _rendered(error: BaseException) -> list[str]:
    return error.render_traceback() if isinstance(error, RemoteError) else [_one_line(error)]
