"""Who may be the demo user: nobody but a program, or our own page, on this very host (CORRECTNESS 38).  Pure.

A browser carries any page's requests to 127.0.0.1, and a name under somebody else's control may resolve to it; so
without a token everything that a foreign page or a proxy would show is looked for, and one sign is enough to refuse.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable

_PROXY_HEADERS = ("forwarded", "x-real-ip", "via")


def refusal(
    *,
    peer: str | None,
    port: int | None,
    hosts: list[str],
    origins: list[str],
    fetch_sites: list[str],
    header_names: Iterable[str],
) -> str | None:
    """Why a request without a token is not the demo user's, as a sentence; None if it is.

    peer: the other end's address.  port: ours.  hosts, origins, fetch_sites: all values of the headers `Host`,
    `Origin` and `Sec-Fetch-Site`.
    """
    if peer is None or not is_loopback_address(peer):
        return "Without a token only this host itself may ask."
    if len(hosts) != 1 or not _is_ours(hosts[0], port):
        return "Without a token the Host must be a loopback name with this server's port."
    if any(origin.lower() != f"http://{hosts[0].lower()}" for origin in origins):
        return "Without a token no foreign page may ask."
    if any(site not in ("same-origin", "none") for site in fetch_sites):
        return "Without a token no foreign site may ask."
    for name in header_names:
        if name.lower() in _PROXY_HEADERS or name.lower().startswith("x-forwarded-"):
            return "Without a token nobody may ask through a proxy."
    return None


@functools.lru_cache(maxsize=1024)  # the same few, at every request
def is_loopback_address(text: str) -> bool:
    """True for 127.0.0.0/8, ::1, and the former written as IPv6."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _is_ours(host: str, port: int | None) -> bool:
    name, given_port = _split(host)
    return (name.lower() == "localhost" or is_loopback_address(name)) and given_port == port


def _split(host: str) -> tuple[str, int | None]:
    """Name and port of a Host header; port 80 when none is given, None when it is no number."""
    if host.startswith("["):
        name, _, rest = host[1:].partition("]")
    else:
        name, colon, port = host.partition(":")
        rest = colon + port
    if not rest:
        return name, 80
    digits = rest.removeprefix(":")
    return name, int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 5 else None
