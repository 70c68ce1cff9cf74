"""Who is asked for a passphrase, in which order, how often; and that a descriptor is read once."""

import getpass
import json
import os
import pty
import signal
import subprocess
import sys
import types
import warnings

import pytest

from secure_ipp import limits
from secure_ipp.errors import UsageError
from secure_ipp.keys import unlocking
from secure_ipp.keys.capability import load_capability
from secure_ipp.keys.key_files import KeyFileError, read_recipient_key
from secure_ipp.keys.passphrases import Passphrase
from secure_ipp.keys.private_files import write_private
from secure_ipp.keys.sealed_files import ByPassphrase, ToRecipient, make_recipient, seal, sealed_capability
from secure_ipp.keys.sealing import WrongPassphrase
from secure_ipp.keys.unlocking import DESCRIPTOR_VARIABLE, NobodyToAsk, Unlocker, from_descriptor, new_passphrase
from tests.keys.test_capability import GOOD, shown_with_variables

WORDS = "opened by these five words"


@pytest.fixture(scope="module")
def text():
    return sealed_capability(GOOD, ByPassphrase(Passphrase.of(WORDS))).to_file()


@pytest.fixture
def path(text, tmp_path):
    write_private(tmp_path / "file.json", text)
    return tmp_path / "file.json"


@pytest.fixture(autouse=True)
def nobody_there(monkeypatch):
    monkeypatch.delenv(DESCRIPTOR_VARIABLE, raising=False)
    monkeypatch.setattr(sys, "stdin", None)


def descriptor(data, monkeypatch):
    """An open descriptor that gives this, named by the variable; its number."""
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    monkeypatch.setenv(DESCRIPTOR_VARIABLE, str(reading))
    return reading


def is_open(number):
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


# --- a descriptor ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\nanother line\n"])
def test_the_first_line_of_a_descriptor_opens_it(path, monkeypatch, end):
    number = descriptor(WORDS.encode() + end, monkeypatch)
    assert load_capability(path) == GOOD
    assert not is_open(number)
    assert DESCRIPTOR_VARIABLE not in os.environ


def test_a_descriptor_is_read_once(path, monkeypatch):
    descriptor(WORDS.encode(), monkeypatch)
    load_capability(path)
    with pytest.raises(NobodyToAsk):
        load_capability(path)


def test_a_wrong_passphrase_from_a_descriptor_is_an_error_at_once(path, monkeypatch):
    descriptor(b"not the passphrase at all\n" + WORDS.encode(), monkeypatch)
    with pytest.raises(WrongPassphrase):
        load_capability(path)


@pytest.mark.parametrize("data", [
    b"", b"\n", b"\xff\xfe\n", b"\x00", b"a\x1bb", b"x" * (4 * limits.PASSPHRASE_CHARS + 9),
    b"x" * (limits.PASSPHRASE_CHARS + 1), b"\xed\xa0\x80",
])
def test_what_is_no_line_of_text_is_refused_and_not_shown(monkeypatch, data):
    number = descriptor(data, monkeypatch)
    with pytest.raises(UsageError) as caught:
        from_descriptor(DESCRIPTOR_VARIABLE)
    assert not is_open(number)
    assert "x" * 50 not in shown_with_variables(caught.value)


@pytest.mark.parametrize("value", ["x", "-1", "1", "2", "3.0", " 3", "٣", "9999999999", "1e2", "/etc/passwd"])
def test_a_variable_that_is_no_number_is_refused(monkeypatch, value):
    monkeypatch.setenv(DESCRIPTOR_VARIABLE, value)
    with pytest.raises(UsageError):
        from_descriptor(DESCRIPTOR_VARIABLE)
    assert DESCRIPTOR_VARIABLE not in os.environ


def test_a_descriptor_that_is_not_open_is_an_error(monkeypatch):
    monkeypatch.setenv(DESCRIPTOR_VARIABLE, "987")
    with pytest.raises(UsageError, match="cannot be read"):
        from_descriptor(DESCRIPTOR_VARIABLE)


def test_stdin_may_be_the_descriptor_and_its_number_stays_taken():
    code = (
        "import os, sys; from secure_ipp.keys.unlocking import from_descriptor as f;"
        "print(f('SECURE_IPP_PASSPHRASE_FD').text == 'words on stdin', os.read(0, 9), f('SECURE_IPP_PASSPHRASE_FD'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=b"words on stdin\nmore", capture_output=True, timeout=60, check=True,
        env={**os.environ, DESCRIPTOR_VARIABLE: "0"},
    )
    assert done.stdout.decode().split("\n")[0] == "True b'' None"


def test_s11_no_traceback_holds_what_a_descriptor_gave(path, monkeypatch):
    descriptor(b"the wrong words, given by mistake", monkeypatch)
    with pytest.raises(WrongPassphrase) as caught:
        load_capability(path)
    assert "given by mistake" not in shown_with_variables(caught.value)


# --- a terminal, a notebook, a function -----------------------------------------------------------------


class Terminal:
    """Somebody who types these answers."""

    def __init__(self, monkeypatch, *answers):
        self.answers, self.prompts = list(answers), []
        monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(isatty=lambda: True))
        monkeypatch.setattr(getpass, "getpass", self)

    def __call__(self, prompt=""):
        self.prompts.append(prompt)
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def test_at_a_terminal_there_are_three_tries(path, monkeypatch, capsys):
    terminal = Terminal(monkeypatch, "wrong words here", "more wrong words", WORDS)
    assert load_capability(path) == GOOD
    assert terminal.prompts == ["passphrase of the client file of 'ada' in cluster 'lab': "] * 3
    said = capsys.readouterr().err
    assert "2 more tries" in said and "1 more try" in said
    assert "wrong words" not in said


def test_and_no_fourth(path, monkeypatch):
    terminal = Terminal(monkeypatch, *["wrong"] * 9)
    with pytest.raises(WrongPassphrase) as caught:
        load_capability(path)
    assert len(terminal.prompts) == limits.PASSPHRASE_TRIES == 3
    assert "wrong" not in shown_with_variables(caught.value).replace("wrong-passphrase", "").replace("WrongP", "")


@pytest.mark.parametrize("trouble", [EOFError(), getpass.GetPassWarning("echo"), NotImplementedError("no stdin")])
def test_a_terminal_that_cannot_ask_is_an_error_that_says_how(path, monkeypatch, trouble):
    Terminal(monkeypatch, trouble)
    with pytest.raises(NobodyToAsk) as caught:
        load_capability(path)
    assert DESCRIPTOR_VARIABLE in caught.value.advice


def test_getpass_never_falls_back_to_an_echo(monkeypatch):
    def echoing(prompt):
        warnings.warn("Can not control echo on the terminal.", getpass.GetPassWarning, stacklevel=2)
        return "typed in sight of all"

    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(getpass, "getpass", echoing)
    with pytest.raises(NobodyToAsk):
        unlocking.ask("? ")


def test_control_c_is_what_it_is(path, monkeypatch):
    Terminal(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        load_capability(path)


def test_in_a_notebook_its_front_end_is_asked(path, monkeypatch):
    """A kernel replaces `getpass.getpass` by its own, which asks the front end; stdin is no terminal there."""
    Terminal(monkeypatch, WORDS)
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(isatty=lambda: False))
    with pytest.raises(NobodyToAsk):
        load_capability(path)
    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    assert load_capability(path) == GOOD


def test_ipython_in_a_pipe_asks_nobody(path, monkeypatch):
    Terminal(monkeypatch, WORDS)
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(isatty=lambda: False))
    for shell in (None, types.SimpleNamespace()):
        monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda shell=shell: shell))
        with pytest.raises(NobodyToAsk):
            load_capability(path)


def test_a_function_is_called_in_place_of_all_asking(path, monkeypatch):
    Terminal(monkeypatch)
    assert load_capability(path, unlock=Unlocker(passphrase=lambda: WORDS)) == GOOD
    with pytest.raises(UsageError, match="a function") as caught:
        Unlocker(passphrase=WORDS)
    assert WORDS not in shown_with_variables(caught.value)


def test_a_new_passphrase_is_typed_twice(monkeypatch):
    Terminal(monkeypatch, WORDS, WORDS)
    assert new_passphrase("it") == Passphrase.of(WORDS)
    Terminal(monkeypatch, WORDS, WORDS + "x")
    with pytest.raises(UsageError, match="differ"):
        new_passphrase("it")
    Terminal(monkeypatch, "short")
    with pytest.raises(UsageError, match="at least"):
        new_passphrase("it")


def test_a_long_opening_is_told(path, monkeypatch):
    monkeypatch.setattr(limits, "SEAL_TOLD_SECONDS", 0.0)
    said = []
    load_capability(path, unlock=Unlocker(passphrase=lambda: WORDS, say=said.append))
    assert said == ["opening the client file of 'ada' in cluster 'lab' (64 MiB of Argon2id) ..."]


# --- a real terminal ------------------------------------------------------------------------------------


def at_a_terminal(code, answers):
    """Run Python code with a terminal of its own, type the answers when asked; (exit status, what stood on it)."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", code])
    seen, pending = b"", list(answers)
    signal.alarm(100)
    try:
        while True:
            try:
                piece = os.read(terminal, 4096)
            except OSError:  # its last process has closed it
                break
            if not piece:
                break
            seen += piece
            if pending and seen.count(b": ") > len(answers) - len(pending):
                os.write(terminal, pending.pop(0).encode() + b"\n")
    finally:
        signal.alarm(0)
        os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), seen.decode()


def test_at_a_real_terminal_the_passphrase_is_not_echoed(tmp_path):
    write_private(tmp_path / "file.json", GOOD.to_file())
    seal_it = f"from secure_ipp.cli.main import secure_ipp as c; c(['keys', 'seal', {str(tmp_path / 'file.json')!r}])"
    status, seen = at_a_terminal(seal_it, [WORDS, WORDS])
    assert status == 0, seen
    assert "once more" in seen and WORDS not in seen
    open_it = (
        "from secure_ipp.keys.capability import load_capability as load;"
        f"print(load({str(tmp_path / 'file.json')!r}).public_key.fingerprint)"
    )
    status, seen = at_a_terminal(open_it, ["not these words", WORDS])
    assert status == 0, seen
    assert GOOD.public_key.fingerprint in seen
    assert WORDS not in seen and "not these words" not in seen
    assert "2 more tries" in seen


def test_everything_sealed_to_a_recipient_whose_key_is_sealed_opens_by_its_passphrase(tmp_path, path):
    key = tmp_path / "recipient.key"
    public = make_recipient(key)
    seal(key, ByPassphrase(Passphrase.of(WORDS)))
    write_private(path, sealed_capability(GOOD, ToRecipient(public)).to_file(), exclusive=False)
    assert load_capability(path, unlock=Unlocker(recipient_key=key, passphrase=lambda: WORDS)) == GOOD


def test_a_recipients_key_is_not_sealed_to_itself_nor_to_another(tmp_path):
    key = tmp_path / "recipient.key"
    public = make_recipient(key)
    with pytest.raises(UsageError, match="seal it by a passphrase"):
        seal(key, ToRecipient(public))
    plain = json.loads(key.read_bytes())
    box = json.loads(sealed_capability(GOOD, ToRecipient(public)).to_file())["sealed"]
    del plain["secret_key"]
    write_private(key, json.dumps({**plain, "sealed": box}).encode(), exclusive=False)
    with pytest.raises(KeyFileError):
        read_recipient_key(key, Unlocker(recipient_key=key))
