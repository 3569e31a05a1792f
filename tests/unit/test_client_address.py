"""The client's address behind proxies, and the limit of tries for an address."""

from __future__ import annotations

import pytest

from web.http.client_address import client_address, household
from web.limits.token_bucket import RateLimit

LOOPBACK = ("127.0.0.0/8", "::1/128")


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "address"),
    [
        ("203.0.113.5", [], "203.0.113.5"),
        ("203.0.113.5", ["1.2.3.4"], "203.0.113.5"),  # no proxy of ours: a header that any client can write
        ("127.0.0.1", ["1.2.3.4"], "1.2.3.4"),
        ("::ffff:127.0.0.1", ["1.2.3.4:5678"], "1.2.3.4"),
        ("127.0.0.1", ["9.9.9.9, 1.2.3.4"], "1.2.3.4"),
        ("127.0.0.1", ["9.9.9.9", "1.2.3.4"], "1.2.3.4"),
        ("127.0.0.1", ["9.9.9.9, 1.2.3.4, 127.0.0.1"], "1.2.3.4"),
        ("127.0.0.1", ["[2001:db8::1]:443"], "2001:db8::1"),
        ("127.0.0.1", ["1.2.3.4, unknown"], "127.0.0.1"),
        ("127.0.0.1", [""], "127.0.0.1"),
        ("127.0.0.1", [], "127.0.0.1"),
        (None, ["1.2.3.4"], ""),
    ],
)
def test_the_client_is_the_nearest_address_that_is_no_proxy_of_ours(
    peer: str | None, forwarded_for: list[str], address: str
) -> None:
    assert client_address(peer, forwarded_for, LOOPBACK) == address


def test_a_connection_with_a_whole_network_of_ipv6_counts_as_one() -> None:
    assert household("2001:db8::1") == household("2001:db8:0:0:ffff::2") != household("2001:db8:0:1::1")
    assert household("1.2.3.4") != household("1.2.3.5")


def test_a_limit_is_reached_reported_and_over_in_time() -> None:
    limit = RateLimit(6)
    assert [limit.take("a", now=100.0) for _ in range(6)] == [0.0] * 6
    wait = limit.take("a", now=100.0)
    assert 0 < wait <= 10 and limit.take("b", now=100.0) == 0
    assert limit.take("a", now=100.0 + wait) == 0 < limit.take("a", now=100.0 + wait)
    assert [RateLimit(0).take("a", now=0.0) for _ in range(1000)] == [0.0] * 1000
