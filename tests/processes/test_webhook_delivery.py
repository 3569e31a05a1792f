"""A receiver of webhooks gets signed requests that the standard's library verifies, until it answers with success."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sqlite3
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import dramatiq
import psutil
import pytest
from standardwebhooks import WebhookVerificationError

from actors.broker.broker import DarkroomBroker
from actors.entry.claim_handlers import WORK
from actors.webhooks import webhook_delivery
from actors.webhooks.webhook_delivery import deliver_all
from actors.worker.worker import Worker
from config.load_settings import SettingsError, load_settings
from config.settings import Settings
from supervisor.objects.open_store import open_file_store
from supervisor.store.tasks import user_actions
from supervisor.store.tasks.new_task import NewTask
from supervisor.store.webhooks import deliveries
from supervisor.webhooks.signing_keys import keys_of_user, webhook_keys
from tests.conftest import PARAMS, Clock, Store
from tests.support.databases import fresh_settings, open_quickly
from tests.support.running_system import RunningSystem, running_system
from tests.support.servers.webhook_receiver import WebhookReceiver
from tests.support.waiting import eventually

KEY = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD_KEY = "whsec_" + "C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as served:
        yield served


class Desk:
    """A worker that has not begun to beat, and a store with its messages."""

    def __init__(self, store: Store, worker: Worker) -> None:
        self.store, self.worker = store, worker

    def owe(self, url: str, door: dict[str, str] | None = None) -> str:
        """The id of a delivery that is due now.  door: in whose words."""
        new = NewTask("o-1", "photography", PARAMS, webhook=url, webhook_door=door)
        task_id = self.store.write(lambda tx: user_actions.submit(tx, self.store.settings, new))["task_id"]
        self.store.write(lambda tx: user_actions.cancel(tx, task_id))
        return f"msg_{task_id}_1"

    async def deliver(self) -> None:
        """Everything that is due, once."""
        await deliver_all(self.worker, self.store.write(lambda tx: deliveries.due(tx).get()))
        await asyncio.gather(*self.worker._tasks)

    def row(self, delivery_id: str) -> tuple[str, int, int | None, str | None]:
        """(state, attempts, last status, last error)."""
        (found,) = self.store.all("SELECT * FROM webhook_delivery WHERE id = ?", delivery_id)
        return found["state"], found["attempts"], found["last_status"], found["last_error"]


@contextlib.asynccontextmanager
async def opened_desk(folder: Path, **changed: object) -> AsyncIterator[Desk]:
    settings = fresh_settings(folder, kind="sqlite", webhooks={"secret": f"{KEY} {OLD_KEY}", **changed})
    broker = dramatiq.get_broker()
    assert isinstance(broker, DarkroomBroker)
    database = open_quickly(settings)
    worker = Worker(settings, broker, database, open_file_store(settings), WORK)
    try:
        yield Desk(Store(settings, database), worker)
    finally:
        await worker.images.close()
        database.close()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with opened_desk(tmp_path, allow_private_addresses=True) as opened:
        yield opened


async def test_the_standards_library_verifies_messages_with_either_key_while_they_change(
    desk: Desk, receiver: WebhookReceiver
) -> None:
    delivery_id = desk.owe(receiver.hook)
    await desk.deliver()
    (heard,) = receiver.heard
    for key in (KEY, OLD_KEY):
        message = heard.verified(key)
        assert (message["type"], message["data"]["status"]) == ("task.cancelled", "cancelled")
        assert message["timestamp"] == message["data"]["finished_at"]
    assert heard.id == delivery_id and heard.headers["content-type"] == "application/json"
    assert desk.row(delivery_id) == ("delivered", 1, 204, None)


@pytest.mark.parametrize("door", ["replicate", "fal"])
async def test_an_order_of_a_door_is_told_in_its_words_and_signed_for_its_user_alone(
    desk: Desk, receiver: WebhookReceiver, door: str
) -> None:
    told_as = {"door": door, "origin": "https://photos.example.org", "model": "ours/photo", "version": "1"}
    desk.owe(receiver.hook, told_as)
    await desk.deliver()
    (heard,) = receiver.heard
    message = heard.verified(keys_of_user(desk.worker.settings, "o-1")[0])
    if door == "replicate":
        assert (message["status"], message["model"], message["output"]) == ("canceled", "ours/photo", None)
        assert message["input"] == {"image": PARAMS["images"][0]}
        assert message["urls"]["get"].startswith("https://photos.example.org/replicate/v1/predictions/")
    else:
        assert (message["status"], message["payload"]["error_type"]) == ("ERROR", "cancelled")
    for key in (*webhook_keys(desk.worker.settings), keys_of_user(desk.worker.settings, "o-2")[0]):
        with pytest.raises(WebhookVerificationError):
            heard.verified(key)


async def test_a_receiver_in_trouble_is_asked_again_later_under_the_same_id(
    desk: Desk, receiver: WebhookReceiver
) -> None:
    receiver.answers = [(503, {"Retry-After": "120"})]
    delivery_id = desk.owe(receiver.hook)
    await desk.deliver()
    assert desk.row(delivery_id) == ("waiting", 1, 503, "The receiver answers 503.")
    clock = Clock(desk.store.settings)
    clock.advance(100)  # above the schedule's five seconds, below what the receiver has asked for
    await desk.deliver()
    assert len(receiver.heard) == 1
    clock.advance(30)
    await desk.deliver()
    first, second = receiver.heard
    assert first.id == second.id and first.body == second.body
    assert desk.row(delivery_id)[:2] == ("delivered", 2)


async def test_a_redirect_is_not_followed(desk: Desk, receiver: WebhookReceiver) -> None:
    receiver.answers = [(307, {"Location": receiver.hook})]
    delivery_id = desk.owe(receiver.hook)
    await desk.deliver()
    assert len(receiver.heard) == 1
    assert desk.row(delivery_id)[0::2] == ("waiting", 307)


async def test_a_receiver_that_answers_410_is_sent_nothing_more(
    desk: Desk, receiver: WebhookReceiver
) -> None:
    receiver.answers = [(410, {})]
    first = desk.owe(receiver.hook)
    await desk.deliver()
    second = desk.owe(receiver.hook)
    await desk.deliver()
    assert len(receiver.heard) == 1
    assert (desk.row(first)[0], desk.row(second)[0]) == ("gone", "gone")


async def test_a_receiver_that_hangs_or_is_not_there_is_tried_again(
    desk: Desk, receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_delivery, "TIME_OUT_SECONDS", 0.3)
    silent = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    hanging = desk.owe(f"http://127.0.0.1:{port}/")
    await desk.deliver()
    silent.close()
    absent = desk.owe(f"http://127.0.0.1:{port}/")
    await desk.deliver()
    assert desk.row(hanging) == ("waiting", 1, None, "The receiver has not answered within 0.3 s.")
    assert desk.row(absent) == ("waiting", 1, None, "The receiver can't be reached.")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "10.0.0.8", "169.254.169.254"])
async def test_an_address_in_a_private_network_is_never_asked(tmp_path: Path, host: str) -> None:
    async with opened_desk(tmp_path) as desk:
        delivery_id = desk.owe(f"https://{host}:1/hook")
        await desk.deliver()
        state, attempts, status, reason = desk.row(delivery_id)
        assert (state, attempts, status) == ("failed", 1, None)
        assert reason is not None and "not" in reason and "public" in reason


async def test_a_worker_that_drains_takes_up_nothing(desk: Desk, receiver: WebhookReceiver) -> None:
    delivery_id = desk.owe(receiver.hook)
    desk.worker.draining = True
    await desk.deliver()
    assert receiver.heard == [] and desk.row(delivery_id)[1] == 0


def test_the_key_is_made_once_follows_from_the_secret_and_is_not_the_secret(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    (key,) = webhook_keys(settings)
    assert key.startswith("whsec_") and (key,) == webhook_keys(settings)
    assert (tmp_path / "secret").read_text().strip() not in key
    (elsewhere,) = webhook_keys(
        Settings(data_dir=tmp_path / "other", secret="of the tests, and of nothing else 0123")
    )
    (same,) = webhook_keys(
        Settings(data_dir=tmp_path / "third", secret="of the tests, and of nothing else 0123")
    )
    assert elsewhere == same != key


@pytest.mark.parametrize("secret", ["whsec_c2hvcnQ=", "plain words", "whsec_%%%", f"{KEY} nonsense"])
def test_a_key_that_signs_nothing_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings({"DARKROOM_CONFIG": "", "DARKROOM_WEBHOOKS__SECRET": secret})
    sentence = str(refused.value)
    assert sentence.startswith("DARKROOM_WEBHOOKS__SECRET may be whsec_")
    assert secret not in sentence


# --- the whole house ---


@pytest.fixture(scope="module")
def house() -> Iterator[RunningSystem]:
    with running_system(
        WEBHOOKS__ALLOW_PRIVATE_ADDRESSES="true",
        WEBHOOKS__SECRET=KEY,
        WORKER_PROCESSES="1",
        TASKS__instant__PROVIDER="instant",
        PROVIDERS__instant__KIND="python",
        PROVIDERS__instant__OPTIONS__class="tests.support.providers.instant_provider:InstantProvider",
    ) as system:
        yield system


def order(system: RunningSystem, webhook: str) -> str:
    body = {
        "type": "instant",
        "params": {"images": [system.upload_sample()]},
        "webhook": webhook,
    }
    request = urllib.request.Request(
        f"{system.url}/v1/tasks", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(json.load(answer)["task_id"])


def test_a_task_that_ended_sends_its_webhook_with_links_that_open(
    house: RunningSystem, receiver: WebhookReceiver
) -> None:
    task_id = order(house, receiver.hook)
    eventually("the webhook is told", lambda: receiver.heard)
    message = receiver.heard[0].verified(KEY)
    assert message["type"] == "task.completed"
    with urllib.request.urlopen(f"{house.url}/v1/tasks/{task_id}", timeout=30) as answer:
        assert message["data"] == json.load(answer)
    link = message["data"]["result"]["images"][0]["url"]
    with urllib.request.urlopen(house.url + link, timeout=30) as answer:
        assert answer.status == 200


def test_a_worker_killed_while_it_delivers_leaves_the_message_to_another(
    house: RunningSystem, receiver: WebhookReceiver
) -> None:
    receiver.hangs = True
    task_id = order(house, receiver.hook)
    eventually("the webhook is being sent", lambda: receiver.heard)
    receiver.hangs = False
    worker_of(house).send_signal(signal.SIGKILL)
    with (
        contextlib.closing(sqlite3.connect(house.data_dir / "darkroom.db", timeout=15)) as database,
        database,
    ):
        database.execute("UPDATE rule SET shift = ?", (f"+{deliveries.CLAIM_SECONDS + 1:.0f} seconds",))
    eventually("another worker has sent it", lambda: len(receiver.heard) == 2)
    assert [each.id for each in receiver.heard] == [f"msg_{task_id}_1"] * 2
    assert receiver.heard[1].verified(KEY)["data"]["task_id"] == task_id


def worker_of(house: RunningSystem) -> psutil.Process:
    with contextlib.closing(sqlite3.connect(house.data_dir / "darkroom.db", timeout=15)) as database:
        ((pid,),) = database.execute("SELECT pid FROM worker WHERE state = 'live'").fetchall()
    return psutil.Process(pid)
