"""Names of clusters, identities and hosts: what may stand in a path, a log line or an address (S22).

A name is a label: lower-case letters, digits, dots, dashes and underscores, beginning with a letter or digit, so that
it is one harmless path component, no option and no hidden file.
"""

from __future__ import annotations

import re

from secure_ipp import limits
from secure_ipp.errors import UsageError

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9_][A-Za-z0-9_-]{0,62}(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?", re.ASCII | re.DOTALL
)


def check_name(text: str) -> str:
    """The name, unchanged.

    Raises:
        UsageError: it is not of the form ``[a-z0-9][a-z0-9._-]{0,63}``.
    """
    if not isinstance(text, str) or not _NAME.fullmatch(text):
        raise UsageError(
            f"{str(text)[:limits.NAME_CHARS]!r} is not a name",
            "use 1 to 64 lower-case letters, digits, '.', '_' or '-', beginning with a letter or digit",
            code="name",
        )
    return text


def check_host(text: str) -> str:
    """A host name or IP address, unchanged; an IPv6 address stands without brackets.

    Raises:
        UsageError: it is neither.
    """
    if isinstance(text, str):
        if _HOST_NAME.fullmatch(text):
            return text
        if ":" in text and _is_ipv6(text):
            return text
    raise UsageError(
        f"{str(text)[:limits.NAME_CHARS]!r} is not a host",
        "give a host name or an IP address, without a port",
        code="host",
    )


def _is_ipv6(text: str) -> bool:
    import ipaddress

    try:
        return ipaddress.IPv6Address(text).scope_id is None
    except ValueError:
        return False


def cluster_name(cluster: str = "", profile: str = "", cluster_id: str = "") -> str:
    """The one name of a cluster, from the words that ipyparallel's users know.

    `cluster` wins; else the profile's name ("default" when empty), followed by "-" and the cluster id if there is one.

    Raises:
        UsageError: what comes out is not a name.
    """
    if cluster:
        return check_name(cluster)
    base = profile or "default"
    return check_name(f"{base}-{cluster_id}" if cluster_id else base)
