"""Which hosts a worker may be sent to by data it was given: public ones only.  The check is on addresses, after DNS."""

from __future__ import annotations

import ipaddress
import socket

from aiohttp.abc import AbstractResolver, ResolveResult

from supervisor.name_resolver import PooledResolver

_TRANSLATING = tuple(
    # Addresses that carry an IPv4 address inside, and so may lead into a private network after all.
    ipaddress.IPv6Network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96")
)  # fmt: skip


class NotPublic(OSError):
    """The host stands in a private network, or on this machine."""


def is_public(address: str) -> bool:
    """Whether an IP address may be asked on behalf of a user."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif any(ip in network for network in _TRANSLATING):
            return False
    return ip.is_global and not ip.is_multicast


def is_private_literal(host: str) -> bool:
    """Whether a host is written as an address, which meets no resolver, and one that is not public."""
    literal = host.strip("[]")
    is_literal = literal.replace(".", "").isdigit() or ":" in literal
    return is_literal and not is_public(literal)


class PublicResolver(AbstractResolver):
    """Resolves names and refuses those with any address that is not public, so a second answer can't slip past."""

    def __init__(self) -> None:
        self._resolver = PooledResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses that will be connected to.  Raises NotPublic."""
        found = await self._resolver.resolve(host, port, family)
        for each in found:
            if not is_public(each["host"]):
                raise NotPublic(f"{host} is not a public host")
        return found

    async def close(self) -> None:
        """Nothing is held."""
        await self._resolver.close()
