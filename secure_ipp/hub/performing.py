"""Does the hub's actions in order, and what a record is about only when the record lasts.

Laws (S20, S21): one sync serves all that came in a turn of the loop; what cannot be written holds up what stands behind
it, and is tried again with the next beat; what follows from an action comes before anything else that waits.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from secure_ipp.errors import SecureIppError
from secure_ipp.hub.actions import Action, Write
from secure_ipp.hub.recorder import TICK_SECONDS, Recorder
from secure_ipp.wire.loop import Loop
from secure_ipp.wire.session import Session

_log = logging.getLogger(__name__)


class Performer:
    """The actions that wait.

    Args:
        loop: whose turns are counted.
        recorder: where records go.
        do: anything but a `Write`, towards the session it was meant for; gives what follows.
        now: seconds since the epoch.
        head: told of a checkpoint that clients should remember.
    """

    def __init__(
        self, loop: Loop, recorder: Recorder, *, do: Callable[[Action, Session | None], list[Action]],
        now: Callable[[], float], head: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._recorder = recorder
        self._do = do
        self._now = now
        self._head = head
        self._waiting: deque[tuple[Action, Session | None]] = deque()
        self._sync_due = False

    def perform(self, actions: list[Action], session: Session | None) -> None:
        """These, behind what waits."""
        self._waiting.extend((action, session) for action in actions)
        self.go_on()

    def go_on(self) -> None:
        """Do what can be done now."""
        recorder, waiting = self._recorder, self._waiting
        try:
            while waiting and not (recorder.owes and not isinstance(waiting[0][0], Write)):
                action, session = waiting[0]
                if isinstance(action, Write):
                    recorder.write(action.records, self._now())
                    waiting.popleft()
                    continue
                waiting.popleft()
                waiting.extendleft((following, session) for following in reversed(self._do(action, session)))
        except SecureIppError as error:
            _log.debug("what waits is tried again: %s", error.message)
        if recorder.owes and not self._sync_due:
            self._sync_due = True
            self._loop.at_turn_end(self.sync)

    def sync(self) -> None:
        """At the end of a turn: what was written lasts, so what stands behind it may take effect."""
        self._sync_due = False
        try:
            self._recorder.sync(self._now())
        except SecureIppError as error:
            _log.debug("what waits is tried again: %s", error.message)
            return
        self.go_on()

    def keep_journal(self) -> None:
        """From now on: what was written lasts soon, checkpoints are made, and clients hear of them."""
        self._loop.call_later(TICK_SECONDS, self.keep_journal)
        try:
            self._recorder.tick(self._now())
        except SecureIppError as error:
            _log.debug("the journal is tried again: %s", error.message)
        head = self._recorder.new_head(self._now())
        if head:
            self._head(head)
