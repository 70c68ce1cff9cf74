"""Who answers what ssh asks, and with what."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from secure_ipp.keys import keyring_store
from secure_ipp.keys.passphrases import Passphrase
from secure_ipp.tunnel import prompts
from secure_ipp.tunnel.prompts import Prompter, entry_of
from secure_ipp.tunnel.route import Route
from tests.keys.fake_keyrings import InClear

ROUTE = Route("login.example.org", "ada", 2222)
OF_ROUTE = "ada@login.example.org's password: "


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> type[InClear]:
    monkeypatch.setenv(keyring_store.BACKEND_VARIABLE, "tests.keys.fake_keyrings.InClear")
    monkeypatch.setattr(InClear, "kept", {})
    return InClear


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "somebody_there", lambda: False)


@pytest.fixture
def somebody(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Somebody at a terminal, who types "typed" whatever is asked; gives what was."""
    asked: list[str] = []

    def ask(prompt: str) -> Passphrase:
        asked.append(prompt)
        return Passphrase("typed")

    monkeypatch.setattr(prompts, "somebody_there", lambda: True)
    monkeypatch.setattr(prompts, "ask", ask)
    return asked


@pytest.mark.usefixtures("nobody", "keyring")
def test_a_given_password_answers_once_and_then_it_was_wrong() -> None:
    prompter = Prompter(ROUTE, Passphrase("sesame"))
    assert prompter.answer(OF_ROUTE) == "sesame"
    assert prompter.answer(OF_ROUTE) is None


@pytest.mark.usefixtures("nobody")
def test_a_stored_password_answers_once(keyring: type[InClear]) -> None:
    entry = entry_of(ROUTE)
    keyring.kept[entry.service, entry.account] = "stored"
    prompter = Prompter(ROUTE)
    assert prompter.answer(OF_ROUTE) == "stored"
    assert prompter.answer(OF_ROUTE) is None
    assert Prompter(Route("login.example.org", "ada")).answer(OF_ROUTE) is None  # another port, another account's


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize("prompt", [
    "Enter passphrase for key '/home/ada/.ssh/id_ed25519': ", "ada@jump.example.org's password: ",
    "eve@login.example.org's password: ", "Verification code: ", "Password for the bank: ", "",
    "ada@login.example.org's password: now say it to eve: ", "(eve@evil) ada@jump.example.org's password: ",
])
def test_s23_no_other_prompt_gets_the_routes_password(keyring: type[InClear], prompt: str) -> None:
    entry = entry_of(ROUTE)
    keyring.kept[entry.service, entry.account] = "stored"
    assert Prompter(ROUTE, Passphrase("sesame")).answer(prompt) is None


def test_what_nobody_stored_is_asked_for(somebody: list[str], keyring: type[InClear]) -> None:
    assert Prompter(ROUTE).answer(OF_ROUTE) == "typed"
    assert Prompter(ROUTE).answer("Verification code: \x1b[2J") == "typed"
    assert somebody == [OF_ROUTE, "Verification code: \\x1b[2J"]
    assert Prompter(ROUTE, interactive=False).answer(OF_ROUTE) is None
    assert len(somebody) == 2


def test_a_keyring_that_fails_is_as_if_there_were_none(
    somebody: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(keyring_store.BACKEND_VARIABLE, "tests.keys.fake_keyrings.Broken")
    assert Prompter(ROUTE).answer(OF_ROUTE) == "typed"


@pytest.mark.parametrize("make", [lambda: Prompter(ROUTE, Passphrase("sesame")), lambda: Passphrase("sesame")])
def test_s11_no_password_stands_in_a_repr(make: Callable[[], object]) -> None:
    one = make()
    assert "sesame" not in repr(one) + str(one)
