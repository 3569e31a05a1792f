"""What all hosts must agree on about an AI service: its circuit breaker, its bucket of requests, its open jobs.

`take_room` is asked before each paid request leaves, `note` is told how it ended, and `rooms` tells the pick how many
tasks of each type their providers would take now, so that a full or broken service costs no claims.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Container

from config.settings import Settings
from config.task_type import TaskType
from config.values import ProviderLimits
from supervisor.core.errors import ProviderFull, ProviderIsDown, ProviderTooFast
from supervisor.database.interface.database import PendingResult, Transaction
from supervisor.remote.breaker import MOST_SECONDS, Breaker, Sign, after, open_seconds
from supervisor.store.limits import pauses
from supervisor.store.sql.rows import encoded

UNLIMITED = 1 << 30
MOST_REASON_CHARACTERS = 300
PAUSED_SECONDS = 30.0  # until a task that a pause has met asks again


@dataclasses.dataclass(frozen=True)
class Change:
    """A breaker that has moved."""

    before: Breaker
    now: Breaker
    open_seconds: float


def take_room(tx: Transaction, name: str, limits: ProviderLimits, *, probe_seconds: float) -> int | None:
    """One of the provider's places and one of its tokens; the number of the probe that this request is, or None.

    probe_seconds: when another probe may leave, should nobody hear how this one ended.
    Raises ProviderIsDown, ProviderFull, ProviderTooFast: nothing is taken then, once the step is rolled back.
    """
    probe = _pass_the_breaker(tx, name, probe_seconds)
    _take_token(tx, name, limits)
    return probe


def _pass_the_breaker(tx: Transaction, name: str, probe_seconds: float) -> int | None:
    if pauses.is_paused(tx, pauses.PROVIDER, name):
        raise ProviderIsDown(name, PAUSED_SECONDS)
    state = tx.one(
        f"SELECT breaker, {tx.seconds_between(tx.now, 'until')} AS wait FROM provider_state WHERE name = :name",
        name=name,
    )
    if state is None or state["breaker"] == "closed":
        return None
    probe: int | None = tx.value(
        f"""UPDATE provider_state SET probe_lease = coalesce(probe_lease, 0) + 1,
            until = {tx.in_seconds(":probe_seconds")},
            moved_at = {tx.now}
            WHERE name = :name AND breaker = 'open' AND until <= {tx.now} RETURNING probe_lease""",
        probe_seconds=probe_seconds, name=name,
    )  # fmt: skip
    if probe is None:
        raise ProviderIsDown(name, max(0.0, state["wait"] or 0.0))
    return probe


def _take_token(tx: Transaction, name: str, limits: ProviderLimits) -> None:
    """The bucket holds a second's worth of requests and fills at `rps`; the UPDATE comes first: it locks the row."""
    if not limits.rps and not limits.concurrency:
        return
    most = max(1.0, limits.rps)
    tx.execute(
        "INSERT INTO provider_state (name, tokens) VALUES (:name, :most) ON CONFLICT DO NOTHING",
        name=name,
        most=most,
    )
    tokens = tx.value(
        f"""UPDATE provider_state SET refilled_at = {tx.now}, tokens = {_refilled(tx)}
            WHERE name = :name RETURNING tokens""",
        most=most, rps=limits.rps, name=name,
    )  # fmt: skip
    if limits.concurrency and count_open(tx, name) >= limits.concurrency:
        raise ProviderFull(name, limits.concurrency)
    if limits.rps:
        if tokens < 1:
            raise ProviderTooFast(name, limits.rps, (1 - tokens) / limits.rps)
        tx.execute("UPDATE provider_state SET tokens = tokens - 1 WHERE name = :name", name=name)


def _refilled(tx: Transaction) -> str:
    """SQL for the tokens there are now, given `:most`, which the bucket holds, and `:rps`, which come in a second."""
    passed = tx.greatest("0.0", tx.seconds_since("refilled_at"))
    return tx.least("CAST(:most AS REAL)", f"tokens + CAST(:rps AS REAL) * {passed}")


def note(
    tx: Transaction,
    name: str,
    sign: Sign,
    *,
    probe: int | None,
    wait_seconds: float,
    most_seconds: float = MOST_SECONDS,
    reason: str = "",
) -> Change | None:
    """A request to the provider has ended so; the change when its breaker opened, opened again or closed.

    probe: the request's number as a probe, if it was one.  wait_seconds: how long to keep away at least, most_seconds:
    after many openings.  reason: what was wrong with it.
    """
    if sign is Sign.WELL and probe is None:  # the rule: no row is locked for it
        tx.execute(
            """UPDATE provider_state SET troubles = 0, reason = ''
                WHERE name = :name AND breaker = 'closed' AND troubles > 0""",
            name=name,
        )
        return None
    tx.execute("INSERT INTO provider_state (name) VALUES (:name) ON CONFLICT DO NOTHING", name=name)
    row = tx.one(
        f"SELECT breaker, openings, troubles, probe_lease FROM provider_state WHERE name = :name {tx.for_update}",
        name=name,
    )
    assert row is not None
    before = Breaker(row["breaker"] == "open", row["openings"], row["troubles"])
    now = after(before, sign, is_probe=probe is not None and probe == row["probe_lease"])
    if now == before:
        return None
    seconds = open_seconds(now.openings, wait_seconds, most_seconds) if now.is_open else 0.0
    tx.execute(
        f"""UPDATE provider_state SET breaker = :breaker, openings = :openings, troubles = :troubles,
            until = CASE WHEN :is_open = 1 THEN {tx.in_seconds(":seconds")} END, moved_at = {tx.now},
            opened_at = CASE WHEN :is_open = 1 THEN CASE WHEN breaker = 'open' THEN opened_at ELSE {tx.now} END END,
            reason = :reason WHERE name = :name""",
        breaker="open" if now.is_open else "closed", openings=now.openings, troubles=now.troubles,
        is_open=int(now.is_open), seconds=seconds, name=name,
        reason="" if now == Breaker() else reason[:MOST_REASON_CHARACTERS],
    )  # fmt: skip
    moved = now.is_open or before.is_open
    return Change(before, now, seconds) if moved else None


def count_open(tx: Transaction, name: str) -> int:
    """How many of a provider's jobs are on their way or waiting."""
    return int(
        tx.value(
            "SELECT count(*) FROM remote_job WHERE provider = :name AND state IN ('submitting','waiting')",
            name=name,
        )
    )


def ask_breakers(tx: Transaction) -> PendingResult:
    """Ask for the breakers that are not closed."""
    return tx.ask(
        f"""SELECT name, CASE WHEN until <= {tx.now} THEN 1 ELSE 0 END AS may_probe
            FROM provider_state WHERE breaker = 'open'"""
    )


def breakers(tx: Transaction, asked: PendingResult | None = None) -> dict[str, str]:
    """{provider: 'open', or 'half_open' when its next request is a probe, or one is out}; closed ones are left out.

    asked: `ask_breakers`, if asked already.
    """
    rows = (asked or ask_breakers(tx)).all()
    return {row["name"]: "half_open" if row["may_probe"] else "open" for row in rows}


def ask_down(tx: Transaction) -> tuple[PendingResult, PendingResult]:
    """Ask which providers are down or paused."""
    return ask_breakers(tx), pauses.ask_names(tx, pauses.PROVIDER)


def rooms(
    tx: Transaction, settings: Settings, asked: tuple[PendingResult, PendingResult] | None = None
) -> dict[str, int]:
    """{type: how many more tasks its providers would take now}; a type without limits and troubles is left out.

    asked: `ask_down`, if asked already.
    """
    breakers_asked, pauses_asked = asked or ask_down(tx)
    paused = pauses.names(tx, pauses.PROVIDER, pauses_asked)
    down = breakers(tx, breakers_asked) | dict.fromkeys(paused, "open")
    bounded = down.keys() | {
        name for name, of in settings.providers.items() if of.limits.rps or of.limits.concurrency
    }
    if not bounded:
        return {}
    room = functools.cache(
        lambda name: _room_of_provider(tx, settings, name, down.get(name)) if name in bounded else UNLIMITED
    )
    return {
        type_: _room_of_type(task_type, down, room)
        for type_, task_type in settings.tasks.items()
        if not bounded.isdisjoint(task_type.all_providers)
    }


def _room_of_type(task_type: TaskType, down: Container[str], room: Callable[[str], int]) -> int:
    """Along its chain until the first that is up; a probe takes one more.  Providers that a task may name count too."""
    chain = list(task_type.chain)
    is_up = [name not in down for name in chain]
    asked = chain[: is_up.index(True) + 1] if any(is_up) else chain
    named = [name for name in task_type.allow_providers if name not in chain]
    return sum(room(name) for name in (*asked, *named))


def _room_of_provider(tx: Transaction, settings: Settings, name: str, breaker: str | None) -> int:
    """What it would take beside the tasks that are on their way to it and have not asked it yet."""
    if breaker == "open":
        return 0
    coming = _coming(tx, [type_ for type_, of in settings.tasks.items() if of.provider == name])
    if breaker == "half_open":
        return max(0, 1 - coming)
    limits, room = settings.providers[name].limits, UNLIMITED
    if limits.concurrency:
        room = min(room, limits.concurrency - count_open(tx, name) - coming)
    if limits.rps:
        most = max(1.0, limits.rps)
        tokens = tx.value(
            f"SELECT {_refilled(tx)} FROM provider_state WHERE name = :name",
            most=most,
            rps=limits.rps,
            name=name,
        )
        room = min(room, int(most if tokens is None else tokens) - coming)
    return max(0, room)


def _coming(tx: Transaction, types: list[str]) -> int:
    """Tasks of these types that are claimed and without an open request."""
    if not types:
        return 0
    # The first condition names the partial index, which the planner does not see to be implied by the second.
    claimed = tx.value(
        f"""SELECT count(*) FROM task_queue WHERE status IN ('processing','ai_processing')
            AND worker_id IS NOT NULL AND status = 'processing' AND type || '' IN {tx.each_of(":types")}
            AND NOT EXISTS (SELECT 1 FROM remote_job WHERE remote_job.task_id = task_queue.id
                AND remote_job.charge = task_queue.charge AND remote_job.state IN ('submitting','waiting'))""",
        types=encoded(types),
    )
    return int(claimed)
