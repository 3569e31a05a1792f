"""The answers of operators' addresses match their description, in a system with something of everything."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from pydantic import BaseModel

from config.provider import Provider
from supervisor.store.limits import pauses
from supervisor.store.queue import workers
from supervisor.store.remote import remote_jobs
from supervisor.store.tasks import claims, remote_wait
from supervisor.store.tasks.user_actions import NewTask, submit
from supervisor.store.webhooks import deliveries
from tests.conftest import claim_now
from tests.support.houses.web_server import Web, bearer
from web.openapi.ops_schemas import OpsOverview
from web.openapi.ops_task_schemas import (
    OPS_ANSWERS,
    OpsDraining,
    OpsExaminedTask,
    OpsFoundTasks,
    OpsMoved,
    OpsPaused,
    OpsResent,
    OpsSwept,
)
from web.openapi.ops_user_schemas import OpsCosts, OpsDeliveries

PARAMS = {"images": ["https://example.org/a.jpg"]}
TWO = {"images": PARAMS["images"] * 2}
WORKER = "w-1"
STUDIO = Provider(kind="studio")
PROCESSES = [
    {"name": "web", "pid": 7, "state": "ready", "restarts": 0, "last_exit": None},
    {
        "name": "worker-1",
        "pid": None,
        "state": "waiting",
        "restarts": 1,
        "last_exit": {"status": -9, "text": "was killed by SIGKILL", "at": 1795660592.25},
    },
]


@pytest.fixture
def told(web: Web, http: aiohttp.ClientSession) -> Callable[..., Any]:
    """Asks as an operator; the answer's JSON."""

    async def ask(method: str, path: str, **more: Any) -> Any:
        async with http.request(
            method, web.url + path, headers=bearer("o-oncall", "operator"), **more
        ) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json()

    return ask


async def something_of_everything(web: Web) -> dict[str, str]:
    """Tasks by their states."""
    made: dict[str, str] = {}

    def fill(tx: Any) -> None:
        workers.register(tx, WORKER, host="here", pid=7, slots=10)
        for name in ("remote", "running", "stuck", "failed"):
            new = NewTask("o-7", "photography", PARAMS, webhook="https://app.example.org/hook?key=1")
            made[name] = submit(tx, web.context.settings, new)["task_id"]
            held = claim_now(tx, made[name], WORKER, 0.0 if name == "stuck" else 600.0)
            if name == "remote":
                remote_jobs.begin(tx, held, "studio", STUDIO, 1)
                remote_wait.hand_off(
                    tx, held.task_id, held.lease, poll_in_seconds=60, remote_limit_seconds=600
                )
            if name == "failed":
                claims.fail(tx, held.task_id, held.lease, "no_person_found", "Nobody is seen.")
        made["waiting"] = submit(tx, web.context.settings, NewTask("o-8", "fitting", TWO))["task_id"]
        (message,) = deliveries.claim(tx, deliveries.due(tx).get())
        deliveries.put_off(tx, message, 300, status=500, reason="The receiver answers 500.")
        pauses.pause(tx, "type", "fitting", "o-oncall", "a test")

    await web.database.write_async(fill)
    (web.context.settings.data_dir / "processes.json").write_text(json.dumps({"processes": PROCESSES}))
    return made


async def test_answers_match_their_description(web: Web, told: Callable[..., Any]) -> None:
    made = await something_of_everything(web)
    seen = await told("GET", "/v1/ops/overview")
    for name in (
        "queue",
        "line",
        "running",
        "stuck",
        "workers",
        "providers",
        "failures",
        "pauses",
        "processes",
    ):
        assert seen[name], f"there is something in {name}"
    assert seen["webhooks"]["addresses"] and seen["troubles"]
    answers: list[tuple[type[BaseModel], Any]] = [
        (OpsOverview, seen),
        (OpsFoundTasks, await told("GET", "/v1/ops/tasks")),
    ]
    stuck = await told("GET", "/v1/ops/tasks?stuck=true")
    sent, costs = await told("GET", "/v1/ops/webhooks"), await told("GET", "/v1/ops/costs")
    assert stuck["items"] and sent["items"] and costs["credits"]
    looked = [(OpsFoundTasks, stuck), (OpsDeliveries, sent), (OpsCosts, costs)]
    for name, task_id in made.items():
        examined = await told("GET", f"/v1/ops/tasks/{task_id}")
        assert examined["events"], name
        answers.append((OpsExaminedTask, examined))
        if name == "failed":
            assert examined["webhooks"][0]["tries"]
            webhook = examined["webhooks"][0]["id"]
        if name == "remote":
            assert examined["remote_jobs"]
    ask = "/v1/ops/tasks"
    pause = {"kind": "provider", "name": "studio"}
    answers += [
        (OpsMoved, await told("POST", f"{ask}/{made['running']}/release")),
        (OpsMoved, await told("POST", f"{ask}/{made['remote']}/cancel")),
        (OpsMoved, await told("POST", f"{ask}/{made['failed']}/retry")),
        (OpsResent, await told("POST", f"/v1/ops/webhooks/{webhook}/resend")),
        (OpsPaused, await told("POST", "/v1/ops/pauses", json=pause)),
        (OpsDraining, await told("POST", f"/v1/ops/workers/{WORKER}/drain")),
        (OpsSwept, await told("POST", "/v1/ops/sweep")),
        (OpsExaminedTask, await told("GET", f"{ask}/{made['failed']}")),
        (OpsOverview, await told("GET", "/v1/ops/overview")),
    ]
    for model, answer in (*answers, *looked):
        model.model_validate_json(json.dumps(answer), strict=True)
    assert {model for model, _ in answers} == set(OPS_ANSWERS)
