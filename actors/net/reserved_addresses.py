"""Reserved addresses by IANA's registries, and addresses that contain another address.  Pure data.

Sources: iana-ipv4-special-registry and iana-ipv6-special-registry as of 2025-10-09 (RFC 6890, RFC 8190), each row with
its column "Globally Reachable"; N/A is written None.  Of overlapping rows, the longest prefix decides.  To update by
hand: compare https://www.iana.org/assignments/iana-ipv4-special-registry and …ipv6-… with the rows.
"""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Block(NamedTuple):
    """A row of a registry.  is_global: "Globally Reachable", None for N/A."""

    network: Network
    name: str
    is_global: bool | None


def _rows(*rows: tuple[str, str, bool | None]) -> tuple[Block, ...]:
    blocks = (Block(ipaddress.ip_network(text), name, is_global) for text, name, is_global in rows)
    return tuple(sorted(blocks, key=lambda block: -block.network.prefixlen))


IPV4 = _rows(
    ("0.0.0.0/8", "this network", False),
    ("0.0.0.0/32", "this host on this network", False),
    ("10.0.0.0/8", "private use", False),
    ("100.64.0.0/10", "shared address space", False),
    ("127.0.0.0/8", "loopback", False),
    ("169.254.0.0/16", "link local", False),
    ("172.16.0.0/12", "private use", False),
    ("192.0.0.0/24", "IETF protocol assignments", False),
    ("192.0.0.0/29", "IPv4 service continuity", False),
    ("192.0.0.8/32", "IPv4 dummy address", False),
    ("192.0.0.9/32", "port control protocol anycast", True),
    ("192.0.0.10/32", "traversal using relays around NAT anycast", True),
    ("192.0.0.170/32", "NAT64/DNS64 discovery", False),
    ("192.0.0.171/32", "NAT64/DNS64 discovery", False),
    ("192.0.2.0/24", "documentation (TEST-NET-1)", False),
    ("192.31.196.0/24", "AS112-v4", True),
    ("192.52.193.0/24", "AMT", True),
    ("192.88.99.0/24", "deprecated (6to4 relay anycast)", None),
    ("192.88.99.2/32", "6a44 relay anycast", False),
    ("192.168.0.0/16", "private use", False),
    ("192.175.48.0/24", "direct delegation AS112 service", True),
    ("198.18.0.0/15", "benchmarking", False),
    ("198.51.100.0/24", "documentation (TEST-NET-2)", False),
    ("203.0.113.0/24", "documentation (TEST-NET-3)", False),
    ("240.0.0.0/4", "reserved", False),
    ("255.255.255.255/32", "limited broadcast", False),
)

IPV6 = _rows(
    ("::1/128", "loopback", False),
    ("::/128", "unspecified", False),
    ("::ffff:0:0/96", "IPv4-mapped", False),
    ("64:ff9b::/96", "IPv4-IPv6 translation", True),
    ("64:ff9b:1::/48", "IPv4-IPv6 translation, local use", False),
    ("100::/64", "discard only", False),
    ("100:0:0:1::/64", "dummy prefix", False),
    ("2001::/23", "IETF protocol assignments", False),
    ("2001::/32", "Teredo", None),
    ("2001:1::1/128", "port control protocol anycast", True),
    ("2001:1::2/128", "traversal using relays around NAT anycast", True),
    ("2001:1::3/128", "DNS-SD service registration anycast", True),
    ("2001:2::/48", "benchmarking", False),
    ("2001:3::/32", "AMT", True),
    ("2001:4:112::/48", "AS112-v6", True),
    ("2001:10::/28", "deprecated (ORCHID)", None),
    ("2001:20::/28", "ORCHIDv2", True),
    ("2001:30::/28", "drone remote ID entity tags", True),
    ("2001:db8::/32", "documentation", False),
    ("2002::/16", "6to4", None),
    ("2620:4f:8000::/48", "direct delegation AS112 service", True),
    ("3fff::/20", "documentation", False),
    ("5f00::/16", "segment routing SIDs", False),
    ("fc00::/7", "unique local", False),
    ("fe80::/10", "link-local unicast", False),
)

# Not in the registries: unicast is assigned only from this block (RFC 4291, 2.5.4), and multicast is never a host's
# address.
GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
IPV4_MULTICAST = ipaddress.IPv4Network("224.0.0.0/4")

# An address in one of these is as public as the IPv4 address inside it.  The second is for local use, may be divided in
# many ways and is refused by its row; an owner of such a translator names its prefix in the settings.
IPV4_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
WELL_KNOWN_TRANSLATION = ipaddress.IPv6Network("64:ff9b::/96")
