"""Which prompts are answered with a password that was given or stored, by both back ends' words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_ipp import limits
from secure_ipp.keys.passphrases import Passphrase
from secure_ipp.tunnel import failures, prompts
from secure_ipp.tunnel.prompts import Prompter, entry_of
from secure_ipp.tunnel.questions import Questions
from secure_ipp.tunnel.route import Route
from tests.tunnel import faults
from tests.tunnel.ends import Trial
from tests.tunnel.sshd import User

ROUTE = Route("host", "ada")
PASSWORD = "correct horse battery staple 4711"
OF_THE_ROUTE = ["ada@host's password: ", "(ada@host) Password: "]
WORDS = st.text(st.characters(max_codepoint=126), max_size=30)


def answer(prompt: str, route: Route = ROUTE) -> str | None:
    return Prompter(route, Passphrase.of(PASSWORD), interactive=False).answer(prompt)


@pytest.mark.parametrize("prompt", OF_THE_ROUTE)
def test_a_given_password_answers_the_question_for_it_once(prompt: str) -> None:
    prompter = Prompter(ROUTE, Passphrase.of(PASSWORD), interactive=False)
    assert prompter.answer(prompt) == PASSWORD
    assert prompter.answer(prompt) is None


@pytest.mark.parametrize("prompt", [
    "eve@host's password: ", "ada@other's password: ", "(ada@host) One-time code: ", "Password: ",
    "(ada@host) ada@other's password: ", "Enter passphrase for key '/home/ada/.ssh/id_ed25519': ",
    "(ada@host) Password: \nand more",
])
def test_s23_it_answers_no_other_question(prompt: str) -> None:
    assert answer(prompt) is None


@pytest.mark.parametrize("asked", OF_THE_ROUTE)
@given(before=WORDS.filter(str.strip), after=WORDS)
def test_s23_no_words_around_the_question_get_an_answer(asked: str, before: str, after: str) -> None:
    assert answer(before + asked + after) is None


@pytest.mark.parametrize("route", [ROUTE, Route("host")])
def test_the_stored_one_is_given_once_to_the_account_that_it_is_of(monkeypatch: pytest.MonkeyPatch,
                                                                   route: Route) -> None:
    class Stored:
        def fetch(self, entry: object, read: object) -> Passphrase | None:
            return Passphrase.of(PASSWORD) if entry == entry_of(ROUTE) else None

    monkeypatch.setattr(prompts, "Keyring", Stored)
    prompter = Prompter(route, interactive=False)
    assert [prompter.answer(OF_THE_ROUTE[0]) for _ in range(2)] == [PASSWORD, None]
    assert Prompter(Route("host", port=2222), interactive=False).answer(OF_THE_ROUTE[0]) is None
    assert Prompter(Route("host"), interactive=False).answer("eve@host's password: ") is None


def test_s23_each_account_has_an_entry_of_its_own_however_long_its_name_is() -> None:
    long = ".".join(["x" * 60] * 3)
    assert len({entry_of(Route(f"{long}.{end}", "ada")).account for end in ("org", "com")} | {"ssh ada@host"}) == 3
    assert entry_of(ROUTE).account == "ssh ada@host"


class Given(Questions):
    """An `Asker` with one user, who has a password for `route` and nobody at the terminal."""

    def __init__(self, route: Route) -> None:
        self.asked: list[str] = []
        super().__init__(self._put_to_user)
        self._prompter = Prompter(route, Passphrase.of(PASSWORD), interactive=False)

    def _put_to_user(self, question: object) -> None:
        self.asked.append(question.prompt)  # type: ignore[attr-defined]
        with self._lock:
            one = self._open[question.number]  # type: ignore[attr-defined]
        one.text = self._prompter.answer(question.prompt)  # type: ignore[attr-defined]
        one.done.set()


@pytest.mark.live
@pytest.mark.parametrize("interactive", [False, True])
@pytest.mark.parametrize("name", ["openssh", "paramiko"])
@pytest.mark.parametrize("alias", ["", "login", "known"])
def test_a_given_password_logs_in(name: str, interactive: bool, alias: str) -> None:
    trial = Trial(name)  # type: ignore[arg-type]
    options = {"password_auth": not interactive, "kbdint_auth": interactive}
    with faults.Faulty(PASSWORD, **options) as server:
        user = User()
        user.knows(server)
        user.knows(server, name="judged-as")
        user.configure(user.alias("login", server) + user.alias("known", server, "HostKeyAlias judged-as"))
        order = trial.order(user, server, password=True, host=alias)
        try:
            trial.connect(order, Given(order.route))  # type: ignore[arg-type]
        finally:
            trial.end()
        assert server.passwords == [PASSWORD]


@pytest.mark.live
@pytest.mark.parametrize("pad", [0, limits.TEXT_CHARS])
@pytest.mark.parametrize("name", ["openssh", "paramiko"])
def test_s23_a_jump_host_that_asks_for_the_password_of_another_gets_none(name: str, pad: int) -> None:
    """Whatever it puts before the question or behind it, and however long that is."""
    import asyncssh

    class Asks(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            return True

        def kbdint_auth_supported(self) -> bool:
            return True

        def get_kbdint_challenge(self, username: str, lang: str, methods: str) -> object:
            first = f"({username}@127.0.0.1) "
            fill = " " * max(0, pad - len(first) - len("(ada@inner) Password: "))
            return "", "", "", [(f"{fill}(ada@inner) Password: ", False)]

        def validate_kbdint_response(self, username: str, responses: object) -> bool:
            told.append(responses)
            return False

    told: list[object] = []
    trial = Trial(name)  # type: ignore[arg-type]
    with faults.Faulty(factory=Asks) as jump:
        user = User()
        user.knows(jump)
        user.configure(f"Host inner\n  HostName 127.0.0.2\n  User ada\n  ProxyJump {jump.host}:{jump.port}\n")
        asker = Given(Route("inner", "ada"))
        order = trial.order(user, None, host="inner", password=True)
        with pytest.raises((failures.LoginRefused, failures.NoRoute)):
            trial.connect(order, asker)  # type: ignore[arg-type]
        trial.end()
    assert PASSWORD not in str(told)
    assert len(asker.asked) == 1 and "on the way" in asker.asked[0]
