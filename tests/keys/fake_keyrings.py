"""Back ends for the package `keyring` that are what none should be: in clear, forgetful, lying, broken."""

from __future__ import annotations

from typing import ClassVar

from keyring import backend, errors


class InClear(backend.KeyringBackend):
    """Keeps everything in a table that anybody can read."""

    priority = 1  # type: ignore[assignment]
    kept: ClassVar[dict[tuple[str, str], str]] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


class Forgetful(InClear):
    """Takes everything and keeps nothing."""

    def set_password(self, service: str, username: str, password: str) -> None:
        return None


class Lying(InClear):
    """Gives another answer than what was put in."""

    answer: ClassVar[str] = "A" * 43

    def get_password(self, service: str, username: str) -> str | None:
        return self.answer


class Broken(InClear):
    """Shows what it was given when it fails."""

    def set_password(self, service: str, username: str, password: str) -> None:
        raise errors.PasswordSetError("no\x1b[2J")

    def get_password(self, service: str, username: str) -> str | None:
        raise RuntimeError("the bus is gone")


class Chain(backend.KeyringBackend):
    """As the chain of `keyring` itself, with links of our own."""

    priority = 10  # type: ignore[assignment]
    backends: ClassVar[list[backend.KeyringBackend]] = []

    def get_password(self, service: str, username: str) -> str | None:
        raise AssertionError("a chain is not asked")

    set_password = delete_password = get_password  # type: ignore[assignment]


Chain.__module__ = "keyring.backends.chainer"
