"""The check that a worker connects only to public hosts, if an address came as data.  It is made on IP addresses, after
DNS.

IANA's registries of special-purpose addresses (`reserved_addresses`) decide what is public, and not the standard
library, whose copy is as old as the running Python.  An address that contains an IPv4 address for a translator is
judged by that one; 6to4 and Teredo, which lead through foreign relays, are refused.
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
    """The host is in a private network, or on this machine."""


def is_public(address: str, *translation_prefixes: str) -> bool:
    """Whether an IP address may be used on behalf of a user.

    translation_prefixes: of the network's own translators (RFC 6052), such as 2001:db8:64::/96.
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
    # Octet 8 of the address is skipped if the IPv4 address would overlap it.
    skipped = 8 - found.prefixlen // 8
    octets = after if found.prefixlen == 96 else after[:skipped] + after[skipped + 1 :]
    return ipaddress.IPv4Address(octets[:4])


def _is_globally_reachable(ip: _Address) -> bool:
    """Judged by the most specific row of the registry; an address without a row is ordinary."""
    if isinstance(ip, ipaddress.IPv4Address):
        rows, is_ordinary = IPV4, ip not in IPV4_MULTICAST
    else:
        rows, is_ordinary = IPV6, ip in GLOBAL_UNICAST
    row = next((row for row in rows if ip in row.network), None)
    return is_ordinary and (row is None or row.is_global is True)


def is_private_literal(host: str, *translation_prefixes: str) -> bool:
    """Whether a host is written as a non-public IP address, which needs no resolver."""
    literal = host.strip("[]")
    is_literal = literal.replace(".", "").isdigit() or ":" in literal
    return is_literal and not is_public(literal, *translation_prefixes)


class PublicResolver(AbstractResolver):
    """Resolves names and refuses those with any non-public address, so that a later answer can't differ.

    whose: the user who gave the names; None for names from an AI service.
    """

    def __init__(self, *translation_prefixes: str, whose: str | None = None) -> None:
        self._translation_prefixes = translation_prefixes
        self._resolver = PooledResolver(whose=whose)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses for the connection.  Raises NotPublic."""
        found = await self._resolver.resolve(host, port, family)
        for each in found:
            if not is_public(each["host"], *self._translation_prefixes):
                raise NotPublic(f"{host} is not a public host")
        return found

    async def close(self) -> None:
        """Nothing to close."""
        await self._resolver.close()
