"""A name server that does not answer delays only the requests that need it."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from typing import Any

import pytest

from supervisor.net.name_resolver import THREADS, THREADS_OF_A_USER, NoAnswerInTime, PooledResolver


async def test_a_slow_name_server_leaves_the_common_threads_free(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()

    def slow(*_: Any, **__: Any) -> list[Any]:
        answers.wait(60)
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    resolver = PooledResolver()
    common_threads = min(32, (os.cpu_count() or 1) + 4)
    asked = [asyncio.ensure_future(resolver.resolve("slow.example")) for _ in range(common_threads + 1)]
    try:
        async with asyncio.timeout(30):
            assert await asyncio.to_thread(lambda: "stored") == "stored"
    finally:
        answers.set()
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(each) for each in outcomes} == {socket.gaierror}


async def test_a_look_up_without_an_answer_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers.wait(60))
    try:
        with pytest.raises(NoAnswerInTime):
            await PooledResolver(time_out_seconds=0.05).resolve("slow.example")
    finally:
        answers.set()


async def test_a_user_with_silent_name_servers_delays_no_other_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers, look_up = threading.Event(), socket.getaddrinfo

    def slow(host: str, *more: Any, **options: Any) -> list[Any]:
        if host == "silent.example":
            answers.wait(60)
            raise socket.gaierror("no such name")
        return look_up(host, *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    storm = PooledResolver(whose="o-1", time_out_seconds=0.05)
    try:
        for _ in range(THREADS // THREADS_OF_A_USER + 1):  # each round's threads are held after its time-out
            many = (storm.resolve("silent.example") for _ in range(THREADS_OF_A_USER + 1))
            outcomes = await asyncio.gather(*many, return_exceptions=True)
            assert {type(each) for each in outcomes} == {NoAnswerInTime}
        for resolver in (PooledResolver(whose="o-2"), PooledResolver()):
            assert (await resolver.resolve("localhost", 80))[0]["host"] == "127.0.0.1"
        with pytest.raises(NoAnswerInTime):
            await PooledResolver(whose="o-1", time_out_seconds=0.05).resolve("localhost", 80)
    finally:
        answers.set()
    assert (await PooledResolver(whose="o-1").resolve("localhost", 80))[0]["host"] == "127.0.0.1"


async def test_a_name_and_an_address_are_resolved_as_the_system_does() -> None:
    by_name = await PooledResolver().resolve("localhost", 80)
    by_address = await PooledResolver().resolve("127.0.0.1", 80)
    assert by_name[0]["host"] == by_address[0]["host"] == "127.0.0.1"
    assert by_address[0]["port"] == 80 and by_address[0]["hostname"] == "127.0.0.1"
