"""Every command of the walk-throughs in docs/ is run, on hosts and clusters of its own, and writes what is shown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import running
from tests.docs.console import BLOCK, Page, Step, steps_of
from tests.tunnel.sshd import Server, User

DOCS = running.ROOT / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md") if BLOCK.search(path.read_text()))


@pytest.fixture
def login_node() -> Iterator[Path]:
    """The ssh configuration of everybody on a page that has a login.example.org."""
    user = User()
    with Server(authorized=[user.public_key]) as server:
        user.configure(user.alias("login.example.org", server))
        yield user.config


@pytest.mark.live
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_does_what_it_says(name: str, request: pytest.FixtureRequest) -> None:
    page = Page(running.short_directory())
    page.install()
    if "login.example.org" in (DOCS / name).read_text():
        page.more["SECURE_IPP_SSH_CONFIG"] = str(request.getfixturevalue("login_node"))
    try:
        for step in steps_of((DOCS / name).read_text()):
            page.run(step)
        left = list(page.root.glob("*/.secure-ipp/*/state.json"))
        assert not left, "a page ends with its clusters stopped"
    finally:
        page.run(Step("owner", "ipcluster stop; true", ()))
    running.wait_until(lambda: not running.our_processes(page.root / "owner" / ".secure-ipp"), 10)


def test_the_walk_throughs_are_there() -> None:
    assert {"operators-guide.md", "collaborators.md", "tunnels.md"} <= set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_names_only_files_that_are_there(name: str) -> None:
    for link in re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", (DOCS / name).read_text()):
        assert (DOCS / link).exists(), link


# --- the way in which pages are run -------------------------------------------------------------------------------


@pytest.fixture
def page(tmp_path: Path) -> Page:
    one = Page(tmp_path)
    one.install()
    return one


def test_commands_are_found_with_who_types_them_and_what_they_write() -> None:
    text = "a\n```console\n$ one \\\n  two\nout\n\nada$ three 'a\n$ b'\n```\n```python\n$ not this\n```\n"
    assert steps_of(text) == [Step("owner", "one    two", ("out",)), Step("ada", "three 'a\n$ b'", ())]
    with pytest.raises(ValueError, match="without a command"):
        steps_of("```console\nwords\n```\n")


@pytest.mark.parametrize("step", [
    Step("owner", "false", ()), Step("owner", "echo one", ("two",)), Step("owner", "printf 'b\\na\\n'", ("a", "b")),
    Step("owner", "echo 1 end", ("... start",)), Step("owner", "echo x aaaa", ("x aaaa-aaaa-aaaa-aaaa-aaaa-aaaa",)),
])
def test_a_page_that_is_wrong_fails(page: Page, step: Step) -> None:
    with pytest.raises(AssertionError):
        page.run(step)


def test_a_fingerprint_means_what_was_written_in_its_place(page: Page) -> None:
    shown, real = "aaaa-aaaa-aaaa-aaaa-aaaa-aaaa", "bcde-bcde-bcde-bcde-bcde-bcde"
    page.run(Step("owner", f"echo key {real} now", (f"key {shown} ...",)))
    page.run(Step("ada", f"test {shown} = {real} && echo same", ("same",)))
    with pytest.raises(AssertionError):
        page.run(Step("owner", "echo key cccc-cccc-cccc-cccc-cccc-cccc now", (f"key {shown} now",)))


def test_hosts_are_apart_and_scp_goes_between_them(page: Page) -> None:
    page.run(Step("ada", "echo mine > note && scp -p note owner.example.org:", ()))
    page.run(Step("owner", "cat note", ("mine",)))
    page.run(Step("owner", "scp ada.example.org:note copy && cat copy && pwd", ("mine", ".../owner")))
