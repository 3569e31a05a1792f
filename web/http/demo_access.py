"""The demo user: only a program, or our own page, on this host (CORRECTNESS 38).  Pure.

A browser sends any page's requests to 127.0.0.1, and a foreign domain name may resolve to it.  So a request without a
token is checked for every sign of a foreign page or a proxy, and one sign is enough to refuse it.  A proxy that uses
HTTP/1.1, names this host and adds no headers can't be distinguished from a program.  A browser behind it can, so a
browser also needs the cookie of this start (`web/api/start.py`).
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable

# Headers that proxies, balancers and content delivery networks add.  "*": any continuation.
FORWARDING_HEADERS = (
    "forwarded",
    "x-forwarded*",
    "x-original-*",
    "x-real-ip",
    "x-scheme",
    "x-url-scheme",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-remote-ip",
    "x-remote-addr",
    "x-originating-ip",
    "x-host",
    "x-rewrite-url",
    "x-proxyuser-ip",
    "x-request-start",
    "client-ip",
    "cluster-client-ip",
    "proxy-client-ip",
    "wl-proxy-client-ip",
    "true-client-ip",
    "front-end-https",
    "via",
    "cdn-loop",
    "max-forwards",
    "ali-cdn-real-ip",  # Alibaba Cloud
    "eagleeye-*",
    "x-amzn-trace-id",  # Amazon
    "x-amz-cf-*",
    "cloudfront-*",
    "x-appengine-*",  # Google
    "x-cloud-trace-context",
    "x-azure-*",
    "x-arr-*",
    "x-ms-forwarded*",
    "cf-*",  # Cloudflare
    "do-connecting-ip",
    "fastly-*",
    "fly-*",
    "incap-client-ip",
    "x-sucuri-*",
    "x-nf-*",
    "x-vercel-*",
    "x-envoy-*",
    "x-varnish",
    "x-tencent-*",
    "x-cdn-src-ip",
    "cdn-src-ip",
)
_EXACT = frozenset(each for each in FORWARDING_HEADERS if not each.endswith("*"))
_BEGINNINGS = tuple(each.removesuffix("*") for each in FORWARDING_HEADERS if each.endswith("*"))


def refusal(
    *,
    peer: str | None,
    port: int | None,
    hosts: list[str],
    origins: list[str],
    fetch_sites: list[str],
    header_names: Iterable[str],
    version: tuple[int, int] = (1, 1),
) -> str | None:
    """The sentence why a request without a token does not belong to the demo user; None if it does.

    peer: the other end's address.  port: ours.  hosts, origins, fetch_sites: all values of the headers `Host`,
    `Origin` and `Sec-Fetch-Site`.  version: of HTTP.
    """
    if peer is None or not is_loopback_address(peer):
        return "Without a token only this host itself may ask."
    if tuple(version) < (1, 1):
        return "Without a token nobody may ask in HTTP/1.0, as a proxy does."
    if len(hosts) != 1 or not _is_ours(hosts[0], port):
        return "Without a token the Host must be a loopback name with this server's port."
    if any(origin.lower() != f"http://{hosts[0].lower()}" for origin in origins):
        return "Without a token no foreign page may ask."
    if any(site not in ("same-origin", "none") for site in fetch_sites):
        return "Without a token no foreign site may ask."
    if any(_is_of_a_proxy(name.lower()) for name in header_names):
        return "Without a token nobody may ask through a proxy."
    return None


def is_of_a_browser(header_names: Iterable[str]) -> bool:
    """Whether a browser sent this, judged by headers that pages can neither set nor omit.

    Not by `Sec-Fetch-Mode`: Node's fetch sends that too.
    """
    return any(name.lower() in ("origin", "sec-fetch-site") for name in header_names)


def names_another_host(hosts: list[str]) -> bool:
    """Whether a request names another host than this one."""
    return any(
        not (name.lower() == "localhost" or is_loopback_address(name)) for name, _ in map(_split, hosts)
    )


@functools.lru_cache(maxsize=1024)
def _is_of_a_proxy(name: str) -> bool:
    return name in _EXACT or name.startswith(_BEGINNINGS)


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
