"""A broker, and the lists of claims, that take everything and deliver nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


class QuietBroker:
    """messages: arguments of messages, and claims, as they came."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    def enqueue_many(self, messages: Iterable[Any]) -> None:
        self.messages += [message.args for message in messages]

    def push(self, messages: Iterable[Any]) -> None:
        self.messages += [dict(claim) for message in messages for claim in message.claims]

    def heads(self, worker_ids: Sequence[str]) -> dict[Any, Any]:
        return {}

    def take(self, worker_id: str, *, popped: bool) -> list[Any]:
        return []

    def forget(self, worker_id: str) -> None:
        pass

    def forget_worker(self, worker_id: str) -> None:
        pass
