"""The state of an AI service that all hosts share: its circuit breaker, its bucket of requests, its open jobs.

`take_room` is called before each paid request is sent, and `note` after its end.  `rooms` gives the pick the number of
tasks of each type and step that its providers would take now, so that a full or broken service costs no claims.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Container, Sequence

from config.provider import ProviderLimits
from config.settings import Settings
from supervisor.core.errors import ProviderFull, ProviderIsDown, ProviderTooFast
from supervisor.database.interface.database import Pending, Transaction
from supervisor.remote.breaker import MOST_SECONDS, Breaker, Sign, after, open_seconds
from supervisor.schema.tables import HELD, UNSETTLED
from supervisor.steps.lanes import terms_of
from supervisor.store.limits import pauses

UNLIMITED = 1 << 30
MOST_REASON_CHARACTERS = 300
PAUSED_SECONDS = 30.0  # until a task that met a pause tries again


@dataclasses.dataclass(frozen=True)
class Change:
    """A breaker's change of state."""

    before: Breaker
    now: Breaker
    open_seconds: float


def take_room(tx: Transaction, name: str, limits: ProviderLimits, *, probe_seconds: float) -> int | None:
    """Take one of the provider's places and one of its tokens; if this request is a probe, its number, else None.

    probe_seconds: after this time another probe may be sent, if the end of this one is never recorded.
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
    """SQL for the present number of tokens.  `:most`: the size of the bucket; `:rps`: tokens added in a second."""
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
    """Record the end of a request to the provider; the change, if its breaker opened, opened again or closed.

    probe: the request's number as a probe, if it was one.  wait_seconds: the shortest wait for an open breaker,
    most_seconds: the wait after many openings.  reason: the error, as text.
    """
    if sign is Sign.WELL and probe is None:  # the usual case: no row is locked for it
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
    """How many jobs of a provider are being submitted or waiting."""
    return int(
        tx.value(
            f"SELECT count(*) FROM remote_job WHERE provider = :name AND {UNSETTLED}",
            name=name,
        )
    )


def _count_holding(tx: Transaction, name: str) -> int:
    """How many jobs of a provider hold room against the tasks that are to be started: all that are open, but those
    which the next attempt of their pending task goes on with."""
    return int(
        tx.value(
            f"""SELECT count(*) FROM remote_job WHERE provider = :name AND {UNSETTLED}
                AND NOT (state = 'waiting' AND EXISTS (SELECT 1 FROM task_queue WHERE task_queue.id = remote_job.task_id
                    AND task_queue.charge = remote_job.charge AND task_queue.status = 'pending'))""",
            name=name,
        )
    )


def breakers(tx: Transaction) -> Pending[dict[str, str]]:
    """{provider: 'open', or 'half_open' if its next request is a probe or a probe is under way}; closed ones are left
    out."""
    asked = tx.ask(
        f"""SELECT name, CASE WHEN until <= {tx.now} THEN 1 ELSE 0 END AS may_probe
            FROM provider_state WHERE breaker = 'open'"""
    )
    return Pending(lambda: {row["name"]: "half_open" if row["may_probe"] else "open" for row in asked.all()})


RoomOfLine = Callable[[str, str], int]


def rooms(tx: Transaction, settings: Settings, paused: Pending[dict[str, set[str]]]) -> Pending[RoomOfLine]:
    """A function of a type and the lane of a step: how many more of its tasks its providers would take now.

    paused: of `pauses.by_kind`.
    """
    open_ones = breakers(tx)

    def answer() -> RoomOfLine:
        return _rooms(tx, settings, open_ones.get() | dict.fromkeys(paused.get()[pauses.PROVIDER], "open"))

    return Pending(answer)


def _rooms(tx: Transaction, settings: Settings, down: dict[str, str]) -> RoomOfLine:
    bounded = down.keys() | {
        name for name, of in settings.providers.items() if of.limits.rps or of.limits.concurrency
    }
    coming = functools.cache(lambda: _coming(tx))
    room = functools.cache(
        lambda name: (
            _room_of_provider(tx, settings, name, down.get(name), coming) if name in bounded else UNLIMITED
        )
    )

    def room_of_line(type_: str, lane: str) -> int:
        chain: tuple[str, ...] = terms_of(settings, type_, lane).chain
        named = () if lane else settings.tasks[type_].allow_providers
        if bounded.isdisjoint((*chain, *named)):
            return UNLIMITED
        return _room_of_chain(chain, named, down, room)

    return functools.cache(room_of_line)


def _room_of_chain(
    chain: Sequence[str], named: Sequence[str], down: Container[str], room: Callable[[str], int]
) -> int:
    """Summed along the chain up to the first provider that is up; a probe takes one more.  Providers that a task may
    name count too."""
    is_up = [name not in down for name in chain]
    asked = chain[: is_up.index(True) + 1] if any(is_up) else chain
    return sum(room(name) for name in (*asked, *(name for name in named if name not in chain)))


def _room_of_provider(
    tx: Transaction,
    settings: Settings,
    name: str,
    breaker: str | None,
    coming_tasks: Callable[[], Sequence[tuple[str, str, int]]],
) -> int:
    """The number it would take besides the claimed tasks that have not sent their request yet.

    The job that a pending task has left, as after its worker's death, takes no room: its next attempt goes on with it.
    Nobody polls it before, so if such jobs filled the provider, no task of it would ever be started again.
    """
    if breaker == "open":
        return 0
    coming = sum(
        number
        for type_, lane, number in coming_tasks()
        if (lane or type_ in settings.tasks) and terms_of(settings, type_, lane).chain[0] == name
    )
    if breaker == "half_open":
        return max(0, 1 - coming)
    limits, room = settings.providers[name].limits, UNLIMITED
    if limits.concurrency:
        room = min(room, limits.concurrency - _count_holding(tx, name) - coming)
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


def _coming(tx: Transaction) -> list[tuple[str, str, int]]:
    """(type, lane, how many): claimed tasks without an open request."""
    rows = tx.all(
        f"""SELECT type || '' AS type, lane, count(*) AS claimed FROM task_queue WHERE {HELD} AND status = 'processing'
            AND NOT EXISTS (SELECT 1 FROM remote_job WHERE remote_job.task_id = task_queue.id
                AND remote_job.charge = task_queue.charge AND remote_job.step = task_queue.step
                AND remote_job.{UNSETTLED})
            GROUP BY type || '', lane"""
    )
    return [(row["type"], row["lane"], row["claimed"]) for row in rows]
