"""What ssh runs to ask, and who answers: the script, its socket, and what passes between them."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from secure_ipp import limits
from secure_ipp.tunnel.answers import Answers
from tests import running


class Told:
    """Answers what it was given for a prompt, and remembers who asked what."""

    def __init__(self, **answers: str) -> None:
        self._answers = answers
        self.asked: list[tuple[str, int]] = []

    def __call__(self, prompt: str, who: int) -> str | None:
        self.asked.append((prompt, who))
        return self._answers.get(prompt)


@pytest.fixture
def told() -> Told:
    return Told(passphrase="a ü b", empty="", long="x" * (2 * limits.SSH_ANSWER_BYTES))


@pytest.fixture
def directory() -> Path:
    return running.short_directory()


@pytest.fixture
def answers(directory: Path, told: Told) -> Iterator[Answers]:
    threads = set(threading.enumerate())
    one = Answers(directory, told)
    one.start()
    yield one
    one.close()
    one.close()
    assert list(directory.iterdir()) == []
    running.wait_until(lambda: not set(threading.enumerate()) - threads, 5, "the thread to be gone")


def run(one: Answers, prompt: str, kind: str = "") -> subprocess.CompletedProcess[bytes]:
    """As ssh runs it."""
    kinds = {"SSH_ASKPASS_PROMPT": kind} if kind else {}
    return subprocess.run([one.environment["SSH_ASKPASS"], prompt], env={**os.environ, **kinds}, capture_output=True,
                          timeout=20, check=False)


def test_an_answer_and_none(answers: Answers, told: Told, directory: Path) -> None:
    """S11: the script and the environment have nothing to hide."""
    done = run(answers, "passphrase")
    assert (done.returncode, done.stdout, done.stderr) == (0, "a ü b\n".encode(), b"")
    assert run(answers, "empty").stdout == b"\n"
    nothing = run(answers, "who knows")
    assert (nothing.returncode, nothing.stdout) == (1, b"")
    assert {who for _, who in told.asked} == {os.getpid()}  # it says whose question it is
    script = directory / "askpass"
    assert stat.S_IMODE(script.stat().st_mode) == 0o700 and stat.S_IMODE((directory / "ask").stat().st_mode) == 0o600
    assert "a ü b" not in script.read_text() + str(answers.environment)
    assert answers.environment["SSH_ASKPASS_REQUIRE"] == "force"


def test_prompts_as_they_are(answers: Answers, told: Told) -> None:
    for prompt in ("two\nlines: ", "-n", "$(id) `id` 'x' \"y\" \\n", "ü"):
        run(answers, prompt)
    assert [prompt for prompt, _ in told.asked] == ["two\nlines: ", "-n", "$(id) `id` 'x' \"y\" \\n", "ü"]


def test_too_much_of_either_is_cut(answers: Answers, told: Told) -> None:
    assert len(run(answers, "long").stdout) == limits.SSH_ANSWER_BYTES + 1
    run(answers, "p" * 3 * limits.SSH_PROMPT_BYTES)
    assert 0 < len(told.asked[-1][0]) <= limits.SSH_PROMPT_BYTES


def test_a_wish_to_be_confirmed_is_not_granted(answers: Answers, told: Told) -> None:
    assert run(answers, "passphrase", "confirm").returncode == 1
    assert told.asked == []


def test_a_key_that_wants_to_be_touched(answers: Answers, told: Told, caplog: pytest.LogCaptureFixture) -> None:
    """ssh shows this until it was, and then ends the script; other questions go on meanwhile."""
    waiting = subprocess.Popen([answers.environment["SSH_ASKPASS"], "Confirm user presence for key X"],
                               env={**os.environ, "SSH_ASKPASS_PROMPT": "none"}, stdout=subprocess.DEVNULL)
    try:
        running.wait_until(lambda: "Confirm user presence" in caplog.text, 10, "the words")
        assert run(answers, "passphrase").returncode == 0
        assert waiting.poll() is None
        answers.close()
        assert waiting.wait(10) == 1
    finally:
        waiting.kill()
        waiting.wait()


def test_who_comes_and_says_nothing_hinders_nobody(answers: Answers, monkeypatch: pytest.MonkeyPatch,
                                                   directory: Path) -> None:
    monkeypatch.setattr(limits, "CONTROL_SECONDS", 0.2)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(directory / "ask"))
        assert run(answers, "passphrase").returncode == 0
    for said in (b"", b"x", b"\xff\n\n\xff", b"12\n"):
        with socket.socket(socket.AF_UNIX) as odd:
            odd.connect(str(directory / "ask"))
            odd.sendall(said)
    assert run(answers, "passphrase").returncode == 0


def test_closed_before_it_began(directory: Path, told: Told) -> None:
    Answers(directory, told).close()
