"""The cost that a service reports, from its answer to `darkroom costs`, by every adapter that reads answers."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.providers.base import Accepted, Done, Report, Running
from tests.support.fakes.fake_ai_service import Asked, FakeAiService, Reply, http_type, picture_reply
from tests.support.fakes.gradio_app import GradioApp
from tests.support.fakes.openai_service import OpenAi
from tests.support.fakes.replicate_service import Replicate
from tests.support.providers.adapters import Adapters, error_of, images_of
from tests.support.providers.provider_settings import openai_settings, replicate_settings
from tests.support.running_system import RunningSystem, running_system

USD = {"cost_unit": "USD", "allow_private_addresses": True}
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
async def adapters(tmp_path: Path) -> AsyncIterator[Adapters]:
    async with Adapters(tmp_path) as opened:
        yield opened


def _http(service: FakeAiService, **more: Any) -> dict[str, Any]:
    provider = {
        "kind": "http",
        "url": service.url,
        "submit": {"url": "/make", "body": {}},
        "result": ["$.image"],
    }
    return provider | USD | more


async def test_a_body_or_a_header_says_it(adapters: Adapters) -> None:
    with FakeAiService() as service:
        answer = picture_reply().document
        body = json.dumps(answer)[:-1] + ', "usage": {"cost": 0.040000000000000000001}}'
        service.reply = lambda asked: Reply(body=body.encode(), headers={"X-Cost": "1.50"})
        for place, amount in (("$.usage.cost", "0.040000000000000000001"), ("header:x-cost", "1.50")):
            job = adapters.job()
            images_of(await adapters.submit(adapters.open(_http(service, cost=place)), job))
            assert job.bill.amount == amount


async def test_an_answer_that_can_not_be_used_costs_all_the_same(adapters: Adapters) -> None:
    with FakeAiService() as service:
        service.reply = lambda asked: Reply(document={"image": None, "cost": 3})
        job = adapters.job()
        error_of(await adapters.submit(adapters.open(_http(service, cost="$.cost")), job))
        assert job.bill.amount == "3"


async def test_a_remote_job_says_it_when_it_ends_and_not_before(adapters: Adapters) -> None:
    with FakeAiService() as service:
        states = ["running", "done"]

        def reply(asked: Asked) -> Reply:
            if asked.path == "/make":
                return Reply(document={"id": "j-1", "cost": 9})
            return Reply(document={**picture_reply().document, "status": states.pop(0), "cost": 0.5})

        service.reply = reply
        poll = {"url": "/job/${id}", "status": "$.status", "interval": [0.1, 0.1]}
        provider = adapters.open(_http(service, mode="poll", id="$.id", poll=poll, cost="$.cost"))
        first = adapters.job()
        remote = await adapters.submit(provider, first)
        assert isinstance(remote, Accepted) and first.bill.amount is None
        for kind, amount in ((Running, None), (Done, "0.5")):
            job = adapters.job(inputs=(), input_keys=())
            assert isinstance(await adapters.poll(provider, remote, job), kind)
            assert job.bill.amount == amount


async def test_a_report_says_it(adapters: Adapters) -> None:
    with Replicate() as service:
        service.more = {"metrics": {"cost": 0.0023}}
        provider = adapters.open(
            replicate_settings(service, cost="$.metrics.cost", mode="callback", **USD), url="https://d.test"
        )
        job = adapters.job(callback_url="https://d.test/v1/callbacks/x")
        remote = await adapters.submit(provider, job)
        headers, body = service.webhook("p0", "succeeded")
        await provider.parse_callback(remote, job, Report(headers, body))
        assert job.bill.amount == "0.0023"


async def test_replicate_gradio_and_openai_say_it(adapters: Adapters) -> None:
    with Replicate() as replicate, GradioApp() as gradio, OpenAi() as openai:
        replicate.more = {"metrics": {"cost": 0.0023}}
        file = {
            "path": "red.png",
            "url": f"{gradio.url}/gradio_api/file=red.png",
            "meta": {"_type": "gradio.FileData"},
        }
        gradio.output = [file, {"credits": 4}]
        endpoint = {"endpoint": "/invert", "input": {"image": "${input.0.file}"}}
        for settings, amount in (
            (replicate_settings(replicate, cost="$.metrics.cost"), "0.0023"),
            ({"kind": "gradio", "url": gradio.url, "options": endpoint, "cost": "$.data[1].credits"}, "4"),
            (openai_settings(openai, partial_images=2) | {"cost": "$.usage.total_tokens"}, None),
            (openai_settings(openai, partial_images=0) | {"cost": "$.usage.total_tokens"}, None),
        ):
            job = adapters.job()
            images_of(await adapters.ended(adapters.open(settings | USD), job))
            assert job.bill.amount is not None and job.bill.amount == (amount or job.bill.amount)
            if amount is None:
                assert re.fullmatch("[0-9]+", job.bill.amount), "streamed or not, its usage is heard"


async def test_a_class_of_ones_own_says_it(adapters: Adapters) -> None:
    job = adapters.job()
    job.note_cost(None)
    job.note_cost("a lot")
    assert job.bill.amount is None
    job.note_cost("0.20")
    assert job.bill.amount == "0.20"


# --- a whole system ---


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    def reply(asked: Asked) -> Reply:
        if asked.path == "/jobs":
            return Reply(document={"id": "j-1"})
        if asked.path == "/refuse":
            return Reply(document={"cost": 0.01})
        return Reply(document={**picture_reply().document, "status": "done", "cost": 0.10})

    with FakeAiService(reply) as service:
        price = {"COST": "$.cost", "COST_UNIT": "USD", "ALLOW_PRIVATE_ADDRESSES": "true"}
        settings = {"CREDITS__ENABLED": "true"} | http_type(service, "held", **price)
        job = {"URL": f"{service.url}/job/${{id}}", "STATUS": "$.status", "INTERVAL": "[0.2, 0.2]"}
        polled = {"MODE": "poll", "ID": "$.id", "SUBMIT__URL": f"{service.url}/jobs"}
        polled |= {f"POLL__{name}": value for name, value in job.items()}
        settings |= http_type(service, "asked", **price, **polled)
        settings |= http_type(service, "refused", **price, SUBMIT__URL=f"{service.url}/refuse")
        with running_system(log=tmp_path_factory.mktemp("costs") / "log", **settings) as system:
            yield system


def _run(shop: RunningSystem, *words: str) -> subprocess.CompletedProcess[str]:
    return shop.darkroom(*words, cwd=shop.data_dir, timeout=90)


def _darkroom(shop: RunningSystem, *words: str) -> str:
    told = _run(shop, *words)
    assert told.returncode == 0, told.stderr
    return told.stdout


def test_costs_are_shown_beside_credits_taken(shop: RunningSystem) -> None:
    ended = {type_: shop.order(type_) for type_ in ("held", "held", "asked", "refused")}
    tasks = [*ended.values(), *(row["id"] for row in shop.all("SELECT id FROM task_queue"))]
    states = {task: shop.ends(task) for task in dict.fromkeys(tasks)}
    assert sorted(states.values()) == ["completed", "completed", "completed", "failed"]
    told = json.loads(_darkroom(shop, "costs", "--since", "2026-01-01", "--json"))
    spent = {
        (each["provider"], each["type"], each["unit"]): (each["requests"], each["cost"])
        for each in told["costs"]
    }
    assert spent["held", "held", "USD"] == (2, "0.2") and spent["asked", "asked", "USD"] == (1, "0.1")
    requests, cost = spent["refused", "refused", "USD"]
    assert cost == f"0.0{requests}", "each refused request costs"
    assert {each["type"]: each["taken"] for each in told["credits"]} == {"held": 2, "asked": 1, "refused": 0}
    table = _darkroom(shop, "costs", "--since", "2026-01-01T00:00:00+08:00")
    assert re.search(r"held +held +2 +0\.2 +USD", table) and "CREDITS TAKEN" in table
    assert "attempt 1, lease 1: held took 0.1 USD" in _darkroom(shop, "show", ended["held"])


def test_operators_and_prometheus_see_costs_and_users_do_not(shop: RunningSystem) -> None:
    task = shop.order("held")
    assert shop.ends(task) == "completed"
    with urllib.request.urlopen(f"{shop.url}/v1/ops/tasks/{task}", timeout=30) as answer:
        [cost] = json.load(answer)["costs"]
    assert (cost["provider"], cost["cost"], cost["unit"], cost["attempt"]) == ("held", "0.1", "USD", 1)
    with urllib.request.urlopen(f"{shop.url}/v1/tasks/{task}", timeout=30) as answer:
        assert "cost" not in json.load(answer)
    with urllib.request.urlopen(f"{shop.url}/metrics", timeout=30) as answer:
        metrics = answer.read().decode()
    held = shop.all("SELECT count(*) AS n FROM provider_cost WHERE provider = 'held'")[0]["n"]
    shown = re.search(r'darkroom_ai_cost_total{provider="held",unit="USD"} (\S+)', metrics)
    assert shown is not None and float(shown[1]) == pytest.approx(held / 10)


def test_a_day_that_is_none_is_said(shop: RunningSystem) -> None:
    for edge in ("9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"):
        told = _run(shop, "costs", "--since", edge)
        assert told.returncode == 2 and "Traceback" not in told.stderr and edge in told.stderr
    told = _run(shop, "costs", "--since", "yesterday")
    assert (
        told.returncode == 2 and "--since is 'yesterday', but may be a day such as 2026-12-01" in told.stderr
    )
