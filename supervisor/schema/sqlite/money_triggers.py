"""Money on SQLite: refunds of the step that ends a task, and the ledger that moves balances.

PostgreSQL's are in the file of the same name there.
"""

from __future__ import annotations

from supervisor.schema.shared import part_refund_amount
from supervisor.schema.sqlite.refusing import refuse_first

_ACCOUNT_MAY_NOT = [
    ("(NEW.seq >= OLD.seq OR NEW.epoch <> OLD.epoch) IS NOT TRUE", "seq of an account never falls"),
    ("NEW.user_openid IS NOT OLD.user_openid", "user_openid of an account can not change"),
    (
        "NEW.balance IS NOT OLD.balance AND NOT EXISTS"
        " (SELECT 1 FROM credit_entry WHERE id = (SELECT max(id) FROM credit_entry)"
        " AND user_openid = NEW.user_openid AND amount = NEW.balance - OLD.balance)",
        "balance of an account is moved by an entry in the ledger alone",
    ),
]
_ENTRY_MAY_NOT = [
    (
        "NEW.id > 0 AND EXISTS (SELECT 1 FROM credit_entry WHERE id = NEW.id)",
        "a credit entry with this id exists already",
    ),
    ("typeof(NEW.amount) <> 'integer'", "amount must be a whole number"),
    (
        "NOT EXISTS (SELECT 1 FROM account WHERE user_openid = NEW.user_openid)",
        "the user has no account",
    ),
    (
        "(SELECT balance FROM account WHERE user_openid = NEW.user_openid) + NEW.amount < 0",
        "insufficient credits",
    ),
    (
        "NEW.kind <> 'grant' AND (NEW.task_id IS NULL OR NEW.charge IS NULL)",
        "debits and refunds name their task and charge",
    ),
    (
        "EXISTS (SELECT 1 FROM credit_entry"
        " WHERE task_id = NEW.task_id AND charge = NEW.charge AND kind = NEW.kind)",
        "this charge of the task has such an entry already",
    ),
    (
        "NEW.reference IS NOT NULL AND CASE NEW.reference"
        " WHEN 'signup' THEN EXISTS (SELECT 1 FROM credit_entry"
        " WHERE user_openid = NEW.user_openid AND reference = 'signup')"
        " ELSE EXISTS (SELECT 1 FROM credit_entry WHERE reference = NEW.reference"
        " AND reference IS NOT NULL AND reference <> 'signup') END",
        "this grant was made already",
    ),
    (
        "NEW.kind = 'refund' AND NOT EXISTS"
        " (SELECT 1 FROM credit_entry WHERE task_id = NEW.task_id AND charge = NEW.charge AND kind = 'debit'"
        " AND user_openid = NEW.user_openid AND -amount >= NEW.amount)",
        "a refund needs a debit of the same user, task and charge, and is never above it",
    ),
]


def refunds() -> dict[str, str]:
    """A task that fails or is cancelled gives its debit back, less what finished steps keep; a completed one that of
    its missing pictures."""
    return {
        "task_queue_refunded": """AFTER UPDATE OF status ON task_queue
        WHEN NEW.status IN ('failed','cancelled') AND OLD.status <> NEW.status BEGIN
        INSERT INTO credit_entry (user_openid, task_id, charge, kind, amount)
            SELECT NEW.user_openid, NEW.id, NEW.charge, 'refund', -debit.amount - NEW.kept
            FROM credit_entry AS debit
            WHERE debit.task_id = NEW.id AND debit.charge = NEW.charge AND debit.kind = 'debit'
              AND -debit.amount > NEW.kept
              AND NOT EXISTS (SELECT 1 FROM credit_entry WHERE task_id = NEW.id AND charge = NEW.charge
                              AND kind = 'refund');
    END""",
        "task_queue_partly_refunded": f"""AFTER UPDATE OF status ON task_queue
        WHEN NEW.status = 'completed' AND OLD.status <> 'completed' AND NEW.missing > 0 BEGIN
        INSERT INTO credit_entry (user_openid, task_id, charge, kind, amount)
            SELECT NEW.user_openid, NEW.id, NEW.charge, 'refund', {part_refund_amount.back("NEW")}
            FROM credit_entry AS debit
            WHERE debit.task_id = NEW.id AND debit.charge = NEW.charge AND debit.kind = 'debit'
              AND {part_refund_amount.is_some("NEW")};
    END""",
    }


def ledger() -> dict[str, str]:
    """Accounts and the ledger: entries are appended only, and they alone move a balance."""
    return {
        "account_opened": """AFTER INSERT ON account BEGIN
        SELECT RAISE(ABORT, 'an account opens with nothing: balance and seq are moved by triggers')
            WHERE NEW.balance <> 0 OR NEW.seq <> 0;
        INSERT INTO credit_entry (user_openid, kind, amount, reference)
            SELECT NEW.user_openid, 'grant', signup_grant, 'signup' FROM rule WHERE signup_grant > 0;
    END""",
        "account_unique": """BEFORE INSERT ON account WHEN EXISTS
        (SELECT 1 FROM account WHERE user_openid = NEW.user_openid) BEGIN
        SELECT RAISE(ABORT, 'this user has an account already');
    END""",
        "account_kept": """BEFORE DELETE ON account BEGIN
        SELECT RAISE(ABORT, 'an account can not be deleted: the ledger refers to it');
    END""",
        "account_guard": f"""BEFORE UPDATE ON account BEGIN
        {refuse_first(_ACCOUNT_MAY_NOT)}
    END""",
        "credit_entry_guard": f"""BEFORE INSERT ON credit_entry BEGIN
        {refuse_first(_ENTRY_MAY_NOT)}
    END""",
        "credit_entry_booked": """AFTER INSERT ON credit_entry BEGIN
        SELECT RAISE(ABORT, 'the ledger is append-only: an entry''s id is above all others')
            WHERE NEW.id < 1 OR NEW.id < (SELECT max(id) FROM credit_entry);
        UPDATE account SET balance = balance + NEW.amount WHERE user_openid = NEW.user_openid;
    END""",
        # Counted here, because counting the ledger's rows would read all of them.  No upsert, because the outer
        # statement's conflict clause would override its own.
        "credit_entry_refund_counted": """AFTER INSERT ON credit_entry WHEN NEW.kind = 'refund' BEGIN
        INSERT INTO metric (name) SELECT 'darkroom_refunds_total'
            WHERE NOT EXISTS (SELECT 1 FROM metric WHERE name = 'darkroom_refunds_total');
        UPDATE metric SET value = value + 1 WHERE name = 'darkroom_refunds_total';
    END""",
        "credit_entry_counted": """AFTER INSERT ON credit_entry BEGIN
        INSERT INTO metric (name, labels) SELECT 'darkroom_credits_total', json_object('kind', NEW.kind)
            WHERE NOT EXISTS (SELECT 1 FROM metric
                WHERE name = 'darkroom_credits_total' AND labels = json_object('kind', NEW.kind));
        UPDATE metric SET value = value + abs(NEW.amount)
            WHERE name = 'darkroom_credits_total' AND labels = json_object('kind', NEW.kind);
    END""",
        "credit_entry_unchangeable": """BEFORE UPDATE ON credit_entry BEGIN
        SELECT RAISE(ABORT, 'the ledger is append-only');
    END""",
        "credit_entry_kept": """BEFORE DELETE ON credit_entry BEGIN
        SELECT RAISE(ABORT, 'the ledger is append-only');
    END""",
    }
