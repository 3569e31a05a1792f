"""An error that every order would get is the provider's fault; one user's order does not decide it for the others.

LiteLLM 1.80 answers a wrong key and a wrong model with 400, as it answers a bad order (`make real-servers`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.attempts.outcomes import end_of_call
from actors.providers.base import AtCapacity, InvalidInput, ProviderDown, ProviderError, RateLimited
from metrics.catalogue import CALL_ENDS
from supervisor.core.errors import NotReleasable
from supervisor.health.diagnosis import diagnose
from supervisor.store.operators import operator_actions, task_details
from supervisor.store.operators.audit import Operator
from supervisor.store.tasks import claims
from supervisor.store.tasks.claims import Claim
from tests.support.fakes.comfyui_service import ComfyUi
from tests.support.fakes.fake_ai_service import Asked, FakeAiService, Reply, picture_reply
from tests.support.pictures import picture
from tests.support.providers.adapters import Adapters, error_of, images_of
from tests.support.providers.comfyui import settings_of

NO_KEY = Reply(400, {"error": {"message": "No connected db.", "type": "no_db_connection", "code": "400"}})


@pytest.fixture
def gateway() -> Iterator[FakeAiService]:
    with FakeAiService() as service:
        yield service


@pytest.fixture
async def adapters(tmp_path: Path) -> AsyncIterator[Adapters]:
    async with Adapters(tmp_path) as opened:
        yield opened


def answers(order: Reply, models: Reply) -> Callable[[Asked], Reply]:
    return lambda asked: models if asked.path == "/v1/models" else order


def opened(adapters: Adapters, gateway: FakeAiService) -> Any:
    options = {"edit_style": "none", "partial_images": 0}
    given = {"preset": "litellm", "url": f"{gateway.url}/v1", "model": "paint", "options": options}
    return adapters.open({**given, "result": ["$.image"], "secrets": {"KEY": "sk-1"}})


async def ordered(adapters: Adapters, provider: Any, prompt: str) -> ProviderError:
    return error_of(await adapters.submit(provider, adapters.job(params={"prompt": prompt})))


@pytest.mark.parametrize(
    ("models", "why"),
    [
        (NO_KEY, "a question of our own was refused too (HTTP 400)"),
        (Reply(401), "refused too (HTTP 401)"),
        (Reply(document={"data": [{"id": "another"}]}), "its list of models has no 'paint'"),
    ],
)
async def test_the_same_error_for_two_orders_and_a_probe_is_the_providers_fault(
    gateway, adapters, models, why
):
    gateway.reply = answers(NO_KEY, models)
    provider = opened(adapters, gateway)
    assert type(await ordered(adapters, provider, "by the sea")) is InvalidInput
    second = await ordered(adapters, provider, "in the woods")
    assert type(second) is ProviderDown and why in second.message and "No connected db" in second.message
    again = await ordered(
        adapters, provider, "in the woods"
    )  # the breaker's probe, with whatever order is first
    assert type(again) is ProviderDown
    gateway.reply = answers(picture_reply(picture("red")), models)
    images_of(await adapters.submit(provider, adapters.job(params={"prompt": "in the woods"})))
    gateway.reply = answers(NO_KEY, models)
    assert type(await ordered(adapters, provider, "once more")) is InvalidInput, "it begins anew"


async def test_no_user_is_a_lever_on_the_others(gateway, adapters):
    """The same bad order again and again starts no probe; a healthy service still takes all other orders."""
    well = Reply(document={"data": [{"id": "paint"}]})
    gateway.reply = answers(NO_KEY, well)
    provider = opened(adapters, gateway)
    for _ in range(3):
        assert type(await ordered(adapters, provider, "the same")) is InvalidInput
    assert "/v1/models" not in [asked.path for asked in gateway.asked]
    assert type(await ordered(adapters, provider, "another")) is InvalidInput
    gateway.reply = answers(NO_KEY, Reply(404))  # a server that has no such list says nothing
    assert type(await ordered(adapters, provider, "a third")) is InvalidInput


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ({}, "the server has no node 'LoadImage' (node 1 of the workflow)"),
        (
            {"LoadImage": {}, "Load": {"name": [["b.safetensors"], {}]}},
            "the server knows no name 'a.safetensors' (node 2",
        ),
        ({"LoadImage": {}, "Load": {"name": [["a.safetensors"], {}]}}, ""),
        ({"LoadImage": {}, "Load": {"name": ["STRING", {}]}}, ""),
    ],
    ids=["no node", "no such model", "all is there", "any text"],
)
async def test_a_workflow_that_names_what_comfyui_lacks_is_nobodys_order(adapters, nodes, why):
    workflow = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "${input.0.file}"}},
        "2": {
            "class_type": "Load",
            "inputs": {"name": "a.safetensors", "prompt": "${params.prompt}", "from": ["1", 0]},
        },
    }
    with ComfyUi() as comfy:
        comfy.nodes = nodes
        comfy.refusal = {
            "error": {"type": "invalid_prompt", "message": "This can't be run."},
            "node_errors": {},
        }
        provider = adapters.open(settings_of(comfy, adapters.folder, workflow))
        assert type(await ordered(adapters, provider, "by the sea")) is InvalidInput
        second = await ordered(adapters, provider, "in the woods")
        assert type(second) is (ProviderDown if why else InvalidInput) and why in second.message


@pytest.mark.parametrize(
    ("model", "page"),
    [
        ("owner/name", "/models/owner/name"),
        ("owner/name:" + "0" * 64, "/models/owner/name/versions/" + "0" * 64),
        ("deployments/owner/name", "/deployments/owner/name"),
        ("0" * 64, "/account"),
    ],
)
async def test_a_model_that_replicate_does_not_show_is_nobodys_order(gateway, adapters, model, page):
    gateway.reply = lambda asked: Reply(404 if asked.path == page else 422, {"detail": "Invalid version."})
    provider = adapters.open(
        {"kind": "replicate", "url": gateway.url, "model": model, "allow_private_addresses": True}
    )
    assert type(await ordered(adapters, provider, "by the sea")) is InvalidInput
    second = await ordered(adapters, provider, "in the woods")
    assert type(second) is ProviderDown and "refused too (HTTP 404)" in second.message
    gateway.reply = lambda asked: Reply(200 if asked.path == page else 422, {"detail": "Invalid version."})
    assert type(await ordered(adapters, provider, "on a hill")) is InvalidInput


def test_a_rate_limit_has_an_outcome_of_its_own():
    assert (
        end_of_call(RateLimited("429")) == "rate_limited" and end_of_call(AtCapacity("409")) == "at_capacity"
    )
    assert {"rate_limited", "at_capacity"} <= set(CALL_ENDS)


def test_a_rate_limited_task_shows_since_when_and_no_release(store, claimed_task: Callable[..., Claim]):
    claim = claimed_task("o-7")
    why = {"code": "rate_limited", "message": "The AI service asks for patience (HTTP 429)."}
    store.write(lambda tx: claims.postpone(tx, claim.task_id, claim.lease, 60.0, **why))
    found = store.database.read(lambda tx: task_details.examine(tx, store.settings, claim.task_id))
    assert found is not None
    found["house"] |= {"is_dispatcher_fresh": True, "takes_tasks": True}
    told = diagnose(found)
    assert told["code"] == "pending.rate_limited" and "HTTP 429" in told["text"]
    postponed = next(each["at"] for each in found["events"] if each["event"] == "postponed")
    assert f"studio has limited our requests since {postponed}" in told["text"]
    with pytest.raises(NotReleasable, match="has limited our requests"):
        store.write(
            lambda tx: operator_actions.release(
                tx, store.settings, Operator("o-oncall", "operator"), claim.task_id
            )
        )
