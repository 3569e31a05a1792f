"""The order in which waiting tasks run: turns, priorities, no starvation."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.fair_order import Place, Waiting, pick, turn_of_new_task
from supervisor.core.placement import Placement, Room
from supervisor.store.tasks import claims, user_actions
from tests.conftest import Store

UNLIMITED = 1 << 30


def _no_limit(_: str) -> int:
    return UNLIMITED


def _anywhere(slots: int) -> Placement:
    return Placement([Room("w", slots)], {})


class Queue:
    """The pure order as the store uses it, in memory."""

    def __init__(self) -> None:
        self.clock: dict[int, int] = defaultdict(int)
        self.waiting: list[Waiting] = []
        self._made = 0

    def add(self, user: str, priority: int = 0) -> Waiting:
        mine = [
            -w.place.negated_priority == priority and w.place.turn for w in self.waiting if w.user == user
        ]
        turns = [turn for turn in mine if turn is not False]
        turn = turn_of_new_task(self.clock[priority], max(turns) if turns else None)
        self._made += 1
        waiting = Waiting(Place(-priority, turn, f"{self._made:09}", f"t{self._made}"), user, "photography")
        self.waiting.append(waiting)
        return waiting

    def take(self, count: int = 1) -> list[Waiting]:
        picked = pick(
            [sorted(self.waiting)], _anywhere(count), room_of_user=_no_limit, room_of_type=_no_limit
        )
        taken = [waiting for waiting, _ in picked]
        for each in taken:
            self.waiting.remove(each)
            priority = -each.place.negated_priority
            self.clock[priority] = max(self.clock[priority], each.place.turn)
        return taken


def test_a_users_many_tasks_take_turns_with_the_others_few() -> None:
    queue = Queue()
    for _ in range(1000):
        queue.add("many")
    queue.add("few")
    queue.add("other")
    assert {each.user for each in queue.take(3)} == {"many", "few", "other"}


def test_a_late_user_joins_the_round_in_progress() -> None:
    queue = Queue()
    for _ in range(100):
        queue.add("many")
    queue.take(50)
    queue.add("late")
    assert "late" in {each.user for each in queue.take(2)}


def test_priority_goes_before_turn_and_turn_before_age() -> None:
    queue = Queue()
    first, second = queue.add("a"), queue.add("a")
    urgent, low = queue.add("b", priority=1), queue.add("c", priority=-1)
    other = queue.add("d")
    assert queue.take(5) == [urgent, first, other, second, low]


@given(st.lists(st.sampled_from("abc"), max_size=60), st.integers(1, 4))
def test_no_task_starves_while_others_keep_coming(comers: list[str], each_time: int) -> None:
    """A task admitted now is overtaken by at most one task of each user that arrives after it."""
    queue = Queue()
    for _ in range(5):
        queue.add("crowd")
    mine = queue.add("me")
    overtakers: dict[str, int] = defaultdict(int)
    present = set(queue.waiting)
    for user in [*comers, *["d"] * 60]:
        queue.add(user)
        for taken in queue.take(each_time):
            if taken == mine:
                assert all(count <= 1 for count in overtakers.values()), overtakers
                return
            if taken not in present:
                overtakers[taken.user] += 1
    raise AssertionError("never served")


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from(["x", "y"]), st.integers(-2, 2)), max_size=40
    ),
    st.integers(0, 20),
    st.dictionaries(st.sampled_from("abcd"), st.integers(0, 5)),
    st.dictionaries(st.sampled_from(["x", "y"]), st.integers(0, 5)),
)
def test_a_pick_keeps_every_limit_and_leaves_nothing_that_fits(
    tasks_: list[tuple[str, str, int]], free: int, users: dict[str, int], types: dict[str, int]
) -> None:
    heads: dict[str, list[Waiting]] = defaultdict(list)
    for n, (user, type_, priority) in enumerate(tasks_):
        heads[type_].append(Waiting(Place(-priority, n % 5, f"{n:03}", f"t{n}"), user, type_))
    everything = sorted(each for head in heads.values() for each in head)
    picked = [
        waiting
        for waiting, _ in pick(
            [sorted(head) for head in heads.values()],
            _anywhere(free),
            room_of_user=lambda user: users.get(user, UNLIMITED),
            room_of_type=lambda type_: types.get(type_, UNLIMITED),
        )
    ]
    assert picked == sorted(picked) and len(picked) == len(set(picked)) <= free
    expected: list[Waiting] = []
    for each in everything:  # the definition: in order, each task that still fits
        fits_user = sum(p.user == each.user for p in expected) < users.get(each.user, UNLIMITED)
        fits_type = sum(p.type == each.type for p in expected) < types.get(each.type, UNLIMITED)
        if len(expected) < free and fits_user and fits_type:
            expected.append(each)
    assert picked == expected


def test_rooms_are_asked_once_for_each_user_and_type() -> None:
    """Each answer counts rows: asked for every task, a user's long queue would cost its square."""
    asked: list[str] = []

    def room(key: str) -> int:
        asked.append(key)
        return 1

    queue = [Waiting(Place(0, n, "", f"t{n}"), f"u{n % 3}", "photography") for n in range(300)]
    list(
        pick(
            [queue],
            _anywhere(300),
            room_of_user=room,
            room_of_type=lambda key: asked.append(key) or UNLIMITED,
        )
    )
    assert sorted(asked) == ["photography", "u0", "u1", "u2"]


# --- the same in the store ---


def _insert(producer: sqlite3.Connection, user: str, count: int, priority: int = 0) -> None:
    producer.execute(
        """WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
            INSERT INTO task_queue (user_openid, type, params, priority)
            SELECT ?, 'photography', '{"images":["https://example.org/p.jpg"]}', ? FROM n""",
        (count, user, priority),
    )


def test_the_store_gives_turns_at_admission(store: Store, producer: sqlite3.Connection) -> None:
    _insert(producer, "many", 5)
    _insert(producer, "few", 2)
    store.admit_waiting()
    rows = store.all("SELECT user_openid AS user, turn FROM task_queue ORDER BY user_openid, turn")
    assert [(row["user"], row["turn"]) for row in rows] == [
        ("few", 0), ("few", 1), ("many", 0), ("many", 1), ("many", 2), ("many", 3), ("many", 4)
    ]  # fmt: skip


def test_the_pick_takes_turns_and_moves_the_clock(
    store: Store, producer: sqlite3.Connection, live_worker: Callable[..., str]
) -> None:
    live_worker(slots=6)
    _insert(producer, "many", 20)
    _insert(producer, "few", 1)
    _insert(producer, "low", 1, priority=-1)
    store.admit_waiting()
    users = [store.task(hint.task_id)["user_openid"] for hint in store.dispatch()]
    assert sorted(users) == ["few", "low", *["many"] * 4]  # four is what one user may run at once
    assert users.index("few") <= 1 and users[-1] == "low"
    assert store.value("SELECT turn FROM fair_clock WHERE priority = 0") == max(
        row["turn"] for row in store.all("SELECT turn FROM task_queue WHERE worker_id IS NOT NULL")
    )
    _insert(producer, "late", 1)
    store.admit_waiting()
    (late,) = store.all("SELECT turn FROM task_queue WHERE user_openid = 'late'")
    assert late["turn"] == store.value("SELECT turn FROM fair_clock WHERE priority = 0") > 0


def test_a_retry_keeps_its_turn_and_a_resubmission_takes_a_new_one(
    store: Store, claimed_task: Callable[..., claims.Claim], producer: sqlite3.Connection
) -> None:
    claim = claimed_task("a")
    _insert(producer, "a", 3)
    store.admit_waiting()
    store.write(lambda tx: claims.retry(tx, claim.task_id, claim.lease, 0.0))
    assert store.task(claim.task_id)["turn"] == 0
    store.write(lambda tx: user_actions.cancel(tx, claim.task_id))
    store.write(lambda tx: user_actions.resubmit(tx, store.settings, claim.task_id))
    assert store.task(claim.task_id)["turn"] == 4
