"""The back end `openssh`: one login by the ssh program, with what the user has set up for it.

A login is one ssh process that holds a control socket; forwards are added through that, so that the user's own ones
cannot be in their way. How a host key is verified:

- by the user's own lists, by ssh itself (hashed, ``[host]:port``, @revoked, @cert-authority). A key that they do not
  know is the only thing that ssh asks about, and that question says which key it is;
- one that the connection file vouches for is then let pass in a second login with no other list, in which ssh asks
  again and is answered with the fingerprint: so it counts for an unknown host, never against a known one;
- with `Order.accept_new` ssh is answered at once, and writes the key into the user's list as it does for the user;
- a pinned key: first the user's lists are asked by `command.look`, which does not log in, then as with a vouched one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from secure_ipp import limits
from secure_ipp.errors import SecureIppError, UsageError
from secure_ipp.tunnel import command, failures, words
from secure_ipp.tunnel.answers import Answers
from secure_ipp.tunnel.interface import Asker, BackendName, Facts, Order
from secure_ipp.tunnel.processor import has_aes
from secure_ipp.tunnel.route import Route
from secure_ipp.tunnel.settings import Settings, check_route
from secure_ipp.tunnel.ssh_process import WARD, SshProcess

_KINDS = ("ED25519", "ECDSA", "RSA")
_KnownBy = Literal["known_hosts", "file", "accepted"]


class OpenSsh:
    """One login by the ssh program.

    Args:
        order: what to do.
        asker: who may know passwords and passphrases.
    """

    name: BackendName = "openssh"

    def __init__(self, order: Order, asker: Asker) -> None:
        self._order = order
        self._asker = asker
        self._where = order.route.text
        self._heard = words.Words()
        self._process: SshProcess | None = None
        self._answers: Answers | None = None
        self._plan: command.Plan | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._lets_pass: Callable[[str], bool] = lambda fingerprint: False
        self._asked: tuple[str, str] | None = None
        self._passed = False

    def connect(self, until: float) -> Facts:
        """See `interface.Backend`."""
        try:
            return self._connect(until)
        except UsageError as error:
            self.close()
            raise failures.NoSsh(error.message, error.advice) from error
        except OSError as error:
            self.close()
            if isinstance(error, SecureIppError):  # one that is out of time is both
                raise
            raise failures.NoSsh(f"ssh cannot be run: {error}", "see whether ssh works on this machine") from error
        except BaseException:
            self.close()
            raise

    def lost(self, seconds: float) -> str:
        """See `interface.Backend`."""
        process = self._process
        if process is None:
            return "closed"
        if not process.ended(seconds):
            return ""
        return self._heard.last or "ssh has ended"

    def refusal(self) -> str:
        """See `interface.Backend`."""
        return self._heard.refused

    def close(self) -> None:
        """See `interface.Backend`; also while `connect` is under way in another thread, which it ends."""
        with self._lock:
            self._closed = True
            process, self._process = self._process, None
        if process is not None:
            process.end()
        answers, self._answers = self._answers, None
        if answers is not None:
            answers.close()
        for path in self._left():
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def _left(self) -> list[Path]:
        """What may lie in the directory: ssh gives its control socket a longer name until it is ready."""
        directory = self._order.directory
        temporary = [name for pattern in ("ctl*", "hop*.log", "known*") for name in directory.glob(pattern)]
        return [*temporary, *(one.local for one in self._order.forwards)]

    def _connect(self, until: float) -> Facts:
        order = self._order
        if len(os.fsencode(order.directory)) > limits.SSH_PATH_BYTES:
            raise UsageError(f"{order.directory} is too long for sockets in it", "use a shorter runtime directory")
        plan = self._plan = self._prepare(until)
        self._answers = Answers(order.directory, self._answer)
        self._answers.start()
        if order.pinned:
            kind, known_by = self._see_pinned(plan, until)
            if known_by != "accepted":
                self._only(plan, order.pinned, kind, known_by, until)
                return self._forward(Facts(order.pinned, self._exchange(until), known_by), until)
        return self._by_the_users_lists(plan, until)

    def _by_the_users_lists(self, plan: command.Plan, until: float) -> Facts:
        order = self._order
        self._lets_pass = lambda key: (
            order.accept_new and order.pinned in ("", key) and (not order.fingerprints or key in order.fingerprints)
        )
        if self._log_in(command.master(plan, until - time.monotonic()), until, plan):
            asked = self._asked if self._passed else None
            key = asked[1] if asked else self._reported(until)
            return self._forward(Facts(key, self._exchange(until), "accepted" if asked else "known_hosts"), until)
        if self._asked is None or self._passed:
            raise self._failure(plan, until)
        kind, key = self._vouched(plan, *self._asked, until)
        self._only(plan, key, kind, "file", until)
        return self._forward(Facts(key, self._exchange(until), "file"), until)

    def _vouched(self, plan: command.Plan, kind: str, key: str, until: float) -> tuple[str, str]:
        """A key of the server's that the user's lists do not know and the connection file vouches for.

        A server has keys of several kinds, and shows the one that this ssh likes best.
        """
        fingerprints = self._order.fingerprints
        kinds = [other for other in _KINDS if other != kind and plan.settings.host_key_algorithms(other)]
        self._lets_pass = lambda shown: False
        shown = kind, key
        while fingerprints and shown[1] not in fingerprints and kinds:
            process = self._start(command.look(plan, until - time.monotonic(), kind=kinds.pop(0)), plan)
            process.wait(until, lambda: self._asked is not None)
            process.end()
            shown = self._asked or shown
        if shown[1] not in fingerprints:
            raise words.unknown(self._where, key, vouched=bool(fingerprints))
        return shown

    def _see_pinned(self, plan: command.Plan, until: float) -> tuple[str, _KnownBy]:
        """The kind of the pinned key, and who vouches for it now; another key, or nobody, is an error."""
        order = self._order
        self._lets_pass = lambda key: False
        process = self._start(command.look(plan, until - time.monotonic()), plan)
        process.wait(until, lambda: self._heard.shown is not None or self._asked is not None)
        process.end()
        if self._asked is None and self._heard.shown is None:
            raise self._failure(plan, until)
        kind, key = self._asked or self._heard.shown or ("", "")
        if key != order.pinned:
            raise words.changed(self._where, key)
        if self._asked is None:
            return kind, "known_hosts"
        if order.accept_new:
            return kind, "accepted"
        if key not in order.fingerprints:
            raise words.unknown(self._where, key, vouched=bool(order.fingerprints))
        return kind, "file"

    def _only(self, plan: command.Plan, key: str, kind: str, known_by: _KnownBy, until: float) -> None:
        """Log in to whoever has this one key; a password is never for who is known by the connection file alone."""
        self._lets_pass = lambda shown: shown == key
        password = plan.password and known_by != "file"
        plan.only_known.unlink(missing_ok=True)
        argv = command.master(plan, until - time.monotonic(), only=kind, password=password)
        if not self._log_in(argv, until, plan):
            if self._asked is not None and not self._passed:
                raise words.changed(self._where, self._asked[1])
            raise self._failure(plan, until)

    def _log_in(self, argv: list[str], until: float, plan: command.Plan) -> bool:
        """Whether the login stands; if not, its ssh has been ended."""
        process = self._start(argv, plan)
        if process.wait(until, lambda: _is_socket(plan.control)):
            return True
        process.end()
        return False

    def _start(self, argv: list[str], plan: command.Plan) -> SshProcess:
        if self._process is not None:
            self._process.end()
        for number in range(len(plan.hops)):
            plan.hop_log(number).unlink(missing_ok=True)
        plan.control.unlink(missing_ok=True)
        self._heard, self._asked, self._passed = words.Words(), None, False
        process = SshProcess(argv, self._environment(), self._heard.hear)
        with self._lock:
            if self._closed:
                raise failures.NoRoute(f"the way to {self._where} was given up", "")
            self._process = process
            process.start()
        return process

    def _forward(self, facts: Facts, until: float) -> Facts:
        assert self._plan is not None
        if self._order.post_quantum and facts.exchange not in self._plan.exchanges:
            raise words.not_post_quantum(self._where, facts.exchange)
        for one in self._order.forwards:
            one.local.unlink(missing_ok=True)
            done = self._run(command.forward(self._plan, one), until)
            if done.returncode != 0 or not _is_socket(one.local):
                said = words.told(done.stderr.strip() or self._heard.last)
                raise failures.ForwardingRefused(
                    f"{self._where} does not forward to {words.told(one.target)}: {said}",
                    "its administrator may have forbidden it (AllowTcpForwarding, AllowStreamLocalForwarding)",
                )
            os.chmod(one.local, 0o600)
        return facts

    def _exchange(self, until: float) -> str:
        return self._read_of(lambda: self._heard.exchange, "key exchange", until)

    def _reported(self, until: float) -> str:
        return self._read_of(lambda: self._heard.host_key, "host key", until)

    def _read_of(self, fact: Callable[[], str], what: str, until: float) -> str:
        assert self._process is not None
        soon = min(until, time.monotonic() + limits.SSH_WORDS_SECONDS)
        if not self._process.wait(soon, lambda: bool(fact())):
            raise failures.NoSsh(f"this ssh does not say which {what} it has used", "install OpenSSH 7.6 or newer")
        return fact()

    def _answer(self, prompt: str, who: int) -> str | None:
        """What ssh is answered; in the thread of `Answers`."""
        process = self._process
        if process is None or who != process.pid:
            return self._answer_another(prompt)
        question = words.host_question(prompt)
        if question is not None:
            if self._asked is None:
                self._asked = question
            if question == self._asked and self._lets_pass(question[1]):
                self._passed = True
                return question[1] if "[fingerprint]" in prompt else "yes"  # an ssh before 8.0 takes this alone
        if question is not None or words.is_yes_or_no(prompt):
            return "no"
        return self._asker.ask(words.plain(self._by_its_name(prompt)))

    def _by_its_name(self, prompt: str) -> str:
        """With the route's host in place of what the user's configuration has made of it: who has a password stored
        has it stored for that."""
        assert self._plan is not None
        known = self._plan.settings.words
        user, host = known.get("user", ""), self._plan.settings.named
        if prompt == f"{user}@{host}'s password: ":
            return f"{user}@{self._order.route.host}'s password: "
        begins = f"({user}@{host}) "
        return f"({user}@{self._order.route.host}) {prompt[len(begins):]}" if prompt.startswith(begins) else prompt

    def _answer_another(self, prompt: str) -> str | None:
        """To ssh at a jump host, or one that the user's own ProxyCommand runs: what it asks must not be taken for a
        question of the host's, and it lets no unknown host in."""
        if words.is_yes_or_no(prompt):
            return "no"
        return self._asker.ask(f"(on the way to {self._where}) {words.plain(prompt)}")

    def _failure(self, plan: command.Plan, until: float) -> SecureIppError:
        """Why the last try failed: the first hop with something to say is the one that stopped it."""
        for number, (hop, _) in enumerate(plan.hops):
            heard = words.Words()
            for line in _beginning(plan.hop_log(number)).split(b"\n"):
                heard.hear(line)
            if not heard.silent:
                return heard.failure(
                    f"the jump host {hop.text}", post_quantum=self._order.post_quantum, on_the_way=True
                )
        if self._heard.silent and time.monotonic() >= until:
            return failures.NoRoute(f"{self._where} did not answer in time", words.BY_HAND)
        error = self._heard.failure(self._where, post_quantum=self._order.post_quantum)
        if isinstance(error, failures.HostKeyUnknown) and self._asked is None:  # then it was not this host's key
            return self._heard.failure(f"a host on the way to {self._where}", on_the_way=True)
        return error

    def _prepare(self, until: float) -> command.Plan:
        order = self._order
        program = shutil.which("ssh")
        if program is None:
            raise failures.NoSsh("there is no ssh program here", "install OpenSSH, or choose --backend paramiko")
        check_route(order.route)
        exchanges = self._exchanges(program, until) if order.post_quantum else ()
        settings = self._settings(program, order.route, order.identity, until)
        return command.Plan(
            program, WARD, order.route, order.directory, settings, order.identity, order.config,
            self._hops(program, settings, until), order.password, exchanges, has_aes(),
        )

    def _settings(self, program: str, route: Route, identity: str, until: float) -> Settings:
        done = self._run(command.settings_of(program, self._order.config, route, identity), until)
        if done.returncode != 0:
            heard = words.Words()
            for line in done.stderr.encode().split(b"\n"):
                heard.hear(line)
            raise heard.failure(route.text)
        return Settings.parse(done.stdout[: limits.SSH_CONFIG_BYTES])

    def _hops(self, program: str, settings: Settings, until: float) -> tuple[tuple[Route, Settings], ...]:
        """Of the ProxyJump, and of the first hop's own, as ssh itself would go."""
        hops: list[tuple[Route, Settings]] = []
        ahead = list(settings.jumps)
        while ahead:
            if len(ahead) + len(hops) > limits.SSH_HOPS:
                raise UsageError(f"more than {limits.SSH_HOPS} jump hosts", "see ProxyJump in your ssh configuration")
            asked = [(hop, self._settings(program, hop, "", until)) for hop in ahead]
            hops = [*asked, *hops]
            ahead = list(asked[0][1].jumps)
        return tuple(hops)

    def _exchanges(self, program: str, until: float) -> tuple[str, ...]:
        listed = self._run([program, "-Q", "kex"], until).stdout.split()
        found = tuple(name for name in listed if "sntrup761" in name or "mlkem" in name)
        if not found:
            raise failures.NotPostQuantum(
                "this machine's ssh knows no post-quantum key exchange", "install OpenSSH 8.5 or newer here"
            )
        return found

    def _run(self, argv: list[str], until: float) -> subprocess.CompletedProcess[str]:
        """A command of ssh's that ends by itself."""
        seconds = max(0.0, min(until - time.monotonic(), limits.SSH_COMMAND_SECONDS))
        try:
            return subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace", cwd="/",
                env=self._environment(), start_new_session=True, check=False, timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            raise failures.NoRoute(f"{self._where} was not reached in time", "allow more time") from None

    def _environment(self) -> dict[str, str]:
        asking = self._answers.environment if self._answers is not None else {}
        return {**os.environ, **asking, "LC_ALL": "C"}


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return False


def _beginning(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(limits.SSH_LOG_BYTES)
    except OSError:
        return b""
