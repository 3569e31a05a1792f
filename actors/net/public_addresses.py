"""Which hosts a worker may be sent to by data it was given: public ones only.  The check is on addresses, after DNS.

What is public is decided by IANA's registries of special-purpose addresses (`reserved_addresses`), not by the standard
library, whose idea of them is as old as the Python that runs.  An address that only carries an IPv4 address for a
translator is judged by that one; 6to4 and Teredo, which lead through relays of strangers, are refused.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

from aiohttp.abc import AbstractResolver, ResolveResult

from actors.net.reserved_addresses import (
    GLOBAL_UNICAST,
    IPV4,
    IPV4_MAPPED,
    IPV4_MULTICAST,
    IPV6,
    WELL_KNOWN_TRANSLATION,
)
from supervisor.net.name_resolver import PooledResolver

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class NotPublic(OSError):
    """The host stands in a private network, or on this machine."""


def is_public(address: str, *translation_prefixes: str) -> bool:
    """Whether an IP address may be asked on behalf of a user.

    translation_prefixes: where the network has translators of its own (RFC 6052), such as 2001:db8:64::/96.
    """
    try:
        ip: _Address = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        carried = carried_ipv4(ip, translation_prefixes)
        ip = carried if carried is not None else ip
    return _is_globally_reachable(ip)


def carried_ipv4(
    ip: ipaddress.IPv6Address, translation_prefixes: Sequence[str]
) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a translator sends this one to (RFC 6052, section 2.2); None for any other."""
    prefixes = (IPV4_MAPPED, WELL_KNOWN_TRANSLATION, *map(ipaddress.IPv6Network, translation_prefixes))
    found = max(
        (prefix for prefix in prefixes if ip in prefix), key=lambda prefix: prefix.prefixlen, default=None
    )
    if found is None:
        return None
    after = ip.packed[found.prefixlen // 8 :]
    # Octet 8 of the address is left out where the IPv4 address would lie on it.
    skipped = 8 - found.prefixlen // 8
    octets = after if found.prefixlen == 96 else after[:skipped] + after[skipped + 1 :]
    return ipaddress.IPv4Address(octets[:4])


def _is_globally_reachable(ip: _Address) -> bool:
    """By the longest row of the registry that holds it; what no row holds is ordinary."""
    if isinstance(ip, ipaddress.IPv4Address):
        rows, is_ordinary = IPV4, ip not in IPV4_MULTICAST
    else:
        rows, is_ordinary = IPV6, ip in GLOBAL_UNICAST
    row = next((row for row in rows if ip in row.network), None)
    return is_ordinary and (row is None or row.is_global is True)


def is_private_literal(host: str, *translation_prefixes: str) -> bool:
    """Whether a host is written as an address, which meets no resolver, and one that is not public."""
    literal = host.strip("[]")
    is_literal = literal.replace(".", "").isdigit() or ":" in literal
    return is_literal and not is_public(literal, *translation_prefixes)


class PublicResolver(AbstractResolver):
    """Resolves names and refuses those with any address that is not public, so a second answer can't slip past.

    whose: the user who gave the names; None for those that an AI service gave.
    """

    def __init__(self, *translation_prefixes: str, whose: str | None = None) -> None:
        self._translation_prefixes = translation_prefixes
        self._resolver = PooledResolver(whose=whose)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses that will be connected to.  Raises NotPublic."""
        found = await self._resolver.resolve(host, port, family)
        for each in found:
            if not is_public(each["host"], *self._translation_prefixes):
                raise NotPublic(f"{host} is not a public host")
        return found

    async def close(self) -> None:
        """Nothing is held."""
        await self._resolver.close()
