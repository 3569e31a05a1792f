"""Pauses by operators.  Tasks of a paused type are not picked; a paused provider is sent no new request.

Running tasks go on, and so do remote jobs that a service has accepted: they are paid for.  The rows are in the
database, so they hold on every host; a trigger wakes the dispatcher when one is added or deleted.
"""

from __future__ import annotations

from supervisor.database.interface.database import PendingResult, Row, Transaction

TYPE, PROVIDER = "type", "provider"
KINDS = (TYPE, PROVIDER)


def ask_names(tx: Transaction, kind: str) -> PendingResult:
    """Ask for the paused types, or the paused providers."""
    return tx.ask("SELECT name FROM pause WHERE kind = :kind", kind=kind)


def names(tx: Transaction, kind: str, asked: PendingResult | None = None) -> set[str]:
    """The paused types, or the paused providers.  asked: `ask_names`, if asked already."""
    return {row["name"] for row in (asked or ask_names(tx, kind)).all()}


def is_paused(tx: Transaction, kind: str, name: str) -> bool:
    """Whether this one is paused."""
    return (
        tx.value("SELECT 1 FROM pause WHERE kind = :kind AND name = :name", kind=kind, name=name) is not None
    )


def all_rows(tx: Transaction) -> list[Row]:
    """Every pause: kind, name, operator, reason, at."""
    return tx.all("SELECT kind, name, operator, reason, at FROM pause ORDER BY kind, name")


def pause(tx: Transaction, kind: str, name: str, operator: str, reason: str) -> bool:
    """Pause it; False, without a change, if it is paused already."""
    return (
        tx.run(
            f"""INSERT INTO pause (kind, name, operator, reason, at) VALUES (:kind, :name, :operator, :reason, {tx.now})
                ON CONFLICT (kind, name) DO NOTHING""",
            kind=kind, name=name, operator=operator, reason=reason,
        )
        == 1
    )  # fmt: skip


def resume(tx: Transaction, kind: str, name: str) -> bool:
    """End its pause; False if it was not paused."""
    return tx.run("DELETE FROM pause WHERE kind = :kind AND name = :name", kind=kind, name=name) == 1
