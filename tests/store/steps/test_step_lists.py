"""Steps that go over a list: no more is made than was paid for, and what is missing is refunded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from actors.providers.base import ContentRejected, Done, Job, Transient
from config.steps import Step
from supervisor.core.task_params import BadTask, check_params
from supervisor.steps.step_orders import MOST_REQUESTS
from supervisor.store.retention import ageing
from tests.conftest import Store
from tests.support.models import step_house
from tests.support.models.step_house import PRICE, STEPS, StepHouse, refuses

FIRST = Step(name="first", provider="local")
SCENES = Step(name="scenes", provider="other", for_each="${params.parameters.scenes}", prompt="${each}")


async def test_a_users_list_makes_no_more_pictures_than_were_ordered(
    opened: Callable[..., StepHouse], store: Store
) -> None:
    house = opened(steps=[FIRST, SCENES])
    order = {"images": ["photo"], "count": 2, "parameters": {"scenes": ["a", "b", "c"]}}
    with pytest.raises(BadTask) as refused:
        check_params("portrait", order, house.settings)
    assert refused.value.errors[0][0] == "/parameters/scenes"
    task_id = house.order("portrait", **{**order, "count": 3})
    await house.live(task_id)
    assert [each.params["prompt"] for each in house.asked if each.step == 1] == ["a", "b", "c"]
    assert store.entries(task_id) == [(1, "debit", -3 * PRICE)]


async def test_a_shorter_list_than_ordered_is_refunded(
    opened: Callable[..., StepHouse], store: Store
) -> None:
    house = opened(refuses((1, 1)), steps=[FIRST, SCENES])
    task_id = house.order("portrait", count=4, parameters={"scenes": ["a", "b"]})
    await house.live(task_id)
    assert store.task(task_id)["missing"] == 3
    assert store.entries(task_id) == [(1, "debit", -4 * PRICE), (1, "refund", 3 * PRICE)]


async def test_a_list_without_end_asks_nobody(opened: Callable[..., StepHouse], store: Store) -> None:
    house = opened(steps=[SCENES, Step(name="last", provider="local")])
    task_id = house.order("portrait", parameters={"scenes": ["a"] * (MOST_REQUESTS + 1)})
    await house.live(task_id)
    assert house.asked == [] and "up to 64 requests" in str(store.task(task_id)["error"])
    assert store.entries(task_id) == [(1, "debit", -PRICE), (1, "refund", PRICE)]


async def test_the_count_of_an_order_that_names_none_is_known_to_its_steps(
    opened: Callable[..., StepHouse], store: Store
) -> None:
    house = opened(
        steps=[FIRST, Step(name="last", provider="other", prompt="${params.count} of ${params.prompt}")]
    )
    await house.live(house.order("portrait", prompt="${steps.first.images} $${x}"))
    assert house.asked[-1].params["prompt"] == "1 of ${steps.first.images} $${x}"


async def test_a_retry_makes_a_step_again_whose_results_lack_what_a_changed_step_needs(
    opened: Callable[..., StepHouse], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = step_house._made

    def made(job: Job) -> Done:
        done = pictures(job)
        return Done(done.images, data={"caption": "a cat"}) if "json" in job.outputs else done

    monkeypatch.setattr(step_house, "_made", made)
    last = Step(name="last", provider="other")
    house = opened(
        lambda asked: ContentRejected("No.") if (asked.step, asked.charge) == (1, 1) else None,
        steps=[FIRST, last],
    )
    task_id = house.order("portrait")
    await house.live(task_id)
    changed = last.model_copy(
        update={"prompt": "${steps.first.data.caption}", "inputs": ["${steps.first.images}"]}
    )
    house.change(steps=[FIRST, changed])
    house.retry(task_id)
    await house.live(task_id)
    assert [(each.charge, each.step) for each in house.asked] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert house.asked[-1].params["prompt"] == "a cat"


async def test_files_between_steps_go_when_the_task_is_completed(
    opened: Callable[..., StepHouse], store: Store
) -> None:
    cut_out, paint, enlarge = (Step(**each) for each in STEPS)
    house = opened(steps=[cut_out.model_copy(update={"keep": True}), paint, enlarge])
    task_id = house.order("portrait", count=2)

    def doomed() -> int:
        keys = [row["key"] for row in store.all("SELECT key FROM result_file")]
        return store.write(lambda tx: ageing.doom_orphans(tx, keys))

    await house.live(task_id, until="ai_processing")
    assert doomed() == 0
    await house.live(task_id)
    assert doomed() == 2, "the paintings alone"
    assert [row["step"] for row in store.all("SELECT step FROM result_file ORDER BY step")] == [0, 2, 2]


def test_a_first_step_of_one_picture_may_repeat_itself(
    opened: Callable[..., StepHouse], tmp_path: Path
) -> None:
    house = opened(steps=[FIRST, SCENES.model_copy(update={"for_each": None, "prompt": None})])
    workflow = tmp_path / "workflow.json"
    workflow.write_text('{"1": {"class_type": "LoadImage", "inputs": {"image": "${input.0}"}}}')
    local = house.settings.providers["local"].model_copy(
        update={"kind": "comfyui", "options": {"workflow": str(workflow)}}
    )
    order = {"images": ["photo"], "count": 2}

    def checked(name: str) -> int:
        providers = {**house.settings.providers, name: local}
        return check_params(
            "portrait", order, house.settings.model_copy(update={"providers": providers})
        ).count

    assert local.repeats_itself and checked("local") == 2
    with pytest.raises(BadTask, match="would be the same"):
        checked("other")


def _without(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    """Requests of these steps are answered, and make no pictures."""
    pictures = step_house._made

    def made(job: Job) -> Done:
        return Done(without_pictures=True) if int(job.reference.split(".")[3]) in steps else pictures(job)

    monkeypatch.setattr(step_house, "_made", made)


@pytest.mark.parametrize("provider", ["other", "remote"])
async def test_refused_ones_of_a_list_that_makes_no_pictures_are_refunded(
    opened: Callable[..., StepHouse], store: Store, monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    _without(monkeypatch, 1)
    scenes = SCENES.model_copy(update={"provider": provider})
    house = opened(refuses((1, 1), (1, 2)), steps=[FIRST, scenes])
    task_id = house.order("portrait", count=4, parameters={"scenes": ["a", "b", "c", "d"]})
    await house.live(task_id)
    row = store.task(task_id)
    assert (row["status"], row["missing"], row["stage"]) == ("completed", 2, "done, 2 of 4")
    assert store.entries(task_id) == [(1, "debit", -4 * PRICE), (1, "refund", 2 * PRICE)]


@pytest.mark.parametrize("provider", ["other", "remote"])
async def test_where_all_of_such_a_list_are_refused_all_is_refunded(
    opened: Callable[..., StepHouse], store: Store, monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    _without(monkeypatch, 1)
    scenes = SCENES.model_copy(update={"provider": provider})
    house = opened(refuses((1, 0), (1, 1)), steps=[FIRST, scenes])
    task_id = house.order("portrait", count=2, parameters={"scenes": ["a", "b"]})
    await house.live(task_id)
    assert store.task(task_id)["status"] == "failed"
    assert store.entries(task_id) == [(1, "debit", -2 * PRICE), (1, "refund", 2 * PRICE)]


async def test_what_was_answered_without_pictures_is_not_asked_again_by_the_next_attempt(
    opened: Callable[..., StepHouse], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without(monkeypatch, 1)
    fails = iter([True, False])
    house = opened(
        lambda asked: Transient("No.") if (asked.step, asked.pictures) == (1, (1,)) and next(fails) else None,
        steps=[FIRST, SCENES],
    )
    task_id = house.order("portrait", count=2, parameters={"scenes": ["a", "b"]})
    await house.live(task_id)
    assert store.task(task_id)["status"] == "completed"
    assert [each.pictures[0] for each in house.asked if each.step == 1] == [0, 1, 1]
    assert store.entries(task_id) == [(1, "debit", -2 * PRICE)]


async def test_a_list_that_gives_up_half_way_without_pictures_refunds_the_rest(
    opened: Callable[..., StepHouse], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without(monkeypatch, 1)
    house = opened(refuses((1, 1), error=Transient("No.")), steps=[FIRST, SCENES])
    task_id = house.order("portrait", count=2, parameters={"scenes": ["a", "b"]})
    await house.live(task_id)
    assert (store.task(task_id)["status"], store.task(task_id)["missing"]) == ("completed", 1)
    assert store.entries(task_id) == [(1, "debit", -2 * PRICE), (1, "refund", PRICE)]
