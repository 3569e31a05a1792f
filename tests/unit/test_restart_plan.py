"""The restart plan: whole histories of deaths and stops, by a clock that the test moves."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.processes.restart_plan import (
    Budget,
    ChildSpec,
    GiveUp,
    Kill,
    Phase,
    Plan,
    Spawn,
    Terminate,
    decide,
    new_plan,
    next_moment,
    note_exit,
    note_ready,
    note_stop,
)

SIGKILLED = -signal.SIGKILL


def plan_of(*specs: ChildSpec) -> Plan:
    return new_plan(list(specs))


def running_plan(*specs: ChildSpec, now: float = 0.0) -> Plan:
    """Everything started and ready."""
    plan = plan_of(*specs)
    for _ in specs:
        plan, acts = decide(plan, now)
        for act in acts:
            plan = note_ready(plan, act.name, now)
    assert plan.all_ready
    return plan


def die(plan: Plan, name: str, now: float, status: int = 1):
    return decide(note_exit(plan, name, status, now), now)


def test_a_rank_starts_when_all_awaited_below_it_are_ready():
    plan = plan_of(ChildSpec("web", rank=1), ChildSpec("broker", rank=0), ChildSpec("cron", rank=2))
    plan, acts = decide(plan, 0)
    assert acts == (Spawn("broker"),)
    plan, acts = decide(note_ready(plan, "broker", 1), 1)
    assert acts == (Spawn("web"),)
    plan, acts = decide(plan, 2)
    assert acts == ()
    plan, acts = decide(note_ready(plan, "web", 3), 3)
    assert acts == (Spawn("cron"),)


def test_a_start_does_not_wait_for_a_child_that_is_not_awaited():
    plan = plan_of(ChildSpec("worker", rank=0, awaited=False), ChildSpec("web", rank=1))
    assert decide(plan, 0)[1] == (Spawn("worker"), Spawn("web"))


def test_a_child_that_lived_a_while_is_restarted_at_once():
    plan, acts = die(running_plan(ChildSpec("web")), "web", now=10)
    assert acts == (Spawn("web"),)
    assert plan.child("web").restarts == 1


def test_a_dead_broker_does_not_hold_up_the_restart_of_others():
    plan = running_plan(ChildSpec("broker"), ChildSpec("web", rank=1, awaited=False))
    plan, _ = die(plan, "broker", now=10)
    assert die(plan, "web", now=10)[1] == (Spawn("web"),)


def test_short_lives_wait_longer_each_time_up_to_a_ceiling():
    plan, now, waits = running_plan(ChildSpec("web", own=None, any_kind=None)), 0.0, []
    for _ in range(9):
        plan, acts = die(plan, "web", now)
        assert acts == ()
        moment = next_moment(plan)
        waits.append(round(moment - now, 3))
        now = moment
        plan, acts = decide(plan, now)
        assert acts == (Spawn("web"),)
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


def test_a_crash_loop_gives_up_with_a_sentence_and_stops_the_rest():
    plan = running_plan(ChildSpec("broker"), ChildSpec("web", rank=1, own=Budget(3, 30)))
    for n in range(3):
        plan, acts = die(plan, "web", now=3.0 * n + 3, status=2)
        assert acts == (Spawn("web"),)
    plan, acts = die(plan, "web", now=12, status=2)
    assert acts[0] == GiveUp(
        "web ended 4 times within 30 s (last: exit status 2), so everything is stopped; its own messages above say why."
    )
    assert acts[1:] == (Terminate("broker"),)
    plan, acts = decide(note_exit(plan, "broker", 0, 13), 13)
    assert acts == () and plan.over and plan.gave_up


def test_deaths_that_are_far_apart_are_no_loop():
    plan = running_plan(ChildSpec("web", own=Budget(3, 30)))
    for n in range(100):
        plan, acts = die(plan, "web", now=11.0 * n + 11)
        assert acts == (Spawn("web"),)
    assert len(plan.child("web").deaths) <= 6


def test_a_part_killed_again_and_again_from_outside_is_not_blamed():
    plan = running_plan(ChildSpec("worker", own=Budget(3, 30), any_kind=Budget(60, 60)))
    for n in range(300):
        plan, acts = die(plan, "worker", now=2.0 * n + 2, status=SIGKILLED)
        assert acts == (Spawn("worker"),)


def test_even_kills_are_too_many_at_some_point():
    plan, now = running_plan(ChildSpec("worker", any_kind=Budget(60, 60))), 0.0
    for _ in range(61):
        plan, acts = die(plan, "worker", now, status=SIGKILLED)
        now = next_moment(plan) or now
        plan, _ = decide(plan, now)
    assert any(isinstance(act, GiveUp) for act in acts) and "signal SIGKILL" in plan.gave_up


def test_stops_go_in_reverse_order_of_starts():
    plan = running_plan(
        ChildSpec("broker"), ChildSpec("a", rank=1), ChildSpec("b", rank=1), ChildSpec("web", rank=2)
    )
    plan, acts = decide(note_stop(plan), 10)
    assert acts == (Terminate("web"),)
    plan, acts = die(plan, "web", 11, status=0)
    assert acts == (Terminate("a"), Terminate("b"))
    plan, acts = die(plan, "a", 12, status=0)
    assert acts == ()
    plan, acts = die(plan, "b", 13, status=0)
    assert acts == (Terminate("broker"),)
    plan, acts = die(plan, "broker", 14, status=0)
    assert acts == () and plan.over


def test_a_child_that_does_not_stop_within_its_grace_is_killed_once():
    plan = running_plan(ChildSpec("worker", grace_seconds=30))
    plan, _ = decide(note_stop(plan), 10)
    assert next_moment(plan) == 40
    assert decide(plan, 39.9)[1] == ()
    plan, acts = decide(plan, 40)
    assert acts == (Kill("worker"),)
    assert decide(plan, 80)[1] == ()


def test_the_second_stop_request_kills_all_children_at_once():
    plan = running_plan(ChildSpec("broker"), ChildSpec("worker", rank=1))
    plan, _ = decide(note_stop(plan), 10)
    plan, acts = decide(note_stop(plan), 10.1)
    assert acts == (Kill("broker"), Kill("worker"))


def test_a_waiting_child_is_not_started_any_more_after_a_stop():
    plan, _ = decide(note_exit(running_plan(ChildSpec("web")), "web", 1, 0.5), 0.5)
    plan, acts = decide(note_stop(plan), 0.55)
    assert acts == () and plan.over
    assert decide(plan, 100)[1] == ()


def test_names_are_unique():
    with pytest.raises(ValueError):
        plan_of(ChildSpec("web"), ChildSpec("web"))


NAMES = ["broker", "worker-1", "worker-2", "web"]
EVENTS = st.tuples(
    st.sampled_from(["exit", "ready", "stop", "tick"]),
    st.sampled_from(NAMES),
    st.sampled_from([0, 1, SIGKILLED, -signal.SIGSEGV]),
    st.floats(0, 5),
)


@given(st.lists(EVENTS, max_size=120))
def test_whatever_happens_the_plan_keeps_its_promises(history):
    """No child is started twice or while stopping, actions are never repeated, and a stop ends when all have ended."""
    plan = plan_of(*(ChildSpec(name, rank=min(n, 2), own=Budget(4, 30)) for n, name in enumerate(NAMES)))
    alive: set[str] = set()
    terminated: set[str] = set()
    now = 0.0
    for kind, name, status, passed in history:
        now += passed
        if kind == "exit" and name in alive:
            plan = note_exit(plan, name, status, now)
            alive.discard(name)
        elif kind == "ready":
            plan = note_ready(plan, name, now)
        elif kind == "stop":
            plan = note_stop(plan)
        plan, acts = decide(plan, now)
        assert decide(plan, now)[1] == ()
        for act in acts:
            if isinstance(act, Spawn):
                assert act.name not in alive and not plan.stopping
                alive.add(act.name)
            elif isinstance(act, Terminate):
                ranks = {plan.child(other).spec.rank for other in alive}
                assert plan.child(act.name).spec.rank == max(ranks)
                assert act.name not in terminated
                terminated.add(act.name)
            elif isinstance(act, Kill):
                assert act.name in alive
        assert {child.spec.name for child in plan.children if child.lives} == alive
        assert next_moment(plan) is None or next_moment(plan) > now
    plan = note_stop(replace(plan, hurried=True))
    plan, _ = decide(plan, now)
    for name in sorted(alive):
        plan = note_exit(plan, name, SIGKILLED, now)
    assert decide(plan, now)[0].over
    assert all(child.phase is Phase.STOPPED for child in decide(plan, now)[0].children)
