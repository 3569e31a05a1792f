"""Tasks with steps, made by the product's own attempts and polls: each step is paid once, and is never made again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.providers.base import ContentRejected, Transient
from config.steps import Step
from supervisor.store.counters import counters
from supervisor.store.feed import works
from supervisor.store.queue import dispatch as dispatching
from supervisor.store.retention import ageing
from supervisor.store.tasks.steps import Resumed
from tests.conftest import Store
from tests.support.models.step_house import AGAIN_SECONDS, PRICE, STEPS, StepHouse, refuses

COMMITS = 24  # more than a task of these three steps has


def steps_of(store: Store, task_id: str) -> list[tuple[int, int, int]]:
    """(charge, step, resumed) of the finished steps."""
    rows = store.all(
        "SELECT charge, step, resumed FROM task_step WHERE task_id = ? ORDER BY charge, step", task_id
    )
    return [(row["charge"], row["step"], row["resumed"]) for row in rows]


def events_of(store: Store, task_id: str) -> list[tuple[str, int]]:
    rows = store.all("SELECT event, step FROM task_event WHERE task_id = ? ORDER BY id", task_id)
    return [(row["event"], row["step"]) for row in rows]


def feed_of(store: Store) -> list[int]:
    return [row["seq"] for row in store.all("SELECT seq FROM work_change ORDER BY user_openid, seq")]


async def test_a_step_works_on_what_the_step_before_has_made(
    opened: Callable[..., StepHouse], store: Store
) -> None:
    house = opened()
    task_id = house.order("portrait", count=2, prompt="a cat")
    await house.live(task_id)
    assert [(each.step, each.pictures[0]) for each in house.asked] == [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1)]
    cut_out, *paintings, first, second = house.asked
    assert cut_out.inputs == ("the photo",)
    assert all(each.inputs[0].split(".")[3] == "0" for each in paintings)
    assert [each.params["prompt"] for each in house.asked] == [
        "a cat",
        *["a cat, studio light"] * 2,
        "a cat",
        "a cat",
    ]
    assert [each.inputs[0].split()[1] for each in (first, second)] == ["0", "1"]
    row = store.task(task_id)
    assert (row["status"], row["step"], row["progress"], row["charge"]) == ("completed", 2, 100, 1)
    assert len(json.loads(row["images"]) if isinstance(row["images"], str) else row["images"]) == 2
    assert store.entries(task_id) == [(1, "debit", -2 * PRICE)]
    assert events_of(store, task_id) == [
        ("submitted", 0), ("admitted", 0), ("claimed", 0), ("advanced", 1), ("claimed", 1), ("handed_off", 1),
        ("advanced", 2), ("claimed", 2), ("completed", 2),
    ]  # fmt: skip
    assert feed_of(store) == list(range(1, len(feed_of(store)) + 1))


async def test_the_progress_of_a_task_with_steps_never_falls_and_names_its_step(
    opened: Callable[..., StepHouse], store: Store
) -> None:
    house = opened()
    task_id = house.order("portrait", prompt="a cat")
    await house.live(task_id)
    told = [
        json.loads(row["doc"]) if isinstance(row["doc"], str) else row["doc"]
        for row in store.all("SELECT doc FROM work_change ORDER BY seq")
    ]
    progress = [each["progress"] for each in told]
    assert progress == sorted(progress) and {0, 14, 85, 100} <= set(progress)
    stages = [each["stage"] for each in told]
    assert [each.partition(":")[0] for each in stages if ":" in each] == sorted(
        (each.partition(":")[0] for each in stages if ":" in each), key=["cut_out", "paint", "enlarge"].index
    )


@pytest.mark.parametrize("after", [False, True], ids=["before the commit", "after the commit"])
async def test_a_worker_may_die_at_every_commit_of_every_step(
    opened: Callable[..., StepHouse], store: Store, after: bool
) -> None:
    """The table of kills: at each commit the worker dies; the task is made by others, or given up and retried."""
    house = opened()
    table: Counter[tuple[int, str]] = Counter()
    for dies_at in range(1, COMMITS):
        task_id = house.order("portrait", prompt=f"number {dies_at}")
        house.asked.clear()
        house.progress.clear()
        first = await house.live(task_id, dies_at=dies_at, after=after)
        row = store.task(task_id)
        died = len(first.commits) == dies_at
        if row["status"] == "failed":  # its request may have been billed, and is not sent again
            kept = {0: 0, 1: 2, 2: 5}[row["step"]]
            assert json.loads(json.dumps(row["error"])) and "unknown_outcome" in str(row["error"])
            assert store.entries(task_id) == [(1, "debit", -PRICE), (1, "refund", PRICE - kept)]
            at = row["step"]
            house.retry(task_id)
            assert store.entries(task_id)[-1] == (2, "debit", -(PRICE - kept))
            assert store.task(task_id)["step"] == at
            house.progress.clear()
            await house.live(task_id)
            row = store.task(task_id)
        assert row["status"] == "completed", (dies_at, row)
        table[row["attempt"], "completed in charge " + str(row["charge"])] += 1
        asked = Counter((each.charge, each.step, each.pictures) for each in house.asked)
        assert max(asked.values()) == 1, f"killed at commit {dies_at}: {first.commits}"
        by_step = Counter(each.step for each in house.asked)
        finished_once = Counter(step for charge, step, resumed in steps_of(store, task_id) if not resumed)
        assert set(finished_once.values()) == {1} and set(finished_once) == {0, 1}
        assert house.progress == sorted(house.progress)
        assert all(by_step[step] >= 1 for step in (0, 1, 2))
        assert -sum(amount for _, _, amount in store.entries(task_id)) == PRICE
        if not died:
            break
    else:
        raise AssertionError("it has more commits than are tried")
    assert dies_at > 9, "at each of its commits"
    assert any("charge 2" in how for _, how in table) and any(attempt > 3 for attempt, _ in table)
    assert feed_of(store) == list(range(1, len(feed_of(store)) + 1))
    store.balance()


async def test_of_eight_two_that_are_refused_are_refunded_and_the_others_are_made(
    opened: Callable[..., StepHouse], store: Store
) -> None:
    house = opened(refuses((2, 1), (2, 5)))
    task_id = house.order("portrait", count=8)
    await house.live(task_id)
    row = store.task(task_id)
    assert (row["status"], row["missing"]) == ("completed", 2)
    assert store.entries(task_id) == [(1, "debit", -8 * PRICE), (1, "refund", 2 * PRICE)]
    assert [each.pictures[0] for each in house.asked if each.step == 2] == list(range(8))


async def test_pictures_that_a_step_before_has_not_made_are_refunded_too(
    opened: Callable[..., StepHouse], store: Store
) -> None:
    steps = [Step(**STEPS[0]), Step(**STEPS[1] | {"provider": "spare"}), Step(**STEPS[2])]
    house = opened(refuses((1, 2)), steps=steps)
    task_id = house.order("portrait", count=3)
    await house.live(task_id)
    row = store.task(task_id)
    assert (row["status"], row["missing"]) == ("completed", 1)
    assert store.entries(task_id) == [(1, "debit", -3 * PRICE), (1, "refund", PRICE)]


async def test_a_step_whose_every_picture_is_refused_fails_the_task(
    opened: Callable[..., StepHouse], store: Store
) -> None:
    house = opened(refuses((2, 0), (2, 1)))
    task_id = house.order("portrait", count=2)
    await house.live(task_id)
    assert "content_rejected" in str(store.task(task_id)["error"])
    assert store.entries(task_id) == [(1, "debit", -2 * PRICE), (1, "refund", 2 * PRICE - 5)]


async def test_a_step_that_gives_no_picture_fails_the_task_with_its_refund(
    opened: Callable[..., StepHouse], store: Store
) -> None:
    house = opened(refuses((1, 0), error=Transient("It made nothing.")))
    task_id = house.order("portrait")
    await house.live(task_id)
    row = store.task(task_id)
    assert (row["status"], row["step"], row["failures"]) == ("failed", 1, 3)
    assert store.entries(task_id) == [(1, "debit", -PRICE), (1, "refund", PRICE - 2)]


async def test_a_retry_goes_on_at_the_first_step_without_results(
    opened: Callable[..., StepHouse], store: Store
) -> None:
    house = opened(lambda asked: ContentRejected("No.") if (asked.step, asked.charge) == (2, 1) else None)
    task_id = house.order("portrait", prompt="a cat")
    await house.live(task_id)
    house.asked.clear()
    house.retry(task_id)
    row = store.task(task_id)
    assert (row["step"], row["first_step"], row["status"]) == (2, 2, "pending")
    assert events_of(store, task_id)[-2:] == [("resubmitted", 0), ("resumed", 2)]
    await house.live(task_id)
    assert [each.step for each in house.asked] == [2]
    assert steps_of(store, task_id) == [(1, 0, 0), (1, 1, 0), (2, 0, 1), (2, 1, 1)]
    assert store.entries(task_id) == [
        (1, "debit", -PRICE), (1, "refund", PRICE - 5), (2, "debit", -(PRICE - 5)),
    ]  # fmt: skip


async def test_what_finished_steps_have_made_is_kept_for_a_retry_and_goes_with_the_work(
    opened: Callable[..., StepHouse], store: Store
) -> None:
    house = opened(refuses((2, 0)))
    task_id = house.order("portrait")
    await house.live(task_id)
    keys = [row["key"] for row in store.all("SELECT key FROM result_file ORDER BY step")]
    assert len(keys) == 2
    assert store.write(lambda tx: ageing.doom_orphans(tx, [*keys, f"results/{task_id}/none.jpg"])) == 1
    work = store.work(task_id)
    assert set(keys) <= set(store.write(lambda tx: works.delete(tx, work["id"], work["user_openid"])))
    assert steps_of(store, task_id) == []


async def test_a_retry_begins_anew_where_the_type_says_so(
    opened: Callable[..., StepHouse], store: Store
) -> None:
    house = opened(
        lambda asked: ContentRejected("No.") if (asked.step, asked.charge) == (1, 1) else None,
        resume_on_retry=False,
    )
    task_id = house.order("portrait")
    await house.live(task_id)
    house.retry(task_id)
    await house.live(task_id)
    assert [(each.charge, each.step) for each in house.asked] == [(1, 0), (1, 1), (2, 0), (2, 1), (2, 2)]
    assert store.entries(task_id)[-1] == (2, "debit", -PRICE)


async def test_changed_settings_change_no_open_task_and_a_retry_makes_only_what_is_new(
    opened: Callable[..., StepHouse], store: Store
) -> None:
    house = opened(lambda asked: ContentRejected("No.") if (asked.step, asked.charge) == (2, 1) else None)
    task_id = house.order("portrait", prompt="a cat")
    await house.live(task_id, until="ai_processing")
    steps = [each.model_copy(deep=True) for each in house.settings.tasks["portrait"].steps]
    steps[1] = steps[1].model_copy(update={"prompt": "${params.prompt}, at night", "provider": "spare"})
    house.change(steps=steps)
    await house.live(task_id)
    assert [each.params["prompt"] for each in house.asked if each.step == 1] == ["a cat, studio light"]
    house.asked.clear()
    house.retry(task_id)
    await house.live(task_id)
    assert [(each.step, each.params["prompt"]) for each in house.asked] == [
        (1, "a cat, at night"),
        (2, "a cat"),
    ]


async def test_twelve_steps_cost_no_more_commits_than_twelve_tasks(
    opened: Callable[..., StepHouse], store: Store
) -> None:
    house = opened(steps=[Step(name=f"step_{n}", provider="local") for n in range(12)])
    in_steps = await house.live(house.order("portrait"))
    house.change(steps=[], provider="local")
    one = await house.live(house.order("portrait"))
    assert len(one.commits) == 3 and len(in_steps.commits) == 12 * len(one.commits)


def lose_results(store: Store, house: StepHouse, task_id: str, step: int) -> None:
    """The files of a step are gone, as from a disk or a bucket that lost them."""
    files = Path(house.settings.data_dir) / "files"
    for row in store.all("SELECT key FROM result_file WHERE task_id = ? AND step = ?", task_id, step):
        (files / row["key"]).unlink(missing_ok=True)


@pytest.mark.parametrize("lost", [0, 1])
async def test_a_step_whose_files_are_lost_is_made_again_by_a_retry_and_paid_once(
    opened: Callable[..., StepHouse], store: Store, lost: int
) -> None:
    steps = [Step(**each) for each in STEPS]
    steps[2] = steps[2].model_copy(
        update={"for_each": None, "inputs": [f"${{steps.{STEPS[lost]['name']}.images.0}}"]}
    )
    house = opened(steps=steps)
    task_id = house.order("portrait", prompt="a cat")
    await house.live(task_id, until="ai_processing")
    await house.live(task_id, until="pending")
    assert store.task(task_id)["step"] == 2
    lose_results(store, house, task_id, lost)
    await house.live(task_id)
    row = store.task(task_id)
    assert row["status"] == "failed" and row["failures"] == 1, "at once"
    assert f"the step {STEPS[lost]['name']} had made is gone" in str(row["error"]) and "internal" in str(
        row["error"]
    )
    kept = [0, 2][lost]
    assert store.entries(task_id) == [(1, "debit", -PRICE), (1, "refund", PRICE - kept)]
    house.asked.clear()
    house.retry(task_id)
    assert store.task(task_id)["step"] == lost
    await house.live(task_id)
    assert store.task(task_id)["status"] == "completed"
    assert [(each.charge, each.step) for each in house.asked] == [(2, step) for step in range(lost, 3)]
    assert -sum(amount for _, _, amount in store.entries(task_id)) == PRICE


async def test_a_step_lost_after_a_retry_had_taken_it_over_is_still_paid_once(
    opened: Callable[..., StepHouse], store: Store
) -> None:
    """The first charge keeps it, the second finds it gone, the third makes it again and fails, the fourth completes."""
    house = opened(
        lambda asked: ContentRejected("No.") if asked.step == 2 and asked.charge in (1, 3) else None
    )
    task_id = house.order("portrait", prompt="a cat")
    await house.live(task_id)
    assert store.entries(task_id)[-1] == (1, "refund", PRICE - 5)
    lose_results(store, house, task_id, 1)
    for paid in (5, 5, PRICE):
        house.retry(task_id)
        await house.live(task_id)
        assert -sum(amount for _, _, amount in store.entries(task_id)) == paid
    assert [(each.charge, each.step) for each in house.asked] == [
        (1, 0), (1, 1), (1, 2), (3, 1), (3, 2), (4, 2)
    ]  # fmt: skip
    assert store.task(task_id)["status"] == "completed"
    assert -sum(amount for _, _, amount in store.entries(task_id)) == PRICE
    store.balance()


async def test_of_a_list_of_which_one_file_is_lost_the_others_are_made(
    opened: Callable[..., StepHouse], store: Store
) -> None:
    house = opened()
    task_id = house.order("portrait", count=3)
    await house.live(task_id, until="ai_processing")
    await house.live(task_id, until="pending")
    assert store.task(task_id)["step"] == 2
    key = store.value("SELECT key FROM result_file WHERE task_id = ? AND step = 1 AND n = 1", task_id)
    (Path(house.settings.data_dir) / "files" / key).unlink()
    await house.live(task_id)
    assert (store.task(task_id)["status"], store.task(task_id)["missing"]) == ("completed", 1)
    assert store.entries(task_id) == [(1, "debit", -3 * PRICE), (1, "refund", PRICE)]


async def test_a_claim_from_a_dispatcher_that_knows_no_steps_yet_is_given_back(
    opened: Callable[..., StepHouse], store: Store
) -> None:
    house = opened(steps=[])
    task_id = house.order("portrait")
    before = store.settings
    house.change(steps=[Step(**each) for each in STEPS])
    store.settings = before
    await house._turn(house._worker(0, after=False))
    row = store.task(task_id)
    assert (row["status"], row["attempt"], row["failures"]) == ("pending", 1, 0) and house.asked == []
    store.settings = house.settings
    house.clock.advance(AGAIN_SECONDS)
    store.write(dispatching.ripen)
    await house.live(task_id)
    assert [each.step for each in house.asked] == [0, 1, 2]


@pytest.mark.parametrize(
    ("step", "paid", "kept"),
    [(0, 5, 2), (1, 5, 0), (1, 3, 2), (1, 2, 3), (2, 5, 4)],
    ids=["not lost", "paid", "paid in part", "not paid in fact", "never made"],
)
def test_a_step_made_again_is_kept_less_by_what_was_paid_for_it_in_fact(
    step: int, paid: int, kept: int
) -> None:
    resumed = Resumed(1, 2, {1: 3})
    assert resumed.kept_again(step, [2, 3, 4][step], paid) == kept


async def test_each_step_of_a_task_is_counted_under_its_name(
    opened: Callable[..., StepHouse], store: Store
) -> None:
    house = opened()
    await house.live(house.order("portrait"))
    counted = store.database.read(counters.read_all)
    for step in STEPS:
        labels = json.dumps(
            {"outcome": "completed", "step": step["name"], "type": "portrait"}, separators=(",", ":")
        )
        times = counted[("darkroom_step_run_seconds", labels)]
        assert len(times) == 2 and sum(times.values()) == 1 + times["sum"], "one bucket, and the sum"
