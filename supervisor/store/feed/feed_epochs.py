"""After a backup was restored: what readers hold of the lost time must not be taken for what happens from now on.

A feed's event ids are epoch and seq.  Seqs that were given out after the backup will be given out again for other
changes, so every user gets a new epoch, and whoever resumes with an old one is sent a `reset` (CORRECTNESS 30).
"""

from __future__ import annotations

from supervisor.database.interface.database import Transaction


def renew_epochs(tx: Transaction) -> int:
    """Give every user a new epoch; how many users there are."""
    return tx.run(f"UPDATE account SET epoch = {tx.dialect.new_epoch}")
