"""Pages of docs/ as they are typed: the blocks marked ```console of a page, run in order.

In such a block a line ``who$ command`` is run in bash in the home directory of `who` (``$`` alone: the owner), which is
a host of its own to it: `scp` copies between these directories.  A line that ends in a backslash, or within quotes,
goes on.  What follows up to the next command must stand in what the command writes, in this order, each line as it is,
but that

- ``...`` stands for anything;
- a fingerprint stands for the one that is written in its place, and means that one from then on, in commands, too.

A command ends with status 0, or the page says what it does otherwise (``|| echo refused``).
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests import running

BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROMPT = re.compile(r"^([a-z]*)\$ (.*)$")
FINGERPRINT = re.compile(r"\b[a-z2-7]{4}(?:-[a-z2-7]{4}){5}\b")
OWNER = "owner"
SECONDS = 90

SCP = """#!/bin/sh
# Between the hosts of a page, which are directories beside each other: [host:]path [host:]path
set -e
[ "$1" = -p ] && shift
place() { case "$1" in *:*) echo "$PAGE_HOSTS/${1%%[.:]*}/${1#*:}";; *) echo "$1";; esac; }
case "$2" in *:*) mkdir -p -m 700 "$PAGE_HOSTS/${2%%[.:]*}";; esac
cp -p "$(place "$1")" "$(place "$2")"
"""


@dataclass(frozen=True)
class Step:
    """One command and what it is said to write."""

    who: str
    command: str
    shown: tuple[str, ...]


def steps_of(text: str) -> list[Step]:
    """The commands of a page.

    Raises:
        ValueError: a block begins with something else.
    """
    steps: list[Step] = []
    for block in BLOCK.findall(text):
        joined = block.replace("\\\n", " ")
        first = True
        for line in joined.splitlines():
            prompt = PROMPT.match(line)
            if steps and not first and _is_open(steps[-1].command):
                last = steps.pop()
                steps.append(Step(last.who, f"{last.command}\n{line}", ()))
            elif prompt:
                steps.append(Step(prompt[1] or OWNER, prompt[2], ()))
                first = False
            elif first:
                raise ValueError(f"a block begins without a command: {line!r}")
            elif line.strip():
                last = steps.pop()
                steps.append(Step(last.who, last.command, (*last.shown, line)))
    return steps


def _is_open(command: str) -> bool:
    """Whether the command ends within quotes."""
    try:
        shlex.split(command)
    except ValueError:
        return True
    return False


@dataclass
class Page:
    """Hosts, and what fingerprints of the page mean on them."""

    root: Path
    known: dict[str, str] = field(default_factory=dict)
    more: dict[str, str] = field(default_factory=dict)  # in the environment of its commands

    def run(self, step: Step) -> None:
        """Run one command and look for what it should write.

        Raises:
            AssertionError: it failed, or did not write that.
        """
        command = FINGERPRINT.sub(lambda found: self.known.get(found[0], found[0]), step.command)
        for who in (OWNER, step.who):
            (self.root / who).mkdir(mode=0o700, exist_ok=True)
        home = self.root / step.who
        done = subprocess.run(
            ["bash", "-c", command], cwd=home, env=self._environment(home), stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, timeout=SECONDS, check=False,
        )
        written = done.stdout
        assert done.returncode == 0, f"{step.who}$ {command}\nended with {done.returncode}:\n{written}"
        left = written.splitlines()
        for wanted in step.shown:
            while left and not self._same(wanted, left[0]):
                left.pop(0)
            assert left, f"{step.who}$ {command}\ndid not write {wanted!r}, but:\n{written}"
            left.pop(0)

    def _same(self, wanted: str, line: str) -> bool:
        """Whether a line is the one wanted; then its fingerprints are known."""
        names = FINGERPRINT.findall(wanted)
        pattern = "(" + FINGERPRINT.pattern[2:-2] + ")"
        parts = [re.escape(part).replace(re.escape("..."), ".*") for part in FINGERPRINT.split(wanted.rstrip())]
        match = re.fullmatch(pattern.join(parts), line.rstrip())
        if match is None:
            return False
        found = dict(zip(names, match.groups(), strict=True))
        if any(self.known.get(name, value) != value for name, value in found.items()):
            return False
        self.known.update(found)
        return True

    def _environment(self, home: Path) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SECURE_IPP_")}
        return {
            **inherited, running.MARKER: os.environ[running.MARKER], "HOME": str(home), "PAGE_HOSTS": str(self.root),
            "SECURE_IPP_HOME": str(home / ".secure-ipp"), "PATH": f"{self.root / 'bin'}:{os.environ['PATH']}",
            "USER": home.name, "LOGNAME": home.name, **self.more,
        }

    def install(self) -> None:
        """Put the commands of this package, and those that a page needs beside them, on the path."""
        binaries = self.root / "bin"
        binaries.mkdir(mode=0o700)
        for name in ("secure-ipp", "ipcluster", "ipcontroller", "ipengine"):
            words = " ".join(shlex.quote(word) for word in running.argv(name))
            _script(binaries / name, f'#!/bin/sh\nexec {words} "$@"\n')
        _script(binaries / "python", f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        _script(binaries / "scp", SCP)


def _script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o700)
