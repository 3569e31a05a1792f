"""PostgreSQL's SQL for the store's `:name` and Dialect, and its values converted to SQLite's forms.

The store has one SQL text for both databases, so our connections return times as
`YYYY-MM-DDTHH:MM:SS.mmmZ`, JSON as text, sums as whole numbers, and takes flags as 0 and 1.
"""

from __future__ import annotations

import datetime
import functools
import re
from typing import Any, NamedTuple

import psycopg
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Dumper, Loader
from psycopg.types.numeric import Int8Dumper
from psycopg.types.string import TextLoader

from supervisor.database.interface.database import Dialect

# darkroom_now() is the schema's own: the server's clock in milliseconds, and the tests' shift.
POSTGRES = Dialect(
    "postgresql",
    now="darkroom_now()",
    moment="(SELECT darkroom_now())",
    in_seconds="(darkroom_now() + make_interval(secs => {seconds}))",
    index_hint="",
    for_update=" FOR UPDATE",
    for_update_of=" FOR UPDATE OF {}",
    for_update_of_free=" FOR UPDATE OF {} SKIP LOCKED",
    for_free_key_share=" FOR KEY SHARE OF {} SKIP LOCKED",
    named_lock="SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))",
    writes_within_queries=True,
    has_many_writers=True,
    as_text="""to_char({time} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')""",
    seconds_between="CAST(extract(epoch FROM CAST({later} AS timestamptz) - CAST({earlier} AS timestamptz))"
    " AS double precision)",
    shifted="(CAST({time} AS timestamptz) + make_interval(secs => {seconds}))",
    greatest="greatest",
    least="least",
    json_array="jsonb_build_array",
    json_group="jsonb_agg",
    texts="jsonb_array_elements_text(CAST({array} AS jsonb))",
    # The condition always holds.  It makes the planner expect one row, not a hundred, and so look up what it joins.
    rows="(SELECT value FROM jsonb_array_elements(CAST({array} AS jsonb)) AS each_one"
    " WHERE jsonb_typeof(value) = 'array')",
    # Not `IN (SELECT …)`: a join with a small table reads all of it, and goes on to do so when it has grown.
    is_one_of="{column} = ANY (ARRAY(SELECT jsonb_array_elements_text(CAST({array} AS jsonb))))",
    texts_of="jsonb_array_elements_text({column} -> '{name}')",
    as_json="CAST({text} AS jsonb)",
    as_time="CAST({text} AS timestamptz)",
    lines="string_agg({texts}, chr(10))",
    padded="lpad(CAST({number} AS TEXT), {digits}, '0')",
    new_epoch="DEFAULT",  # which is made anew for each row
)

# Where a `?` or `:name` is not a parameter: in quoted text, a quoted name, a comment, a dollar-quoted body, a cast.
_NOT_A_MARK = r"""'(?:[^']|'')*' | "[^"]*" | --[^\n]* | /\*.*?\*/ | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$ | ::"""
_PIECE = re.compile(rf"(?P<kept>{_NOT_A_MARK}) | (?P<mark>\?|:(?P<name>[a-z]\w*))", re.VERBOSE | re.DOTALL)


class Numbered(NamedTuple):
    """A statement as the server wants it.  names: of `$1`, `$2`…; '' of one that was written `?`."""

    text: bytes
    names: tuple[str, ...]


@functools.lru_cache(maxsize=1024)
def numbered(sql: str) -> Numbered:
    """The statement with `:name`, or `?`, as the server's `$1`, `$2`…; what is quoted means itself.

    One name is one parameter, however often it stands there.
    """
    names: list[str] = []

    def number(found: re.Match[str]) -> str:
        if not found["mark"]:
            return found[0]
        name = found["name"] or ""
        if not name or name not in names:
            names.append(name)
            return f"${len(names)}"
        return f"${names.index(name) + 1}"

    return Numbered(_PIECE.sub(number, sql).encode(), tuple(names))


class _TimeLoader(Loader):
    """timestamptz in the contract's form of a time; the session's time zone is UTC."""

    def load(self, data: Buffer) -> str:
        text = bytes(data).decode()
        if not text.endswith("+00"):  # a pooler passed on another session's settings
            moment = datetime.datetime.fromisoformat(text).astimezone(datetime.UTC)
            return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
        return f"{text[:10]}T{text[11:19]}.{text[20:-3]:0<3.3}Z"


class _NumberLoader(Loader):
    """numeric, the type of a sum of bigints: returned as int if it is a whole number."""

    def load(self, data: Buffer) -> int | float:
        text = bytes(data).decode()
        return float(text) if "." in text or "N" in text else int(text)


class _FlagDumper(Dumper):
    """True and False for the INTEGER columns that hold flags."""

    oid = psycopg.adapters.types["int8"].oid

    def dump(self, obj: Any) -> Buffer:
        return b"1" if obj else b"0"


def adapt(context: AdaptContext) -> None:
    """Register these conversions on a connection."""
    adapters = context.adapters if context.adapters is not None else psycopg.adapters
    adapters.register_loader("timestamptz", _TimeLoader)
    adapters.register_loader("numeric", _NumberLoader)
    for name in ("json", "jsonb", "uuid"):
        adapters.register_loader(name, TextLoader)
    adapters.register_dumper(int, Int8Dumper)  # one type for all sizes: one prepared statement, not three
    adapters.register_dumper(bool, _FlagDumper)
