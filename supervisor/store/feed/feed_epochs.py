"""New epochs after a backup was restored, so that clients' old event ids are not mistaken for new ones.

A feed's event ids are epoch and seq.  Seqs from after the backup will be used again for other changes.  So every user
gets a new epoch, and a client that resumes with an old one is sent a `reset` (CORRECTNESS 30).
"""

from __future__ import annotations

from supervisor.database.interface.database import Transaction


def renew_epochs(tx: Transaction) -> int:
    """Give every user a new epoch; how many users there are."""
    return tx.run(f"UPDATE account SET epoch = {tx.dialect.new_epoch}")
