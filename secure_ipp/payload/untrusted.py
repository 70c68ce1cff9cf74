"""The error of a result that holds more than its receiver admits (S19)."""

from __future__ import annotations

from collections.abc import Iterable

from secure_ipp.errors import PolicyError

PLAIN = "return plain types, NumPy arrays without object dtype or exceptions"
TRUST = 'if you trust whoever can run code on these engines with your account, say results="any"'
ADVICE = f"{PLAIN}; or, {TRUST}"
_SHOWN = 12  # names in one message


class UntrustedResult(PolicyError):
    """A result holds more than plain data, and its user has not allowed that.

    Attributes:
        names: what it wanted, as "module:name"; those of them that may be allowed can be given to `allow`.
    """

    code = "untrusted-result"
    names: tuple[str, ...] = ()


def unnamed(problem: str) -> UntrustedResult:
    """The error of bytes that are wrong in themselves."""
    return UntrustedResult(f"a result {problem}; nothing of it was run", ADVICE)


def wanting(found: str, names: Iterable[str], *, forbidden: str = "") -> UntrustedResult:
    """The error of a pickle that names something which is not admitted.

    Args:
        found: what it was stopped at, as "module:name".
        names: all that it names and that is not admitted, as "module:name".
        forbidden: why the name that it was stopped at cannot be allowed; empty: it can.
    """
    wanted = tuple(dict.fromkeys(names))
    if forbidden:
        advice = f"{PLAIN}: {forbidden}; or, {TRUST}"
    else:
        shown = ", ".join(f'"{name}"' for name in wanted[:_SHOWN]) + (", ..." if len(wanted) > _SHOWN else "")
        advice = (
            f"{PLAIN}; or allow by name what may be called here with arguments that the engine chooses:"
            f" allow=[{shown}]; or, {TRUST}"
        )
    error = UntrustedResult(f"a result holds {found.replace(':', '.')}; nothing of it was run", advice)
    error.names = wanted
    return error
