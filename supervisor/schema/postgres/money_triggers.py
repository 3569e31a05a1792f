"""Money on PostgreSQL: refunds of the step that ends a task, and the ledger that moves balances.

SQLite's are in the file of the same name there.
"""

from __future__ import annotations

from supervisor.schema.postgres.plpgsql import Trigger, refuse, refuse_if
from supervisor.schema.shared import part_refund_amount

_LINES = "\n    "
_NEW = "REFERENCING NEW TABLE AS new_rows"
# Each order says "open the accounts that are missing", and mostly none is: the trigger runs for no row too.
_IF_NONE = "IF NOT EXISTS (SELECT 1 FROM new_rows) THEN RETURN NULL; END IF;"


def refund(ended: str) -> str:
    """Tasks that failed or were cancelled give their debits back, less what finished steps keep.

    ended: a query of their id, user_openid, charge, kept.
    """
    return f"""INSERT INTO credit_entry (user_openid, task_id, charge, kind, amount)
            SELECT ended.user_openid, ended.id, ended.charge, 'refund', -debit.amount - ended.kept
            FROM {ended} AS ended
            JOIN credit_entry AS debit
              ON debit.task_id = ended.id AND debit.charge = ended.charge AND debit.kind = 'debit'
            WHERE -debit.amount > ended.kept
              AND NOT EXISTS (SELECT 1 FROM credit_entry AS refund WHERE refund.task_id = ended.id
                              AND refund.charge = ended.charge AND refund.kind = 'refund')
            ORDER BY ended.user_openid, ended.id;"""


def part_refund(ended: str) -> str:
    """Completed tasks give back the debits of their missing pictures.  ended: the same, with missing, picture_count."""
    return f"""INSERT INTO credit_entry (user_openid, task_id, charge, kind, amount)
            SELECT ended.user_openid, ended.id, ended.charge, 'refund',
                   {part_refund_amount.back("ended")}
            FROM {ended} AS ended
            JOIN credit_entry AS debit
              ON debit.task_id = ended.id AND debit.charge = ended.charge AND debit.kind = 'debit'
            WHERE {part_refund_amount.is_some("ended")}
            ORDER BY ended.user_openid, ended.id;"""


def bookings(lock_accounts: str) -> list[Trigger]:
    """Entries move balances; a new account has its grant.  lock_accounts: locks those of `new_rows` in order."""
    booked = f"""{_IF_NONE}
    IF (SELECT count(*) FROM (SELECT 1 FROM new_rows LIMIT 2) AS two) > 1 THEN
        {lock_accounts}
    END IF;
    UPDATE account SET balance = account.balance + booked.amount
        FROM (SELECT user_openid, sum(amount)::integer AS amount FROM new_rows GROUP BY user_openid) AS booked
        WHERE account.user_openid = booked.user_openid;
    INSERT INTO metric_delta (name, value)
        SELECT 'darkroom_refunds_total', count(*) FROM new_rows WHERE kind = 'refund' HAVING count(*) > 0;
    INSERT INTO metric_delta (name, labels, value)
        SELECT 'darkroom_credits_total', '{{"kind":"' || kind || '"}}', sum(abs(amount)) FROM new_rows GROUP BY kind;
    RETURN NULL;"""
    granted = f"""{_IF_NONE}
    INSERT INTO credit_entry (user_openid, kind, amount, reference)
        SELECT new_rows.user_openid, 'grant', rule.signup_grant, 'signup' FROM new_rows, rule
        WHERE rule.signup_grant > 0 ORDER BY new_rows.user_openid;
    RETURN NULL;"""
    return [
        Trigger("account_opened", f"AFTER INSERT ON account {_NEW}", granted, each="STATEMENT"),
        Trigger("credit_entry_booked", f"AFTER INSERT ON credit_entry {_NEW}", booked, each="STATEMENT"),
    ]


def guards() -> list[Trigger]:
    """The ledger is appended to only, and it alone moves a balance."""
    entry = [
        # The second of two simultaneous debits waits here, and then reads the balance after the first.
        "SELECT balance INTO held FROM account WHERE user_openid = NEW.user_openid FOR UPDATE;",
        refuse_if("held IS NULL", "the user has no account"),
        refuse_if("held + NEW.amount < 0", "insufficient credits"),
        refuse_if(
            "NEW.kind <> 'grant' AND (NEW.task_id IS NULL OR NEW.charge IS NULL)",
            "debits and refunds name their task and charge",
        ),
        refuse_if(
            "EXISTS (SELECT 1 FROM credit_entry"
            " WHERE task_id = NEW.task_id AND charge = NEW.charge AND kind = NEW.kind)",
            "this charge of the task has such an entry already",
        ),
        "IF NEW.reference IS NOT NULL THEN",
        refuse_if(
            "NEW.reference = 'signup' AND EXISTS (SELECT 1 FROM credit_entry"
            " WHERE user_openid = NEW.user_openid AND reference = 'signup')"
            " OR NEW.reference <> 'signup' AND EXISTS (SELECT 1 FROM credit_entry"
            " WHERE reference = NEW.reference AND reference IS NOT NULL AND reference <> 'signup')",
            "this grant was made already",
        ),
        "END IF;",
        "IF NEW.kind = 'refund' THEN",
        refuse_if(
            "NOT EXISTS (SELECT 1 FROM credit_entry"
            " WHERE task_id = NEW.task_id AND charge = NEW.charge AND kind = 'debit'"
            " AND user_openid = NEW.user_openid AND -amount >= NEW.amount)",
            "a refund needs a debit of the same user, task and charge, and is never above it",
        ),
        "END IF;",
        "RETURN NEW;",
    ]
    account = [
        refuse_if(
            "(NEW.seq >= OLD.seq OR NEW.epoch <> OLD.epoch) IS NOT TRUE", "seq of an account never falls"
        ),
        refuse_if("NEW.user_openid <> OLD.user_openid", "user_openid of an account can not change"),
        # Depth 1 is a direct statement; the ledger's trigger is one level deeper.
        refuse_if(
            "NEW.balance IS DISTINCT FROM OLD.balance AND pg_trigger_depth() < 2",
            "balance of an account is moved by an entry in the ledger alone",
        ),
        "RETURN NEW;",
    ]
    return [
        Trigger(
            "account_born",
            "BEFORE INSERT ON account",
            refuse("an account opens with nothing: balance and seq are moved by triggers"),
            only_if="NEW.balance <> 0 OR NEW.seq <> 0",
        ),
        Trigger("account_guard", "BEFORE UPDATE ON account", _LINES.join(account)),
        Trigger(
            "account_kept",
            "BEFORE DELETE ON account",
            refuse("an account can not be deleted: the ledger refers to it"),
        ),
        Trigger(
            "credit_entry_guard", "BEFORE INSERT ON credit_entry", _LINES.join(entry), declare="held integer;"
        ),
        Trigger(
            "credit_entry_unchangeable",
            "BEFORE UPDATE ON credit_entry",
            refuse("the ledger is append-only"),
        ),
        Trigger("credit_entry_kept", "BEFORE DELETE ON credit_entry", refuse("the ledger is append-only")),
    ]
