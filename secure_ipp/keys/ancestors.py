"""Whether somebody else could put another file in a path's place (S9).

Walks a path from the root, following symbolic links, and looks at every directory and every link on the way.
Laws: a directory belongs to root or to this user, and neither group nor others may write in it, except that a
root-owned sticky directory (/tmp) passes; a link belongs to root or to this user.  Nobody else can then change what
the path leads to, so the checked path may be opened afterwards.  Where a system has no user ids (Windows) only the
path's existence is checked.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import TypeVar

from secure_ipp import limits
from secure_ipp.errors import EnvironmentProblem, PrivateFileError
from secure_ipp.keys.stale import retry_stale

_T = TypeVar("_T")


class MissingFile(EnvironmentProblem, FileNotFoundError):
    """A file or a directory above it is not there."""

    code = "missing"


def user_id() -> int | None:
    """The effective user id; None where the system has none."""
    return os.geteuid() if hasattr(os, "geteuid") else None


def check_ancestors(path: str | os.PathLike[str]) -> str:
    """The path with links in its directories resolved, once every directory above the file has been checked.

    The last component is neither followed nor looked at; it may be absent.

    Raises:
        PrivateFileError: another user could change a directory or link on the way.
        MissingFile: a directory on the way is not there.
    """
    text = os.fspath(path)
    if "\0" in text or not text:
        raise PrivateFileError(f"{text!r} is no path", "give the path of a file")
    text = os.path.join(os.getcwd(), text)
    head, last = os.path.split(text)
    if last in ("", ".", ".."):
        raise PrivateFileError(f"{text} names no file", "give the path of a file, not ending in '/', '.' or '..'")
    return os.path.join(checked_directory(head), last)


def checked_directory(path: str) -> str:
    """The real path of this absolute directory, once it and all above it have been checked."""
    if user_id() is None:
        if not os.path.isdir(path):
            raise MissingFile(f"{path} is not there", "check the path")
        return os.path.realpath(path)
    pending = _components(path)
    real = "/"
    links = 0
    _check_directory(real)
    while pending:
        name = pending.pop()
        if name == "..":
            real = os.path.dirname(real)
            continue
        here = os.path.join(real, name)
        found = _look(here, os.lstat)
        if stat.S_ISLNK(found.st_mode):
            links += 1
            if links > limits.SYMLINKS:
                raise PrivateFileError(f"{path} goes through too many symbolic links", "give the real path")
            _check_owner(here, found, "the symbolic link")
            target = _look(here, os.readlink)
            if target.startswith("/"):
                real = "/"
            pending.extend(_components(target))
        else:
            real = here
            _check_directory(real)
    return real


def _components(path: str) -> list[str]:
    """Last one first; empty ones and "." left out."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _look(path: str, question: Callable[[str], _T]) -> _T:
    try:
        return retry_stale(lambda: question(path))
    except (FileNotFoundError, NotADirectoryError):
        raise MissingFile(f"{path} is not there", "check the path") from None
    except PermissionError:
        raise PrivateFileError(f"{path} may not be looked at by this user", "check its owner and mode") from None


def _check_directory(path: str) -> None:
    found = _look(path, os.lstat)
    if not stat.S_ISDIR(found.st_mode):
        raise MissingFile(f"{path} is not a directory", "check the path")
    _check_owner(path, found, "the directory")
    if found.st_mode & 0o022 and not (found.st_uid == 0 and found.st_mode & stat.S_ISVTX):
        raise PrivateFileError(
            f"others may write in the directory {path} (mode {stat.S_IMODE(found.st_mode):04o}), "
            "so they could exchange what lies below it",
            f"chmod go-w {path}   (or keep the files elsewhere: SECURE_IPP_HOME)",
        )


def _check_owner(path: str, found: os.stat_result, what: str) -> None:
    me = user_id()
    if found.st_uid not in (0, me):
        raise PrivateFileError(
            f"{what} {path} belongs to user {found.st_uid}, who could exchange what lies below it",
            f"keep the files below directories that belong to you (user {me}) or to root",
        )
