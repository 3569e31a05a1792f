"""Broker addresses, taken apart into options that fail soon."""

from __future__ import annotations

import pytest

from supervisor.broker.broker_client import BadBrokerAddress, client_options, open_client, tells_its_end


def options_of(address: str) -> dict[str, object]:
    return client_options(address)


def test_a_unix_address_names_a_socket():
    assert options_of("unix:///run/dk/broker.sock?db=2") | {"retry": None} == {
        "unix_socket_path": "/run/dk/broker.sock",
        "db": 2,
        "socket_timeout": 10.0,
        "retry": None,
        "decode_responses": False,
    }


def test_a_tcp_address_keeps_user_password_and_database():
    options = options_of("redis://dk:s%40cret@broker.example:6380/3")
    expected = {
        "host": "broker.example",
        "port": 6380,
        "username": "dk",
        "password": "s@cret",
        "db": 3,
        "ssl": False,
    }
    assert expected.items() <= options.items()


def test_a_rediss_address_is_encrypted():
    assert options_of("rediss://broker.example")["ssl"] is True


@pytest.mark.parametrize("address", ["redis://h", "rediss://h", "unix:///s"])
def test_no_command_is_ever_repeated_by_the_client(address):
    connection = open_client(address).connection_pool.make_connection()
    assert connection.retry.get_retries() == 0
    assert connection.socket_timeout == 10.0


@pytest.mark.parametrize("address", ["redis://h?socket_timeout=600", "unix:///s?socket_timeout=600"])
def test_an_address_cannot_make_the_client_hang(address):
    assert options_of(address)["socket_timeout"] == 10.0


@pytest.mark.parametrize("address", ["http://h", "unix://", "redis://h?db=two", "redis://h?colour=red", ""])
def test_an_unusable_address_is_refused_with_a_sentence(address):
    with pytest.raises(BadBrokerAddress, match=r"^The broker's address .+"):
        open_client(address)


@pytest.mark.parametrize(
    ("address", "is_told"),
    [("unix:///run/dk/broker.sock", True), ("redis://localhost", False), ("rediss://broker.example", False)],
)
def test_only_a_socket_of_this_host_always_tells_that_its_server_has_ended(
    address: str, is_told: bool
) -> None:
    """Whoever waits elsewhere waits for a short time only."""
    with open_client(address) as client:
        assert tells_its_end(client) is is_told
