"""A house of before types were declared (f848591): its settings, rows and clients go on as they were."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.load_settings import load_settings
from config.settings import Settings
from supervisor.security.tokens import make_user_token
from tests.support.command_line import darkroom
from tests.support.databases import POSTGRESQL, SQLITE, plain_connection
from tests.support.providers.instant_provider import ONE_PIXEL
from tests.support.running_system import RunningSystem, running_system
from tests.support.waiting import eventually
from tests.upgrade.dumps import FOLDER, restored

OLD = {SQLITE: "0012-sqlite", POSTGRESQL: "0012-postgresql"}
KEPT = {
    "task_queue": "id, user_openid, type, status, stage, progress, images, error, charge, attempt, lease",
    "works": "id, user_openid, task_id, type, status, progress, images, error",
    "credit_entry": "id, user_openid, task_id, charge, kind, amount, reference",
    "image": "id, user_openid, key, width, height, bytes, sha256",
    "account": "user_openid, balance, seq, epoch",
}
NEW = {"task_queue": "outputs", "works": "outputs", "credit_entry": "base", "image": "media_type"}


@pytest.fixture(params=[SQLITE, POSTGRESQL])
def old_house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    with restored(OLD[request.param], tmp_path) as settings:
        yield settings


def _rows(settings: Settings, query: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(plain_connection(settings)) as plain:
        return [tuple(row) for row in plain.execute(query).fetchall()]


def _as_it_is(settings: Settings) -> dict[str, list[str]]:
    return {
        table: sorted(map(repr, _rows(settings, f"SELECT {columns} FROM {table}")))
        for table, columns in KEPT.items()
    }


def _migrated(settings: Settings) -> None:
    done = darkroom(settings.data_dir, "migrate", DARKROOM_DATABASE_URL=settings.database_url)
    assert done.returncode == 0, done.stderr


def test_settings_of_before_mean_what_they_meant(tmp_path: Path) -> None:
    environ = {"DARKROOM_CONFIG": str(FOLDER / "0012-settings.toml"), "DARKROOM_DATA_DIR": str(tmp_path)}
    settings = load_settings(environ | {"DARKROOM_PROVIDERS__atelier__SECRETS__KEY": "k"})
    assert set(settings.tasks) == {"photography", "fitting", "portrait", "poster"}
    portrait, fitting = settings.tasks["portrait"], settings.tasks["fitting"]
    assert (portrait.provider, portrait.fallback, portrait.max_running) == ("atelier", ["studio"], 8)
    assert portrait.inputs.bounds["images"] == (1, 16) and portrait.inputs.bounds["videos"] == (0, 0)
    assert (portrait.price_in_use.per, portrait.price_in_use.credits, portrait.price_in_use.base) == (
        "picture",
        2,
        0,
    )
    assert list(portrait.outputs) == ["images"] and portrait.schema_of_parameters is None
    assert fitting.provider == "slow" and fitting.inputs.bounds["images"] == (2, 2), (
        "only what it names is another"
    )
    assert not any(each.cost or each.files or each.data for each in settings.providers.values())


def test_every_row_is_as_it_was_and_says_nothing_new(old_house: Settings) -> None:
    before = _as_it_is(old_house)
    assert sum(map(len, before.values())) > 150
    _migrated(old_house)
    assert _as_it_is(old_house) == before
    for table, column in NEW.items():
        assert _rows(old_house, f"SELECT count(*) FROM {table} WHERE {column} IS NOT NULL") == [(0,)]


@pytest.mark.timeout(300)
def test_old_works_are_shown_old_orders_are_run_and_old_debits_are_refunded(old_house: Settings) -> None:
    _migrated(old_house)
    uploads = old_house.data_dir / "files" / "uploads"
    uploads.mkdir(parents=True)
    for n in range(4):
        (uploads / f"o-{n}.jpg").write_bytes(ONE_PIXEL)
    with running_system(
        DATABASE_URL=old_house.database_url,
        STORAGE_URL=f"file://{old_house.data_dir}/files",
        WORKER_PROCESSES="1",
        TASKS__photography__PROVIDER="instant",
        PROVIDERS__instant__KIND="python",
        PROVIDERS__instant__OPTIONS__class="tests.support.providers.instant_provider:InstantProvider",
        LIMITS__OPEN_TASKS_PER_USER="0",
        CREDITS__ENABLED="true",
    ) as system:
        [(done, user)] = _rows(
            old_house,
            "SELECT id, user_openid FROM task_queue WHERE status = 'completed' ORDER BY finished_at LIMIT 1",
        )
        task = _asked(system, user, f"/v1/tasks/{done}")
        assert task["result"]["images"] and not {"files", "data"} & task["result"].keys()
        works = _asked(system, user, "/v1/works/changes")["docs"]
        assert works and not any({"files", "data"} & doc.keys() for doc in works)
        [(image,)] = _rows(old_house, f"SELECT id FROM image WHERE user_openid = '{user}' LIMIT 1")
        order = {"type": "photography", "params": {"images": [image], "sceneId": "night", "count": 2}}
        assert _asked(system, user, "/v1/tasks?estimate=true", order)["credits"] == 2
        accepted = _asked(system, user, "/v1/tasks", order)
        eventually("all has ended", lambda: _open(old_house) == 0, 120)
        ended = _asked(system, user, f"/v1/tasks/{accepted['task_id']}")
        assert ended["status"] == "completed" and len(ended["result"]["images"]) == 2
    wrong = _rows(
        old_house,
        """SELECT user_openid FROM account WHERE balance <> (SELECT coalesce(sum(amount), 0) FROM credit_entry
            WHERE credit_entry.user_openid = account.user_openid)""",
    )
    assert wrong == []
    unpaid = _rows(
        old_house,
        """SELECT id FROM task_queue WHERE status IN ('failed','cancelled') AND coalesce((SELECT sum(amount)
            FROM credit_entry WHERE task_id = task_queue.id AND charge = task_queue.charge), 0) <> 0""",
    )
    assert unpaid == [], "whoever got nothing has paid nothing"


def _open(settings: Settings) -> int:
    query = "SELECT count(*) FROM task_queue WHERE status IN ('pending','processing','ai_processing')"
    return int(_rows(settings, query)[0][0])


def _asked(system: RunningSystem, user: str, path: str, body: Any = None) -> Any:
    token = make_user_token((system.data_dir / "secret").read_text().strip(), user, ttl_seconds=600)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(system.url + path, data, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)
