"""Pauses by operators.  Tasks of a paused type are not picked; a paused provider is sent no new request.

Running tasks go on, and so do remote jobs that a service has accepted: they are paid for.  The rows are in the
database, so they hold on every host; a trigger wakes the dispatcher when one is added or deleted.
"""

from __future__ import annotations

from supervisor.database.interface.database import Pending, Row, Transaction
from supervisor.schema.statements import NOW, Built, new_row, param
from supervisor.schema.tables import Pause

TYPE, PROVIDER = "type", "provider"
KINDS = (TYPE, PROVIDER)

_THIS = (Pause.kind == param("kind"), Pause.name == param("name"))
_NAMES = Built(Pause.select(Pause.name).where(Pause.kind == param("kind")))
_BOTH = Built(Pause.select(Pause.kind, Pause.name))
_NAMED = Built(Pause.select(Pause.name).where(*_THIS))
_ALL = Built(Pause.select().order_by(Pause.kind, Pause.name))
_PAUSE = Built(new_row(Pause, "kind", "name", "operator", "reason", at=NOW).on_conflict_ignore())
_RESUME = Built(Pause.delete().where(*_THIS))


def names(tx: Transaction, kind: str) -> Pending[set[str]]:
    """The paused types, or the paused providers."""
    asked = tx.ask(_NAMES, kind=kind)
    return Pending(lambda: {row["name"] for row in asked.all()})


def by_kind(tx: Transaction) -> Pending[dict[str, set[str]]]:
    """The names of both kinds, in one query."""
    asked = tx.ask(_BOTH)

    def answer() -> dict[str, set[str]]:
        rows = asked.all()
        return {kind: {row["name"] for row in rows if row["kind"] == kind} for kind in KINDS}

    return Pending(answer)


def is_paused(tx: Transaction, kind: str, name: str) -> bool:
    """Whether this one is paused."""
    return tx.value(_NAMED, kind=kind, name=name) is not None


def all_rows(tx: Transaction) -> list[Row]:
    """Every pause: kind, name, operator, reason, at."""
    return tx.all(_ALL)


def pause(tx: Transaction, kind: str, name: str, operator: str, reason: str) -> bool:
    """Pause it; False, without a change, if it is paused already."""
    return tx.run(_PAUSE, kind=kind, name=name, operator=operator, reason=reason) == 1


def resume(tx: Transaction, kind: str, name: str) -> bool:
    """End its pause; False if it was not paused."""
    return tx.run(_RESUME, kind=kind, name=name) == 1
