"""The client's network address behind known proxies.  Pure.

`X-Forwarded-For` grows to the right: each proxy adds the address of its peer.  Read from the right, everything left of
the first address that is not a trusted proxy's was written by the client, and proves nothing.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Sequence

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def client_address(peer: str | None, forwarded_for: Sequence[str], trusted: tuple[str, ...]) -> str:
    """The nearest address that is not a trusted proxy's; "" if there is none, as on a unix socket.

    peer: the other end of the connection.  forwarded_for: every value of the header, in order.
    """
    address = _parsed(peer or "")
    hops = [hop.strip() for value in forwarded_for for hop in value.split(",")]
    while address is not None and hops and _is_trusted(address, trusted):
        before = _parsed(hops.pop())
        if before is None:
            break  # not an address: everything left of it is untrusted
        address = before
    return str(address) if address is not None else ""


def household(address: str) -> str:
    """The unit for counting: an IPv4 address, or the IPv6 /64 of one connection."""
    parsed = _parsed(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address


def _parsed(text: str) -> _Address | None:
    """An address, also with the port that some proxies add; IPv4 written as IPv6 is IPv4."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def _is_trusted(address: _Address, trusted: tuple[str, ...]) -> bool:
    return any(address in network for network in _networks(trusted))


@functools.lru_cache(maxsize=8)
def _networks(trusted: tuple[str, ...]) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(each, strict=False) for each in trusted)
