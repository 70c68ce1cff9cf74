"""The client: what a user holds of a cluster."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from secure_ipp import limits
from secure_ipp.client.balancedview import LoadBalancedView
from secure_ipp.client.connecting import find_capability, trust_of, warn_of_end, warn_of_python
from secure_ipp.client.controls import Controls
from secure_ipp.client.directview import BroadcastView, DirectView
from secure_ipp.client.errors import NoEnginesRegistered, NoSuchEngine, TimeoutError
from secure_ipp.client.executor import ViewExecutor
from secure_ipp.client.history import History
from secure_ipp.client.known import AllMetadata, Results
from secure_ipp.client.progress import is_interactive, progress_bar
from secure_ipp.client.reaching import reach_door
from secure_ipp.client.session import Session
from secure_ipp.client.terminal import line
from secure_ipp.errors import UsageError
from secure_ipp.keys.passphrases import Passphrase

if TYPE_CHECKING:
    from secure_ipp.keys.capability import Capability


class _WrongKey(UsageError, TypeError):
    """Engines were named by something else than ints."""


class Client(Controls):
    """A connection to a cluster, as one identity.

    Args:
        connection_info: path of a connection file (`ipcontroller-client.json`), or its contents as a dict; by
            default that of the cluster named by the other arguments, in the place where this user's clusters lie.
        url_file: an older name of the same.
        profile, cluster_id: ipyparallel's words for a cluster's name.
        cluster: the cluster's name, or a `Cluster`.
        timeout: seconds to look for the controller.
        results: "any" unpickles whatever engines return and shows whatever they display, "data" plain data, texts and
            pictures only; by default "any" if this user made the cluster's keys on this machine, else "data".
        allow: what "data" may hold besides: names such as "pandas.core.frame:DataFrame", classes or functions; exact,
            since they are called with whatever an engine says.  Views, and `AsyncResult.get`, take both words too.
        passphrase: a function that returns the passphrase of a sealed file; by default it is read from the descriptor
            that SECURE_IPP_PASSPHRASE_FD names, or asked for at the terminal or in the notebook.
        sshserver: ``[user@]host[:port]``, to go through SSH there; by default straight to the door, and through the ssh
            route of the file, if it has one, where the door cannot be reached.
        sshkey: path of a private key for that; by default what the user's ssh has.
        password: for that; better stored once (`secure-ipp tunnel login`) or typed when asked for.
        paramiko: use paramiko even if there is an ssh program.
        transport: "direct" or "ssh": this way or none.
        require_post_quantum: refuse an SSH key exchange that a quantum computer could undo; with `transport="ssh"`
            nothing goes by another way.

    Attributes:
        way: how the controller is reached, and why so; a line.
        block: what views made from it do by default.
        history: ids of the tasks sent, oldest first (the latest `CLIENT_HISTORY`).
        results, metadata: of tasks that are still held (see `known`).

    Raises:
        SecureIppError: there is no controller, or it refuses this identity; within `timeout`.
    """

    def __init__(
        self, connection_info: str | os.PathLike[str] | Mapping[str, Any] | None = None, *,
        url_file: str | os.PathLike[str] | None = None, profile: str | None = None, profile_dir: str | None = None,
        ipython_dir: str | None = None, context: Any = None, debug: bool = False, sshserver: str | None = None,
        sshkey: str | None = None, password: str | None = None, paramiko: bool | None = None,
        timeout: float = limits.CONNECT_SECONDS, cluster_id: str | None = None, cluster: Any = None,
        results: str | None = None, allow: Any = None, passphrase: Callable[[], str] | None = None,
        transport: str | None = None, require_post_quantum: bool = False,
    ) -> None:
        try:
            secret = Passphrase.of(password) if password else None
            if profile_dir is not None or ipython_dir is not None:
                raise UsageError(
                    "clusters do not lie in IPython's profile directories", "name the connection file, or the cluster"
                )
            if not timeout > 0:
                raise UsageError(f"a timeout is a positive number of seconds, not {timeout!r}")
            capability = find_capability(
                url_file if connection_info is None else connection_info, profile=profile, cluster_id=cluster_id,
                cluster=cluster, passphrase=passphrase,
            )
        finally:
            # a traceback may be shown with its variables (S11)
            connection_info = url_file = password = passphrase = None
        self.cluster = None if isinstance(cluster, str) else cluster
        self.profile = profile or "default"
        self.block = False
        self.debug = debug
        self.history = History()
        remembers = not getattr(cluster, "is_throwaway", False)
        self.session = Session(capability, trust_of(capability, results, allow), remembers=remembers)
        self._orphan = weakref.finalize(self, _orphan, self.session)
        self._orphan.atexit = False  # the session closes itself then
        self.results = Results(self.session)
        self.metadata = AllMetadata(self.session)
        self.way = "by Curve, straight to the door"
        try:
            reached, left = reach_door(
                capability, self.session.doors.keys, float(timeout), transport=transport, sshserver=sshserver,
                sshkey=sshkey, password=secret, paramiko=paramiko, require_post_quantum=require_post_quantum,
            )
            if reached is not None:
                self.way = reached.said
            welcome = self.session.start(left, reached)
        except BaseException:  # Ctrl-C, too: a traceback that is kept would keep the session
            self.session.close(0.0)
            raise
        warn_of_python(welcome)
        warn_of_end(self.session.ends_soon)

    def __repr__(self) -> str:
        if not hasattr(self, "session"):
            return "<Client that was never connected>"  # as in the traceback of its own making
        state = "closed" if self.session.closed else f"{len(self)} engines"
        return f"<Client of {self.session.capability.cluster!r} as {self.session.capability.name!r}: {state}>"

    def close(self, linger: float | None = None) -> None:
        """Say goodbye and end the connection.

        Args:
            linger: seconds to flush what was sent.
        """
        self.session.close(limits.CLOSE_SECONDS if linger is None or linger < 0 else linger)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # --- engines -------------------------------------------------------------------------------------------------

    @property
    def ids(self) -> list[int]:
        """Ids of the engines that are there, in order."""
        return list(self.session.receiver.roster.ids)

    def __len__(self) -> int:
        return len(self.session.receiver.roster.ids)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[DirectView]:
        for engine in self.ids:
            yield self.direct_view(engine)

    def __getitem__(self, key: int | slice | list[int] | tuple[int, ...]) -> DirectView:
        """A direct view of the engines named.

        Raises:
            IndexError: one is not there.
            TypeError: they are not named by ints.
        """
        if not isinstance(key, int | slice | tuple | list) or isinstance(key, bool):
            raise _WrongKey(f"engines are named by an int, a slice or a list of ints, not by {type(key).__name__}")
        return self.direct_view(key)

    def engines(self, targets: Any) -> list[int]:
        """Ids of the engines that a view's `targets` means now.

        Raises:
            NoEnginesRegistered: there are none at all.
            IndexError: one that was named is not there.
            TypeError: they are not named by ints.
        """
        self.need_engines()
        ids = self.session.receiver.roster.ids
        if targets is None or (isinstance(targets, str) and targets == "all"):
            return list(ids)
        if isinstance(targets, int):
            return [self._engine(targets, ids)]
        if isinstance(targets, slice):
            return list(ids[targets])
        if isinstance(targets, str) or not hasattr(targets, "__iter__"):
            raise _WrongKey(f"engines are named by ints or 'all', not by {targets!r}")
        chosen = [self._engine(target, ids) for target in targets]
        if len(set(chosen)) < len(chosen):
            raise UsageError(f"an engine is named twice: {list(targets)}")
        if not chosen:
            raise NoEnginesRegistered("no engine was named", "name some, or 'all'")
        return chosen

    def _engine(self, target: Any, ids: tuple[int, ...]) -> int:
        if not isinstance(target, int):
            raise _WrongKey(f"engines are named by ints, not by {type(target).__name__}")
        number = int(target)
        if number < 0 and -number <= len(ids):
            return ids[number]
        if number not in self.session.receiver.roster.engines:
            why = self.session.receiver.roster.reasons.get(number, "")
            told = f"No such engine: {number}" + (f" ({line(why)})" if why else "")
            raise NoSuchEngine(told, "client.ids has those there")
        return number

    def need_engines(self) -> None:
        """See whether there are engines.

        Raises:
            NoEnginesRegistered: there are none.
        """
        self.session.receiver.gather()
        if not self.session.receiver.roster.ids:
            self.session.check()
            raise NoEnginesRegistered()

    def wait_for_engines(
        self, n: int | None = None, *, timeout: float | None = -1, block: bool = True,
        interactive: bool | None = None, widget: bool | None = None,
    ) -> Future[None] | None:
        """Wait until so many engines are there.

        Args:
            n: how many; by default as many as the cluster was asked for, else one.
            timeout: seconds; -1 or None: as long as it takes.
            block: if not, return a future.
            interactive: show progress; by default at an interactive prompt.
            widget: as a widget; by default in a notebook.

        Raises:
            TimeoutError: they are not there in time.
        """
        wanted = n if n is not None else (getattr(self.cluster, "n", None) or 1)
        limit = None if timeout is None or timeout < 0 else float(timeout)
        if not block:
            future: Future[None] = Future()
            threading.Thread(
                target=self._wait_in_thread, args=(future, wanted, limit), name="secure-ipp-wait", daemon=True
            ).start()
            return future
        if (is_interactive() if interactive is None else interactive) and len(self) < wanted:
            with progress_bar(widget, total=wanted, desc="engines", unit="engine") as bar:
                self._wait_for_engines(wanted, limit, bar)
        else:
            self._wait_for_engines(wanted, limit, None)
        return None

    def _wait_in_thread(self, future: Future[None], wanted: int, limit: float | None) -> None:
        try:
            self._wait_for_engines(wanted, limit, None)
        except Exception as error:  # noqa: BLE001  handed to whoever waits
            future.set_exception(error)
        else:
            future.set_result(None)

    def _wait_for_engines(self, wanted: int, limit: float | None, bar: Any) -> None:
        receiver = self.session.receiver
        deadline = None if limit is None else time.monotonic() + limit
        while True:
            self.session.check()
            there = len(receiver.roster.ids)
            if bar is not None:
                bar.update(min(there, wanted) - bar.n)
            if there >= wanted:
                return
            remaining = None if deadline is None else deadline - time.monotonic()
            if remaining is not None and remaining <= 0:
                raise TimeoutError(f"{wanted} engines not ready in {limit:g} seconds. Currently ready: {there}")
            with receiver.changed:
                receiver.changed.wait_for(
                    lambda seen=there: len(receiver.roster.ids) != seen or receiver.error is not None,  # type: ignore[misc]
                    1.0 if remaining is None else min(1.0, remaining),
                )

    # --- views ---------------------------------------------------------------------------------------------------

    def direct_view(self, targets: Any = "all", **kwargs: Any) -> DirectView:
        """A view of named engines; "all" means whoever is there at each call, a slice those of now."""
        return DirectView(self, targets=self._view_targets(targets), **kwargs)

    def broadcast_view(self, targets: Any = "all", is_coalescing: bool = False, **kwargs: Any) -> BroadcastView:
        """A view that sends one thing to all its engines; "all" means those of now."""
        return BroadcastView(self, targets=self.engines(targets), is_coalescing=is_coalescing, **kwargs)

    def load_balanced_view(self, targets: Any = None, **kwargs: Any) -> LoadBalancedView:
        """A view that runs each task wherever there is room, among `targets` or all."""
        chosen = None if targets is None or (isinstance(targets, str) and targets == "all") else self.engines(targets)
        return LoadBalancedView(self, targets=chosen, **kwargs)

    def _view_targets(self, targets: Any) -> Any:
        if targets is None or (isinstance(targets, str) and targets == "all"):
            return "all"
        chosen = self.engines(targets)
        return chosen[0] if isinstance(targets, int) else chosen

    def executor(self, targets: Any = None) -> ViewExecutor:
        """A `concurrent.futures.Executor` on a load-balanced view."""
        return self.load_balanced_view(targets).executor

    # --- handing on -----------------------------------------------------------------------------------------------

    def attenuate(
        self, name: str, *, rights: Iterable[str] | str | None = None,
        expires: float | timedelta | str | None = None, out: str | os.PathLike[str] | None = None,
    ) -> Capability:
        """A narrower, shorter capability for somebody else, in force when this returns.

        It draws on this identity's quotas, is revoked with it, and can never do more or last longer.

        Args:
            name: of whoever is to have it; others see it behind this identity's own, as in "alice/bob".
            rights: some of this identity's ("task,direct" or a list); by default all but `admin`.
            expires: seconds since the epoch, a time from now, or what the commands take ("1d", "2027-01-31"); by
                default when this identity's own does.
            out: a private file to write it to; it must not exist.

        Returns:
            The capability, **its secret included**; `Client(capability.as_dict())`, or the file, lets its holder in.

        Raises:
            UsageError: it would say more than this identity's own.
            SecureIppError: the controller refuses; too many were handed on, or this key was revoked.
        """
        from secure_ipp.client.attenuation import attenuate

        return attenuate(self.session, name, rights, expires, out)

    # --- what was sent ---------------------------------------------------------------------------------------------

    @property
    def outstanding(self) -> set[str]:
        """Ids of the tasks that have not ended."""
        return set(self.session.receiver.ledger.own())

    def spin(self) -> None:
        """Nothing: results come by themselves."""

    def spin_thread(self, interval: float = 1) -> None:
        """Nothing: there is a thread already."""

    def stop_spin_thread(self) -> None:
        """Nothing."""


def _orphan(session: Session) -> None:
    session.orphaned = True
