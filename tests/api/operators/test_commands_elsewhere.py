"""With DARKROOM_URL and DARKROOM_TOKEN the commands that act do so at that service, and not in a database here."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import pytest

from supervisor.cli.main import commands
from supervisor.security.tokens import Role, make_user_token
from supervisor.store.ledger import provider_costs
from supervisor.store.ledger.provider_costs import ProviderCost
from supervisor.store.tasks import user_actions
from supervisor.store.tasks.new_task import NewTask
from supervisor.store.webhooks import deliveries
from tests.conftest import PARAMS
from tests.support.command_line import darkroom
from tests.support.houses.web_server import SECRET, Web, running_web

ACTS = (
    ("block", "o-7", "--reason", "stolen card"),
    ("unblock", "o-7"),
    ("credits", "grant", "o-7", "5", "--reference", "r-1"),
    ("token", "revoke", "o-7"),
    ("sweep",),
)
READS = (
    ("tasks",),
    ("tasks", "--stuck"),
    ("tasks", "--text", "a word"),
    ("history",),
    ("dead",),
    ("top",),
    ("user", "bob"),
    ("costs",),
    ("webhooks",),
    ("webhooks", "--failed"),
    ("bulk", "list"),
)
MAKES_WITH_THE_SECRET = (("token", "o-7"), ("key", "cloudbase", "functions"), ("webhooks", "secret"))
# About the host on which they run, or tried with a service by their own tests.
OF_THIS_HOST = {
    "up", "web", "dispatcher", "worker", "scheduler", "migrate", "upgrade", "provider", "link", "secret", "doctor",
    "copy", "kubernetes",
}  # fmt: skip
OF_USERS = {"submit", "types", "watch", "show", "cancel", "retry"}


async def run(web: Web, tmp_path: Path, role: Role, *words: str) -> subprocess.CompletedProcess[str]:
    """In a folder without a database."""
    folder = tmp_path / "elsewhere"
    folder.mkdir(exist_ok=True)
    token = make_user_token(SECRET, "bob", role, ttl_seconds=600)
    return await asyncio.to_thread(darkroom, folder, *words, DARKROOM_URL=web.url, DARKROOM_TOKEN=token)


async def test_an_admin_acts_there_and_is_on_record_there(web: Web, tmp_path: Path) -> None:
    for words in ACTS:
        done = await run(web, tmp_path, "admin", *words)
        assert done.returncode == 0, (words, done.stderr)
    assert not list((tmp_path / "elsewhere").iterdir())
    assert [tuple(row) for row in web.sql("SELECT action, operator, role FROM audit ORDER BY id")] == [
        (action, "bob", "admin") for action in ("block", "unblock", "grant", "revoke", "sweep")
    ]


def test_no_command_is_forgotten_here() -> None:
    asked = {words[0] for words in (*ACTS, *READS, *MAKES_WITH_THE_SECRET)}
    assert asked | OF_THIS_HOST | OF_USERS == set(commands.commands)


async def test_a_viewer_reads_what_is_there(web: Web, tmp_path: Path) -> None:
    web.insert_task("o-7")
    for words in READS:
        done = await run(web, tmp_path, "viewer", *words)
        assert done.returncode == 0, (words, done.stderr)
        assert "database" not in done.stderr, (words, done.stderr)
    assert not list((tmp_path / "elsewhere").iterdir())


async def test_what_is_read_there_is_what_stands_there(web: Web, tmp_path: Path) -> None:
    (task_id,) = await _with_a_webhook(web)
    cost = ProviderCost("r-1", task_id, "photography", 1, 1, 1, "atelier", "0.25", "USD")
    await web.database.write_async(lambda tx: provider_costs.add(tx, cost))
    await web.database.write_async(lambda tx: tx.execute(f"UPDATE task_queue SET expires_at = {tx.now}"))
    told = json.loads((await run(web, tmp_path, "viewer", "costs", "--json")).stdout)
    assert told["costs"] == [
        {"provider": "atelier", "type": "photography", "unit": "USD", "requests": 1, "cost": "0.25"}
    ]
    assert told["credits"] == [{"type": "photography", "debited": 1, "refunded": 0, "taken": 1}]
    told = json.loads((await run(web, tmp_path, "viewer", "tasks", "--stuck", "--json")).stdout)
    assert [(each["task_id"], each["stuck"]) for each in told] == [(task_id, "expired")]
    assert "stuck: expired" in (await run(web, tmp_path, "viewer", "tasks", "--stuck")).stdout
    for status, ids in (("pending", [task_id]), ("processing", [])):
        done = await run(web, tmp_path, "viewer", "tasks", "--stuck", "--status", status, "--json")
        assert [each["task_id"] for each in json.loads(done.stdout)] == ids
    both = await run(web, tmp_path, "viewer", "tasks", "--stuck", "--code", "x")
    assert both.returncode == 2 and "--stuck" in both.stderr


async def test_a_token_that_was_made_here_and_is_refused_there_says_so(web: Web, tmp_path: Path) -> None:
    """As with a port of this host that leads to another."""
    (tmp_path / "secret").write_text("another service's 0123456789abcdef")
    done = await asyncio.to_thread(darkroom, tmp_path, "costs", DARKROOM_URL=web.url)
    assert done.returncode == 1 and "secret of DARKROOM_DATA_DIR" in done.stderr, done.stderr
    assert "Set DARKROOM_TOKEN" in done.stderr


async def test_a_webhook_is_listed_and_sent_again_there(web: Web, tmp_path: Path) -> None:
    (task_id,) = await _with_a_webhook(web)
    await web.database.write_async(lambda tx: user_actions.cancel(tx, task_id))
    (message,) = await web.database.write_async(lambda tx: deliveries.claim(tx, deliveries.due(tx).get()))
    await web.database.write_async(lambda tx: deliveries.put_off(tx, message, None, status=500, reason="No."))
    shown = (await run(web, tmp_path, "viewer", "webhooks", "--failed")).stdout
    assert message.id in shown and "key=1" not in shown
    done = await run(web, tmp_path, "operator", "webhooks", "resend", message.id)
    assert (done.returncode, done.stdout) == (0, f"{message.id} is waiting\n"), done.stderr
    assert web.sql("SELECT state FROM webhook_delivery") == [("waiting",)]
    assert web.sql("SELECT operator FROM audit") == [("bob",)]
    assert (await run(web, tmp_path, "operator", "webhooks", "resend", "msg_x_1")).returncode == 1


async def _with_a_webhook(web: Web) -> list[str]:
    new = NewTask("o-7", "photography", PARAMS, webhook="https://app.example.org/hook?key=1")
    view = await web.database.write_async(lambda tx: user_actions.submit(tx, web.settings, new))
    return [view["task_id"]]


@pytest.mark.parametrize("words", MAKES_WITH_THE_SECRET)
def test_nothing_is_made_with_another_secret_than_the_services(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    elsewhere = {"DARKROOM_URL": "https://photos.example.org"}
    done = darkroom(tmp_path, *words, **elsewhere)
    assert done.returncode == 2 and "DARKROOM_SECRET" in done.stderr and not list(tmp_path.iterdir())
    assert darkroom(tmp_path, *words, DARKROOM_SECRET=SECRET, **elsewhere).returncode == 0
    assert darkroom(tmp_path, *words, DARKROOM_URL="http://127.0.0.1:8000").returncode == 0


def test_without_a_token_a_command_that_acts_names_the_database_here_and_the_token(tmp_path: Path) -> None:
    done = darkroom(tmp_path, "unblock", "o-7", DARKROOM_URL="https://photos.example.org")
    assert done.returncode == 2
    assert "of this host" in done.stderr and "set DARKROOM_TOKEN" in done.stderr


async def test_a_service_that_wants_a_token_is_asked_with_one(tmp_path: Path) -> None:
    async with running_web(tmp_path / "there", demo_user=False) as web:
        folder = tmp_path / "here"
        folder.mkdir()
        for words in (("tasks",), ("costs",)):
            done = await asyncio.to_thread(darkroom, folder, *words, DARKROOM_URL=web.url)
            assert done.returncode == 1 and "Set DARKROOM_TOKEN" in done.stderr, (words, done.stderr)


@pytest.mark.parametrize("role", ["user", "viewer"])
async def test_a_role_that_may_not_is_told_so(web: Web, tmp_path: Path, role: Role) -> None:
    for words in ACTS:
        done = await run(web, tmp_path, role, *words)
        assert done.returncode == 1 and f"Yours has role '{role}'." in done.stderr, words
    assert web.sql("SELECT count(*) FROM audit") == [(0,)]


async def test_why_it_was_refused_there_is_said_once(web: Web, tmp_path: Path) -> None:
    done = await run(web, tmp_path, "admin", "bulk", "cancel", "--from", "yesterday", "--dry-run")
    assert done.returncode == 1
    assert done.stderr.count("must be a day") == 1 and "/filter/from" in done.stderr


async def test_one_token_is_revoked_on_a_host_of_the_system(web: Web, tmp_path: Path) -> None:
    done = await run(web, tmp_path, "admin", "token", "revoke", "--id", "j-1")
    assert done.returncode == 2 and "without DARKROOM_TOKEN" in done.stderr
