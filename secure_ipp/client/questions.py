"""Requests that have one answer each: queue status, abort, signal, shutdown, questions for the hub.

Laws: every question ends in an answer or an error; after a lost session the harmless ones are asked again, the
others (a signal, a shutdown) end in an error that says so.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from typing import Any

import msgspec

from secure_ipp.client.terminal import line
from secure_ipp.errors import (
    CapabilityError,
    ControllerUnreachable,
    EnvironmentProblem,
    PeerError,
    PolicyError,
    ProtocolError,
    Refused,
    SecureIppError,
    UsageError,
)
from secure_ipp.wire import messages

_KINDS: dict[str, type[SecureIppError]] = {
    kind.code: kind
    for kind in (
        UsageError, PeerError, ProtocolError, ControllerUnreachable, PolicyError, Refused, CapabilityError,
        EnvironmentProblem,
    )
}


class Question:
    """One request on its way."""

    __slots__ = ("future", "message", "repeatable", "sent")

    def __init__(self, message: messages.Message, *, repeatable: bool) -> None:
        self.message = message
        self.repeatable = repeatable
        self.sent = False
        self.future: Future[Any] = Future()


class Questions:
    """The unanswered ones, by their numbers."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._open: dict[int, Question] = {}

    def new(self, make: Callable[[int], messages.Message], *, repeatable: bool) -> Question:
        """Make a question; from any thread."""
        number = next(self._numbers)
        question = Question(make(number), repeatable=repeatable)
        self._open[number] = question
        return question

    def answered(self, answer: messages.Answer) -> None:
        """An answer came; one that nobody waits for is dropped.

        Raises:
            ProtocolError: its body is not msgpack.
        """
        question = self._open.pop(answer.request, None)
        if question is None:
            return
        try:
            value = msgspec.msgpack.decode(answer.body) if answer.body else None
        except msgspec.MsgspecError as error:
            problem = ProtocolError("the answer to a request cannot be read")
            _end(question.future, error=problem)
            raise problem from error
        _end(question.future, value)

    def failed(self, failure: messages.Failure) -> bool:
        """A request was refused; False if nobody waits for it."""
        question = self._open.pop(failure.request, None)
        if question is not None:
            _end(question.future, error=error_of(failure))
        return question is not None

    def new_session(self) -> Iterator[messages.Message]:
        """The questions to ask again."""
        for number, question in list(self._open.items()):
            if not question.sent:
                continue
            if question.repeatable:
                yield question.message
            else:
                del self._open[number]
                _end(question.future, error=PeerError(
                    "the controller was lost before it answered", "see whether the request took effect, and repeat it",
                ))

    def end(self, error: SecureIppError) -> None:
        """There will be no answers."""
        while self._open:
            _, question = self._open.popitem()
            _end(question.future, error=error)


def error_of(failure: messages.Failure) -> SecureIppError:
    """The error of our tree that a failure names."""
    kind = _KINDS.get(failure.code, SecureIppError)
    return kind(line(failure.reason), line(failure.advice), code=line(failure.code))


def _end(future: Future[Any], value: Any = None, *, error: SecureIppError | None = None) -> None:
    try:
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)
    except InvalidStateError:
        pass  # its owner has cancelled it
