"""A trigger on PostgreSQL: a function of the same name, and the clause that says when it runs.

Functions run with the rights of the schema's owner and find only the schema's own names.  So a role that may only
INSERT into `task_queue` fires them safely, and other roles can't attach them to their own tables.

Their statements are planned once a session, usually while the tables are small and reading a whole table looks cheap,
and keep that plan when the tables have grown.  So they must find their rows by an index and never read a whole table.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

# Guards fail like constraints, so that callers get one kind of error (check_violation).
_REFUSED = "23514"


@dataclasses.dataclass(frozen=True)
class Trigger:
    """when: the text between the name and FOR EACH.  each: ROW or STATEMENT.  only_if: a row trigger's WHEN."""

    name: str
    when: str
    body: str
    each: str = "ROW"
    only_if: str = ""
    declare: str = ""

    @property
    def table(self) -> str:
        """The table it belongs to."""
        return self.when.split(" ON ")[1].split()[0]

    def statements(self, schema: str) -> list[str]:
        """Make the function and the trigger, or put them in place of older ones.  schema: its name, quoted."""
        condition = f" WHEN ({self.only_if})" if self.only_if else ""
        declare = f"DECLARE {self.declare}\n" if self.declare else ""
        return [
            f"CREATE OR REPLACE FUNCTION {self.name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
            f" SET search_path = {schema}, pg_temp SET enable_seqscan = off"
            f" AS $body$\n{declare}BEGIN\n{self.body}\nEND $body$",
            f"REVOKE ALL ON FUNCTION {self.name}() FROM PUBLIC",
            f"CREATE OR REPLACE TRIGGER {self.name} {self.when} FOR EACH {self.each}{condition}"
            f" EXECUTE FUNCTION {self.name}()",
        ]


def refuse(sentence: str) -> str:
    """Raise with a sentence for the author of the statement."""
    return (
        f"RAISE EXCEPTION USING ERRCODE = '{_REFUSED}', MESSAGE = '{sentence.replace(chr(39), chr(39) * 2)}';"
    )


def refuse_if(condition: str, sentence: str) -> str:
    """Raise if the condition is true, but not if it is unknown."""
    return f"IF {condition} THEN {refuse(sentence)} END IF;"


def differs(columns: Iterable[str], *, new: str = "NEW", old: str = "OLD") -> str:
    """The condition that one of some columns changes."""
    return " OR ".join(f"{new}.{column} IS DISTINCT FROM {old}.{column}" for column in columns)
