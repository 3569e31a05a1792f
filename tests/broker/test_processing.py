"""Messages to the actors of task types: foreign producers and dispatchers of older versions may send them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from dramatiq.brokers.stub import StubBroker
from structlog.testing import capture_logs

from actors.broker.broker import TASK_QUEUE
from actors.entry.task_actors import declare_processing_actors
from config.settings import Settings


def test_a_message_to_a_task_type_starts_nothing_and_is_refused_with_a_sentence(tmp_path: Path) -> None:
    broker = StubBroker()  # type: ignore[no-untyped-call]
    declare_processing_actors(cast(Any, broker), Settings(data_dir=tmp_path))
    actor = broker.get_actor("photography")
    assert actor.queue_name == TASK_QUEUE
    with capture_logs() as lines:
        actor("a task's id", 1)
        actor(whatever="somebody else sends")
    assert [line["event"] for line in lines] == ["message_refused"] * 2
    assert "POST /v1/tasks" in lines[0]["reason"]
