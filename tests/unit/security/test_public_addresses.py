"""The addresses to which a user may send a worker: by IANA's registries, row by row, not by Python's rules."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.net.public_addresses import carried_ipv4, is_private_literal, is_public
from actors.net.reserved_addresses import GLOBAL_UNICAST, IPV4, IPV6, Block
from config.load_settings import SettingsError, load_settings

V4, V6 = ipaddress.IPv4Address, ipaddress.IPv6Address
ROWS = [*IPV4, *IPV6]


def inside(block: Block) -> list[str]:
    """Addresses of a row that belong to no longer one: its first, its last, and those between that are left."""
    longer = [
        row.network
        for row in ROWS
        if row.network.version == block.network.version
        and row.network != block.network
        and row.network.subnet_of(block.network)  # type: ignore[arg-type]
    ]
    first, last = int(block.network[0]), int(block.network[-1])
    spread = {first, last, *(first + (last - first) * n // 7 for n in range(1, 7))}
    made = (type(block.network[0])(each) for each in sorted(spread))
    return [str(each) for each in made if not any(each in network for network in longer)]


@pytest.mark.parametrize("block", ROWS, ids=lambda block: str(block.network))
def test_a_row_of_the_registry_decides_for_its_addresses(block: Block) -> None:
    found = inside(block)
    assert found, "every row has an address of its own"
    for address in found:
        if block.network == ipaddress.ip_network("64:ff9b::/96"):
            expected = is_public(str(V4(V6(address).packed[12:])))  # as what it carries
        elif block.network == ipaddress.ip_network("::ffff:0:0/96"):
            expected = is_public(str(V6(address).ipv4_mapped))
        else:
            expected = block.is_global is True
        assert is_public(address) == expected, (address, block)


def test_addresses_beside_a_row_are_ordinary() -> None:
    for address in (
        "1.1.1.1",
        "100.63.255.255",
        "100.128.0.0",
        "172.32.0.1",
        "192.0.1.1",
        "223.255.255.255",
        "9.9.9.9",
    ):
        assert is_public(address)
    for address in ("2001:200::1", "2606:4700::1111", "2003::1", "2a00:1450:4001::200e", "2620:4f:8001::1"):
        assert is_public(address)


@pytest.mark.parametrize(
    "address",
    ["224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1", "fec0::1", "4000::1", "::7f00:1", "::1.2.3.4", "0:0:0:1::1",
     "200::1", "8000::1", "fe80::1%eth0", "", "localhost", "1.1.1", "0x7f.1", "127.0.0.1.", "1.1.1.1/32",
     "::ffff:10.0.0.1"],
)  # fmt: skip
def test_multicast_unassigned_and_invalid_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


@given(st.integers(0, 2**128 - 1).map(V6))
def test_no_ipv6_address_outside_the_global_block_is_public_unless_it_carries_a_public_ipv4(ip: V6) -> None:
    if ip not in GLOBAL_UNICAST and carried_ipv4(ip, ()) is None:
        assert not is_public(str(ip))


# RFC 6052, section 2.4: 192.0.2.33 under prefixes of each length.
WRITTEN = {
    "2001:db8::/32": "2001:db8:c000:221::",
    "2001:db8:100::/40": "2001:db8:1c0:2:21::",
    "2001:db8:122::/48": "2001:db8:122:c000:2:2100::",
    "2001:db8:122:300::/56": "2001:db8:122:3c0:0:221::",
    "2001:db8:122:344::/64": "2001:db8:122:344:c0:2:2100::",
    "2001:db8:122:344::/96": "2001:db8:122:344::192.0.2.33",
}


@pytest.mark.parametrize("prefix", WRITTEN)
def test_the_address_that_a_translator_is_sent_to_is_read_as_the_rfc_writes_it(prefix: str) -> None:
    assert carried_ipv4(V6(WRITTEN[prefix]), [prefix]) == V4("192.0.2.33")


@given(
    ipv4=st.integers(0, 2**32 - 1).map(V4),
    start=st.integers(0, 2**64 - 1),
    length=st.sampled_from([32, 40, 48, 56, 64, 96]),
)
def test_a_nat64_address_is_as_public_as_the_address_in_it(ipv4: V4, start: int, length: int) -> None:
    network = ipaddress.IPv6Network((0x2A00 << 112 | start << 32, length), strict=False)
    octets = list(network.network_address.packed)
    places = range(12, 16) if length == 96 else [n for n in range(length // 8, 16) if n != 8][:4]
    for place, octet in zip(places, ipv4.packed, strict=True):
        octets[place] = octet
    assert is_public(str(V6(bytes(octets))), str(network)) == is_public(str(ipv4))


def test_without_the_setting_the_same_address_is_ordinary_and_so_the_setting_matters() -> None:
    leads_home = "2a00:64::10.0.0.1"
    assert is_public(leads_home) and not is_public(leads_home, "2a00:64::/96")
    assert is_private_literal(f"[{leads_home}]", "2a00:64::/96") and not is_private_literal(f"[{leads_home}]")
    assert not is_public("64:ff9b:1::1.1.1.1") and is_public("64:ff9b:1::1.1.1.1", "64:ff9b:1::/96")
    assert not is_public("64:ff9b:1::10.0.0.1", "64:ff9b:1::/96")


def test_the_setting_takes_prefixes_of_the_lengths_that_there_are() -> None:
    given = {"DARKROOM_CONFIG": "", "DARKROOM_TRANSLATION_PREFIXES": "2001:db8:64::/96, 64:ff9b:1::/48"}
    assert load_settings(given).translation_prefixes == ("2001:db8:64::/96", "64:ff9b:1::/48")
    for wrong in ("2001:db8::/33", "10.0.0.0/8", "x", "2001:db8::1/96", "2001:db8::"):
        with pytest.raises(
            SettingsError, match=r"DARKROOM_TRANSLATION_PREFIXES holds .*32, 40, 48, 56, 64, 96 bits"
        ):
            load_settings(given | {"DARKROOM_TRANSLATION_PREFIXES": wrong})
