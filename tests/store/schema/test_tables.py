"""`supervisor.schema.tables` is the real schema: compared with the result of the migrations."""

from __future__ import annotations

import inspect
import re
from typing import Any, NamedTuple

import peewee
import pytest

from supervisor.schema import tables
from supervisor.schema.columns import Both, Column, Serial, Table
from tests.conftest import Store

MODELS = {
    model._meta.table_name: model
    for _, model in inspect.getmembers(tables, inspect.isclass)
    if issubclass(model, Table) and model is not Table
}
OF_PEEWEE = "migration_history"  # the runner's own


class Seen(NamedTuple):
    """A column.  default: None for none."""

    name: str
    type: str
    may_be_null: bool
    default: str | None


def _of(kind: str, said: str | Both | None) -> str | None:
    return getattr(said, kind) if isinstance(said, Both) else said


def _expected(kind: str) -> dict[str, type[Table]]:
    return {name: model for name, model in MODELS.items() if model._meta.only in (None, kind)}


def _columns(model: type[Table], kind: str) -> list[Column]:
    return [field for field in model._meta.sorted_fields if field.only in (None, kind)]


def _primary_key(model: type[Table]) -> list[str]:
    key = model._meta.primary_key
    if isinstance(key, peewee.CompositeKey):
        return list(key.field_names)
    return [key.name] if key else []


def _declared(model: type[Table], kind: str) -> list[Seen]:
    return sorted(
        Seen(
            field.column_name,
            str(_of(kind, field.type_)),
            field.null,
            None if isinstance(field, Serial) else _of(kind, field.born_with),
        )
        for field in _columns(model, kind)
    )


def _indexes(model: type[Table], kind: str) -> dict[str, str]:
    return {name: str(_of(kind, text)) for name, text in model._meta.named_indexes.items()}


@pytest.mark.sqlite_only
class TestOnSqlite:
    def test_every_table_and_no_other_is_there(self, store: Store) -> None:
        rows = store.all(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite~_%' ESCAPE '~'"
        )
        assert {row["name"] for row in rows} - {OF_PEEWEE} == set(_expected("sqlite"))

    def test_columns_keys_and_indexes_are_as_declared(self, store: Store) -> None:
        for name, model in _expected("sqlite").items():
            found = store.all(f"PRAGMA table_info({name})")
            key = [row["name"] for row in sorted(found, key=lambda row: row["pk"]) if row["pk"]]
            assert key == _primary_key(model), name
            declared = {seen.name: seen for seen in _declared(model, "sqlite")}
            seen = [
                Seen(
                    row["name"],
                    row["type"],
                    not row["notnull"] and not row["pk"],
                    _same_default(row["dflt_value"], declared[row["name"]].default),
                )
                for row in found
            ]
            assert sorted(seen) == list(declared.values()), name
            made = store.value("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?", name)
            assert ("WITHOUT ROWID" in made) == bool(model._meta.without_rowid), name
            assert self._indexes_of(store, name) == {
                each: f"{'UNIQUE ' if text.startswith('UNIQUE') else ''}INDEX {each} ON {name} "
                + text.removeprefix("UNIQUE ")
                for each, text in _indexes(model, "sqlite").items()
            }, name
            assert self._uniques_of(store, name) == sorted(model._meta.uniques.values()), name

    def _indexes_of(self, store: Store, table: str) -> dict[str, str]:
        rows = store.all(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = ? AND sql IS NOT NULL",
            table,
        )
        return {row["name"]: re.sub(r"\s+", " ", row["sql"]).removeprefix("CREATE ") for row in rows}

    def _uniques_of(self, store: Store, table: str) -> list[str]:
        names = [row["name"] for row in store.all(f"PRAGMA index_list({table})") if row["origin"] == "u"]
        columns = [[row["name"] for row in store.all(f"PRAGMA index_info({name})")] for name in names]
        return sorted(f"({', '.join(each)})" for each in columns)


@pytest.mark.postgresql_only
class TestOnPostgres:
    def test_every_table_and_no_other_is_there(self, store: Store) -> None:
        rows = store.all(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )
        assert {row["relname"] for row in rows} - {OF_PEEWEE} == set(_expected("postgresql"))

    def test_columns_keys_and_indexes_are_as_declared(self, store: Store) -> None:
        for name, model in _expected("postgresql").items():
            found = store.all(
                """SELECT attname, attidentity, attnotnull, pg_get_expr(adbin, adrelid) AS born_with,
                    format_type(atttypid, atttypmod) AS type_, (SELECT collname FROM pg_collation
                        WHERE oid = attcollation AND collname <> 'default') AS collation
                FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
                WHERE attrelid = CAST(? AS text)::regclass AND attnum > 0 AND NOT attisdropped""",
                name,
            )
            seen = [
                Seen(
                    row["attname"],
                    row["type_"] + (f' COLLATE "{row["collation"]}"' if row["collation"] else ""),
                    not row["attnotnull"],
                    row["born_with"] and re.sub(r"(?<=')::[a-z]+$", "", row["born_with"]),
                )
                for row in found
            ]
            assert sorted(seen) == _declared(model, "postgresql"), name
            numbered = {row["attname"]: row["attidentity"] for row in found if row["attidentity"]}
            serials = [field for field in _columns(model, "postgresql") if isinstance(field, Serial)]
            assert numbered == {each.name: "a" if each.is_given_always else "d" for each in serials}, name
            self._check_indexes(store, name, model)

    def _check_indexes(self, store: Store, table: str, model: type[Table]) -> None:
        """Each index is made once more as declared, and the server describes both the same."""
        found = store.all(
            """SELECT indexname, indexdef, contype, (SELECT string_agg(attname, ', ' ORDER BY place)
                FROM unnest(conkey) WITH ORDINALITY AS keys (number, place)
                JOIN pg_attribute ON attrelid = conrelid AND attnum = number) AS columns
            FROM pg_indexes LEFT JOIN pg_constraint ON conindid = CAST(indexname AS text)::regclass
            WHERE tablename = ? AND schemaname = 'public'""",
            table,
        )
        key = [row["columns"] for row in found if row["contype"] == "p"]
        assert key == ([", ".join(_primary_key(model))] if _primary_key(model) else []), table
        uniques = {row["indexname"]: f"({row['columns']})" for row in found if row["contype"] == "u"}
        assert uniques == model._meta.uniques, table
        present = {row["indexname"]: row["indexdef"] for row in found if row["contype"] is None}
        declared = _indexes(model, "postgresql")
        assert set(present) == set(declared), table

        class TakenBack(Exception):
            pass

        def make(tx: Any) -> None:
            for text in declared.values():
                unique = "UNIQUE " if text.startswith("UNIQUE") else ""
                tx.execute(f"CREATE {unique}INDEX probe ON {table} {text.removeprefix('UNIQUE ')}")
                made.append(tx.value("SELECT indexdef FROM pg_indexes WHERE indexname = 'probe'"))
                tx.execute("DROP INDEX probe")
            raise TakenBack

        made: list[str] = []
        with pytest.raises(TakenBack):
            store.write(make)
        assert [each.replace(" probe ", f" {name} ") for each, name in zip(made, declared, strict=True)] == [
            present[name] for name in declared
        ], table


def _same_default(found: str | None, declared: str | None) -> str | None:
    """A declaration with an ellipsis is compared up to it."""
    if found is not None and declared is not None and declared.endswith(" …"):
        return declared if found.startswith(declared.removesuffix(" …")) else found
    return found
