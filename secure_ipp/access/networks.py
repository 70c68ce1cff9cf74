"""From where a key may be used: networks as CIDR, and the address that a connection comes from.

Pure.  Laws: no network means from anywhere; an address that cannot be read is in no network; an IPv4 address is the
same however it is written (`::ffff:192.0.2.1`).  It is the address that this host sees: behind a NAT or a tunnel, that
of the NAT or of the tunnel's end.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def is_inside(address: str, networks: Sequence[str]) -> bool:
    """Whether an address, as libzmq or the kernel writes it, is in one of these networks (or there are none)."""
    if not networks:
        return True
    try:
        found = ipaddress.ip_address(address.strip("[]").partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in network for network in map(_network, networks) if network.version == found.version)


@lru_cache(maxsize=4096)
def _network(text: str) -> Network:
    return ipaddress.ip_network(text)
