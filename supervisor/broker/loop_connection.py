"""One connection to the broker that an event loop reads by itself: an answer needs no hand-over between threads.

redis-py opens the connection (address, password, TLS), in a thread because that blocks.  After that, this module reads
and writes its socket.
"""

from __future__ import annotations

import asyncio
import collections
import ssl
from collections.abc import Sequence
from typing import Any

import redis

from supervisor.database.interface.wakeups import readable

_CHUNK = 1 << 16


class LoopConnection:
    """For one caller at a time.  It is opened by the first question, and again by the next one after an error.

    It may end while nobody asks: servers and proxies close connections on which nothing was said for a while.  Then
    nothing was under way, and the next question opens another one.  Whether the server is away, that one says.

    client: says how to connect.  was_lost: whether it has ended so since this was set to False.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._connection: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._received = b""
        self._answers: collections.deque[Any] = collections.deque()
        self._wanted = 0
        self._waiting: asyncio.Future[list[Any]] | None = None
        self.was_lost = False

    async def ask(self, *commands: Sequence[str | bytes | float], seconds: float) -> list[Any]:
        """The answers to these commands, which are sent together.  seconds: the most time until the last answer.

        Raises redis.RedisError, OSError: the connection is closed, and some of them may have been carried out.
        """
        try:
            if self._connection is not None and readable((self._socket.fileno(),), 0):
                self._read()  # of its end the loop has perhaps not told yet
            if self._connection is None:
                await self._open()
            packed = b"".join(part for each in commands for part in self._connection.pack_command(*each))
            if self._socket.send(packed) != len(packed):
                raise redis.ConnectionError("The broker takes nothing more.")
            return await self._answered(len(commands), seconds)
        except BaseException as error:
            self.close()
            if isinstance(error, BlockingIOError | ssl.SSLError):
                raise redis.ConnectionError("The broker takes nothing more.") from error
            raise

    def close(self) -> None:
        """Close the connection; a waiting question fails."""
        connection, self._connection = self._connection, None
        if connection is not None:
            assert self._loop is not None
            self._loop.remove_reader(connection._sock.fileno())
            connection.disconnect()
        self._received = b""
        self._answers.clear()

    @property
    def _socket(self) -> Any:
        return self._connection._sock

    async def _open(self) -> None:
        pool = self._client.connection_pool  # it counts, and never forgets, what it makes itself
        connection = pool.connection_class(**pool.connection_kwargs)
        await asyncio.to_thread(connection.connect)
        connection._sock.setblocking(False)
        self._loop, self._connection = asyncio.get_running_loop(), connection
        self._loop.add_reader(self._socket.fileno(), self._read)

    async def _answered(self, count: int, seconds: float) -> list[Any]:
        assert self._loop is not None
        self._wanted, self._waiting = count, self._loop.create_future()
        late = self._loop.call_later(seconds, self._note_lateness, self._waiting)
        try:
            answers = await self._waiting
        finally:
            late.cancel()
            self._waiting = None
        for each in answers:
            if isinstance(each, redis.ResponseError):
                raise each
        return answers

    @staticmethod
    def _note_lateness(waiting: asyncio.Future[list[Any]]) -> None:
        if not waiting.done():  # a loop that was held reads the answer and ends the wait in one step
            waiting.set_exception(redis.TimeoutError("Timeout reading from the broker"))

    def _read(self) -> None:
        """Called by the loop when the socket is readable."""
        try:
            while chunk := self._socket.recv(_CHUNK):
                self._received += chunk
                if len(chunk) < _CHUNK and not isinstance(self._socket, ssl.SSLSocket):
                    break  # TLS may hold decrypted bytes of which the loop is not told
            else:
                raise redis.ConnectionError("The broker has closed the connection.")
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        except (redis.RedisError, OSError) as error:
            self._fail(error)
            return
        self._note_answers()

    def _note_answers(self) -> None:
        at = 0
        try:
            while at < len(self._received):
                answer, at = read_answer(self._received, at)
                self._answers.append(answer)
        except Incomplete:
            pass
        except ValueError as error:
            self._fail(redis.InvalidResponse(str(error)))
            return
        self._received = self._received[at:]
        if self._waiting is not None and not self._waiting.done() and len(self._answers) >= self._wanted:
            self._waiting.set_result([self._answers.popleft() for _ in range(self._wanted)])

    def _fail(self, error: Exception) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)
        else:
            self.was_lost = True
            self.close()


class Incomplete(Exception):
    """More bytes are needed for the whole answer."""


def read_answer(received: bytes, at: int) -> tuple[Any, int]:
    """The answer that begins there, and where the next one does.  Pure.  An error is returned as redis.ResponseError.

    Raises Incomplete; ValueError for bytes that are no answer.  https://valkey.io/topics/protocol/
    """
    end = received.find(b"\r\n", at)
    if end < 0:
        raise Incomplete
    kind, said, at = received[at : at + 1], received[at + 1 : end], end + 2
    if kind == b"+":
        return said, at
    if kind == b"-":
        return redis.ResponseError(said.decode(errors="replace")), at
    if kind == b"_" or (kind in b"$*" and said == b"-1"):
        return None, at
    if kind == b":":
        return int(said), at
    if kind == b"$":
        end = at + int(said)
        if len(received) < end + 2:
            raise Incomplete
        return received[at:end], end + 2
    if kind == b"*":
        answers = []
        for _ in range(int(said)):
            answer, at = read_answer(received, at)
            answers.append(answer)
        return answers, at
    raise ValueError(f"The broker answers with {kind!r}, which is not known.")
