"""What a back end asks, and what users answer: prompts of passwords and passphrases, across threads.

Laws: a prompt that was answered is answered alike on later logins, however soon these follow, until `forget`; the same
prompt twice within one login means that the answer was wrong, and is asked anew; nobody waits longer than
`TUNNEL_ANSWER_SECONDS`, nor when there is nobody to ask.  Answers are never logged or shown.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from secure_ipp import limits
from secure_ipp.tunnel.messages import Question, Reply


class _Open:
    """A question under way."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.done = threading.Event()
        self.text: str | None = None


class Questions:
    """An `Asker`.

    Args:
        put: shows a question to those who may know; called on the asking thread.
    """

    def __init__(self, put: Callable[[Question], None]) -> None:
        self._put = put
        self._lock = threading.Lock()
        self._known: dict[str, str] = {}  # by prompt: the answer
        self._given: set[str] = set()  # prompts that were answered in this login
        self._open: dict[int, _Open] = {}
        self._count = 0
        self._over = False

    def ask(self, prompt: str) -> str | None:
        """The answer; None: nobody knows."""
        with self._lock:
            if prompt in self._given:
                self._known.pop(prompt, None)
            if prompt in self._known:
                self._given.add(prompt)
                return self._known[prompt]
            if self._over:
                return None
            self._count += 1
            one = self._open[self._count] = _Open(Question(self._count, prompt[: limits.TEXT_CHARS]))
        self._put(one.question)
        one.done.wait(limits.TUNNEL_ANSWER_SECONDS)
        with self._lock:
            self._open.pop(one.question.number, None)
            if one.text is not None:
                self._known[prompt] = one.text
                self._given.add(prompt)
        return one.text

    def new_login(self) -> None:
        """What is asked from now on is asked for another login than before."""
        with self._lock:
            self._given.clear()

    def answered(self, reply: Reply) -> None:
        """By a user; only the first answer counts."""
        with self._lock:
            one = self._open.get(reply.number)
            if one is not None and not one.done.is_set():
                one.text = reply.text
                one.done.set()

    def somebody_came(self) -> None:
        """They may know what nobody knew."""
        with self._lock:
            waiting = [one.question for one in self._open.values() if not one.done.is_set()]
        for question in waiting:
            self._put(question)

    def somebody_left(self, somebody_is_there: bool) -> None:
        """With nobody left to ask, what is open stays without an answer."""
        if not somebody_is_there:
            self._end_open()

    def forget(self) -> None:
        """Keep no answer."""
        with self._lock:
            self._known.clear()

    def end(self) -> None:
        """Nobody is asked any more."""
        self._over = True
        self._end_open()
        self.forget()

    def _end_open(self) -> None:
        with self._lock:
            for one in self._open.values():
                one.done.set()
