"""A custom type, declared with a schema, by every interface: HTTP, SQL and Dramatiq, on each kind of database."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest

from actors.attempts.jobs import job_of
from actors.entry import submit_actor
from actors.files.scratch import Scratch
from supervisor.core.claim import Claim
from supervisor.core.rescue import Budget
from supervisor.core.task_params import BadTask
from supervisor.store.tasks import admission
from tests.support.databases import KINDS
from tests.support.houses.web_server import bearer, running_web
from web.openapi.default_sentences import with_defaults_in_words

SCHEMA = {
    "properties": {
        "quality": {"enum": ["sd", "hd"], "default": "sd"},
        "name": {"type": "string", "pattern": "^(a+)+$"},
    },
    "additionalProperties": False,
}
POSTER = {"title": {"en": "Poster", "zh": "海报"}, "inputs": {"images": [0, 1]}, "parameters": SCHEMA}
GOOD = {"parameters": {"name": "aa"}}
BAD = {"parameters": {"quality": "uhd", "name": "a" * 5000 + "!", "more": 1}}
POINTERS = ["/params/parameters/quality", "/params/parameters/name", "/params/parameters/more"]


class _Worker:
    """As much of a worker as the Dramatiq door and a job need."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings


@pytest.fixture(params=KINDS)
async def web(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    async with running_web(tmp_path, request.param, tasks={"poster": POSTER}) as web:
        yield web


async def test_bad_parameters_are_refused_over_http_with_their_pointers_and_nothing_is_stored(
    web: Any, http: aiohttp.ClientSession
) -> None:
    order = {"type": "poster", "params": BAD}
    async with http.post(f"{web.url}/v1/tasks", json=order, headers=bearer("o-1")) as answer:
        assert answer.status == 422 and answer.content_type == "application/problem+json"
        errors = (await answer.json())["errors"]
    assert sorted(each["pointer"] for each in errors) == sorted(POINTERS)
    assert web.sql("SELECT count(*) FROM task_queue") == [(0,)]
    assert web.sql("SELECT count(*) FROM credit_entry WHERE kind = 'debit'") == [(0,)]


async def test_a_row_written_by_sql_is_checked_once_at_its_admission(web: Any) -> None:
    insert = "INSERT INTO task_queue (id, user_openid, type, params) VALUES (?, 'o-1', 'poster', ?)"
    web.sql(insert, "good", json.dumps(GOOD))
    web.sql(insert, "bad", json.dumps(BAD))
    web.database.write(lambda tx: admission.admit_waiting(tx, web.settings, 10).get().rows).result(timeout=60)
    assert web.sql("SELECT status FROM task_queue WHERE id = 'good'") == [("pending",)]
    [(status, error)] = web.sql("SELECT status, CAST(error AS TEXT) FROM task_queue WHERE id = 'bad'")
    told = json.loads(error)
    assert (status, told["code"]) == ("failed", "bad_params")
    assert told["message"].startswith("parameters.") and told["message"].endswith(".")
    [(shown,)] = web.sql("SELECT CAST(error AS TEXT) FROM works WHERE task_id = 'bad'")
    assert json.loads(shown) == told, "its user sees why"


def test_a_message_with_bad_parameters_is_refused_with_the_same_sentence() -> None:
    settings = _settings()
    body = {"type": "poster", "params": BAD}
    with pytest.raises(BadTask, match=r'params\.parameters\.quality: This may be "sd" or "hd"\.'):
        submit_actor._order(_Worker(settings), "t-1", "o-1", body)  # type: ignore[arg-type]


def _settings() -> Any:
    from config.settings import Settings

    return Settings(secret="of the tests, and of nothing else 0123", tasks={"poster": POSTER})


async def test_defaults_reach_the_service_and_never_the_row(
    web: Any, http: aiohttp.ClientSession, tmp_path: Any
) -> None:
    order = {"type": "poster", "params": GOOD}
    async with http.post(f"{web.url}/v1/tasks", json=order, headers=bearer("o-1")) as answer:
        assert answer.status == 202
        task_id = (await answer.json())["task_id"]
    [(stored,)] = web.sql("SELECT CAST(params AS TEXT) FROM task_queue WHERE id = ?", task_id)
    assert json.loads(stored) == GOOD
    claim = Claim(task_id, 1, 1, 1, "poster", "o-1", json.loads(stored), {}, 1, Budget(0, 0, 3), 0.0)
    job = job_of(_Worker(web.settings), claim, "studio", pictures=(0,), scratch=Scratch(tmp_path))  # type: ignore[arg-type]
    assert job.params["parameters"] == {"name": "aa", "quality": "sd"}
    assert claim.params == GOOD


async def test_the_inputs_of_a_type_are_public_and_its_provider_is_not(
    web: Any, http: aiohttp.ClientSession
) -> None:
    async with http.get(f"{web.url}/v1/types") as answer:
        assert answer.status == 200
        items = (await answer.json())["items"]
    poster = next(each for each in items if each["type"] == "poster")
    assert poster == {
        "type": "poster",
        "title": {"en": "Poster", "zh": "海报"},
        "about": {},
        "inputs": {"images": [0, 1], "videos": [0, 0], "audio": [0, 0], "files": [0, 0]},
        "slots": [],
        "count": [1, 8],
        "scenes": [],
        "parameters": SCHEMA,
        "outputs": ["images"],
        "steps": [],
        "price": {"base": 0, "per": "picture", "credits": 1, "seconds": "", "by": []},
    }
    async with http.get(f"{web.url}/openapi.json") as answer:
        members = (await answer.json())["components"]["schemas"]["PosterParams"]["properties"]
    assert members["images"]["maxItems"] == 1 and members["images"]["minItems"] == 0
    assert members["parameters"] == {
        "$id": "urn:darkroom:parameters:poster",
        **with_defaults_in_words(SCHEMA),
    }
