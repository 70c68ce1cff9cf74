"""Files that only their owner can read or change (S9).

Laws: a private file is a regular file of this user's, mode 0600 or less, with one name (hard links would let another
directory hand it out), not a symbolic link, in directories that nobody else can change.  It is written whole to a new
file, fsynced, and given its name in one step; a reader sees the old one, the new one or none.  Checks are made on the
opened descriptor.  Absence is `MissingFile`; ESTALE is retried and never taken for it.
"""

from __future__ import annotations

import errno
import os
import stat
import time

from secure_ipp import limits
from secure_ipp.errors import EnvironmentProblem, PrivateFileError
from secure_ipp.keys.ancestors import MissingFile, check_ancestors, checked_directory, user_id
from secure_ipp.keys.stale import retry_stale

__all__ = [
    "AlreadyThere", "MissingFile", "check_ancestors", "check_private_dir", "make_private_dir", "read_private",
    "remove_private", "write_private",
]

Path = str | os.PathLike[str]
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_READ = os.O_RDONLY | _NO_FOLLOW | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW
_DIRECTORY = os.O_RDONLY | _NO_FOLLOW | getattr(os, "O_DIRECTORY", 0)


class AlreadyThere(EnvironmentProblem, FileExistsError):
    """A file that must be new is there already."""

    code = "exists"


def read_private(path: Path, max_bytes: int) -> bytes:
    """The bytes of a private file.

    Raises:
        MissingFile: there is none.
        PrivateFileError: somebody else could read or change it, or it is longer than `max_bytes`.
        EnvironmentProblem: it cannot be read.
    """
    real = check_ancestors(path)
    for _ in range(limits.LINKED_RETRIES):
        data = retry_stale(lambda: _read_once(real, max_bytes, linked_twice_is_error=False))
        if data is not None:
            return data
        time.sleep(limits.LINKED_RETRY_SECONDS)  # between a writer's link and unlink a file has two names
    data = retry_stale(lambda: _read_once(real, max_bytes, linked_twice_is_error=True))
    assert data is not None
    return data


def _read_once(path: str, max_bytes: int, *, linked_twice_is_error: bool) -> bytes | None:
    try:
        descriptor = os.open(path, _READ)
    except FileNotFoundError:
        raise MissingFile(f"{path} is not there", "check the path") from None
    except OSError as error:
        raise explain("read", path, error) from None
    try:
        found = os.fstat(descriptor)
        if found.st_nlink == 2 and not linked_twice_is_error:
            return None
        _check_file(path, found)
        data = _read_all(descriptor, max_bytes + 1)
    except OSError as error:
        raise explain("read", path, error) from None
    finally:
        os.close(descriptor)
    if len(data) > max_bytes:
        raise PrivateFileError(f"{path} is longer than {max_bytes} bytes", "it is not what it should be; replace it")
    return data


def _check_file(path: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise PrivateFileError(f"{path} is not a regular file", "give the path of the file itself")
    me = user_id()
    if me is None:
        return
    if found.st_uid != me:
        raise PrivateFileError(
            f"{path} belongs to user {found.st_uid}, not to you (user {me})",
            f"copy it: install -m 600 {path} <a directory of yours>",
        )
    if found.st_mode & 0o177:
        raise PrivateFileError(
            f"{path} has mode {stat.S_IMODE(found.st_mode):04o}; others could read or change it",
            f"if nobody did: chmod 600 {path}; else have its holder's grant revoked and a new file made",
        )
    if found.st_nlink > 1:  # none: it was replaced since it was opened; what was opened is whole
        raise PrivateFileError(
            f"{path} has {found.st_nlink} names (hard links)",
            f"remove the others: find {os.path.dirname(path)} -samefile {path}",
        )


def _read_all(descriptor: int, limit: int) -> bytes:
    pieces = []
    while limit > 0:
        piece = os.read(descriptor, min(limit, limits.MIB))
        if not piece:
            break
        pieces.append(piece)
        limit -= len(piece)
    return b"".join(pieces)


def write_private(path: Path, data: bytes, *, exclusive: bool = True) -> None:
    """Make (or, unless `exclusive`, replace) a private file in one step.

    Raises:
        AlreadyThere: `exclusive`, and something has this name.
        PrivateFileError: somebody else could change a directory above it, or what it would replace is no file.
        EnvironmentProblem: it cannot be written (a full disk, say); nothing is left behind.
    """
    real = check_ancestors(path)
    directory_name, name = os.path.split(real)
    if user_id() is None:
        _write_without_directory(real, data, exclusive)
        return
    try:
        directory = os.open(directory_name, _DIRECTORY)
    except OSError as error:
        raise explain("write in", directory_name, error) from None
    temporary = f".{name[:100]}.{os.urandom(8).hex()}.new"
    try:
        _write_new(temporary, data, directory)
        try:
            _give_name(temporary, name, directory, exclusive)
        except BaseException:
            os.unlink(temporary, dir_fd=directory)
            raise
        os.fsync(directory)
    except FileExistsError:
        raise AlreadyThere(f"{real} is there already", "move it away first; nothing is overwritten") from None
    except OSError as error:
        raise explain("write", real, error) from None
    finally:
        os.close(directory)


def _write_new(name: str, data: bytes, directory: int | None) -> None:
    descriptor = os.open(name, _CREATE, 0o600, dir_fd=directory)
    try:
        try:
            if user_id() is not None:
                os.fchmod(descriptor, 0o600)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        os.unlink(name, dir_fd=directory)
        raise


def _give_name(temporary: str, name: str, directory: int, exclusive: bool) -> None:
    if exclusive:
        os.link(temporary, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
        os.unlink(temporary, dir_fd=directory)
        return
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        pass
    else:
        _check_file(name, found)
    os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)


def _write_without_directory(path: str, data: bytes, exclusive: bool) -> None:
    """Where directories have no descriptors (Windows); the profile directory's own rights protect the file."""
    temporary = f"{path}.{os.urandom(8).hex()}.new"
    try:
        _write_new(temporary, data, None)
        if exclusive:
            os.rename(temporary, path)  # there, rename refuses an existing name
        else:
            os.replace(temporary, path)
    except FileExistsError:
        os.unlink(temporary)
        raise AlreadyThere(f"{path} is there already", "move it away first; nothing is overwritten") from None
    except OSError as error:
        raise explain("write", path, error) from None


def remove_private(path: Path) -> None:
    """Remove a file of this user's; its absence is no error.

    Raises:
        PrivateFileError: somebody else could change a directory above it.
        EnvironmentProblem: it cannot be removed.
    """
    try:
        os.unlink(check_ancestors(path))
    except FileNotFoundError:
        return
    except OSError as error:
        raise explain("remove", os.fspath(path), error) from None


def make_private_dir(path: Path) -> str:
    """Make a directory of mode 0700 and whatever is missing above it; its real path.

    Raises:
        PrivateFileError: it is there and open to others, or a directory above it is.
        EnvironmentProblem: it cannot be made.
    """
    text = os.path.join(os.getcwd(), os.fspath(path)).rstrip("/")
    missing = []
    while text and not os.path.lexists(text):
        text, name = os.path.split(text)
        missing.append(name)
    real = checked_directory(text or "/")
    for name in reversed(missing):
        if name in ("", ".", ".."):
            raise PrivateFileError(f"{os.fspath(path)} is no plain path", "give a path without '..'")
        real = os.path.join(real, name)
        try:
            os.mkdir(real, 0o700)
            os.chmod(real, 0o700)  # whatever the umask took away
        except FileExistsError:
            pass  # another process made it just now; it is checked below like any other
        except OSError as error:
            raise explain("make the directory", real, error) from None
    return check_private_dir(real)


def check_private_dir(path: Path) -> str:
    """The real path of a directory that this user owns and nobody else may enter.

    Raises:
        MissingFile: there is none.
        PrivateFileError: it is open to others, belongs to somebody else, or a directory above it does.
    """
    real = checked_directory(os.path.join(os.getcwd(), os.fspath(path)))
    me = user_id()
    if me is None:
        return real
    found = os.lstat(real)
    if found.st_uid != me:
        raise PrivateFileError(
            f"the directory {real} belongs to user {found.st_uid}, not to you (user {me})", "use one of your own"
        )
    if found.st_mode & 0o077:
        raise PrivateFileError(
            f"the directory {real} has mode {stat.S_IMODE(found.st_mode):04o}; it must be closed to others",
            f"chmod 700 {real}",
        )
    return real


def explain(what: str, path: str, error: OSError) -> EnvironmentProblem | PrivateFileError | OSError:
    """The error of this package that says what the system's says; ESTALE stays as it is, for `retry_stale`."""
    if error.errno == errno.ESTALE:
        return error
    if error.errno in (errno.ELOOP, errno.EMLINK):
        return PrivateFileError(f"{path} is a symbolic link", "give the path of the file itself")
    if error.errno == errno.EACCES:
        return PrivateFileError(f"this user may not {what} {path}", "check its owner and mode")
    return EnvironmentProblem(f"cannot {what} {path}: {error.strerror}", "check the path, the disk and its free space")
