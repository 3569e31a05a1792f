"""The independent reader: plain `sqlite3` and docs/correctness.md, rules 31 to 35, no code of Darkroom's.

Each check yields a sentence for each fault.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.support.chaos.orders import TYPES, left_out, price_of

FINAL = ("completed", "failed", "cancelled")
# What a user may see a task do, read from its work's changes.
NEXT = {
    None: {"pending", "failed"},
    "pending": {"pending", "processing", "failed"},
    "processing": {"processing", "pending", "completed", "failed"},
}


def _without_files(doc: dict[str, Any]) -> dict[str, Any]:
    """The log names files, a feed links to them."""
    return {name: value for name, value in doc.items() if name not in ("images", "outputs")}


class Reader:
    """A read-only view of a database without writers. events: {user: [(seq, change)]} as their feeds delivered them.
    max_attempts: of every type.
    """

    def __init__(
        self,
        database: Path,
        files: Path,
        events: Mapping[str, list[tuple[int, dict[str, Any]]]],
        max_attempts: int,
    ) -> None:
        self._db = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
        self._db.row_factory = sqlite3.Row
        self._files, self._events, self._max_attempts = files, events, max_attempts

    def complaints(
        self, wanted: Mapping[str, tuple[str, str, int]], poison: frozenset[str], struck: Mapping[str, float]
    ) -> Iterator[str]:
        """Everything that is wrong.  wanted: {order: (user, type, count)}.  poison: orders that must fail.

        struck: {task: when a blow hit its worker for the last time, in seconds since 1970}.  A task runs alone in its
        last life, so it is rightly given up only if that life ended by a blow.
        """
        yield from self._integrity()
        yield from self._orders(wanted)
        yield from self._outcomes(poison, struck)
        yield from self._last_lives()
        yield from self._counts()
        yield from self._money()
        yield from self._pictures()
        yield from self._change_log()
        yield from self._histories()
        yield from self._feeds()

    def rows(self, sql: str, *params: Any) -> list[sqlite3.Row]:
        return self._db.execute(sql, params).fetchall()

    def value(self, sql: str, *params: Any) -> Any:
        return self._db.execute(sql, params).fetchone()[0]

    def tasks(self) -> list[sqlite3.Row]:
        return self.rows("SELECT *, json_extract(params, '$.prompt') AS name FROM task_queue ORDER BY rowid")

    def _integrity(self) -> Iterator[str]:
        if (said := self.value("PRAGMA integrity_check")) != "ok":
            yield f"the database is damaged: {said}"

    def _orders(self, wanted: Mapping[str, tuple[str, str, int]]) -> Iterator[str]:
        stored: dict[str, tuple[str, str, int]] = {}
        for task in self.tasks():
            if task["name"] in stored:
                yield f"the order {task['name']} was stored twice in spite of its key"
            params = json.loads(task["params"])
            stored[task["name"]] = (task["user_openid"], task["type"], params["count"])
        for name in sorted(wanted.keys() - stored.keys()):
            yield f"the order {name} was accepted and is not there"
        for name in sorted(stored.keys() - wanted.keys()):
            yield f"the task {name} was never ordered"
        for name in sorted(wanted.keys() & stored.keys()):
            if wanted[name] != stored[name]:
                yield f"the order {name} was {wanted[name]} and became {stored[name]}"

    def _outcomes(self, poison: frozenset[str], struck: Mapping[str, float]) -> Iterator[str]:
        claimed_at: dict[str, float] = dict(
            self._db.execute(
                """SELECT task_id, max((julianday(at) - 2440587.5) * 86400) FROM task_event
                    WHERE event = 'claimed' GROUP BY task_id"""
            ).fetchall()
        )
        for task in self.tasks():
            code = json.loads(task["error"])["code"] if task["error"] else None
            if task["name"] in poison:
                if (task["status"], code) != ("failed", "worker_died"):
                    yield f"the poison {task['id']} is {task['status']} ({code}), not failed as worker_died"
            elif task["status"] != "completed" and not (
                code == "worker_died"
                and task["deaths"] == 2 * self._max_attempts
                and struck.get(task["id"], 0.0) >= claimed_at[task["id"]]
            ):
                yield (
                    f"{task['id']} ({task['type']}) is {task['status']}, {code}: attempt {task['attempt']}, "
                    f"failures {task['failures']}, deaths {task['deaths']}"
                )

    def _last_lives(self) -> Iterator[str]:
        """A task with one life left shares its worker with no other task."""
        at_work: dict[str, str] = {}
        deaths: Counter[str] = Counter()
        told: set[str] = set()
        for row in self.rows("SELECT task_id, event, worker_id, error FROM task_event ORDER BY id"):
            task, worker = row["task_id"], row["worker_id"]
            if row["event"] != "claimed":
                at_work.pop(task, None)
                code = json.loads(row["error"])["code"] if row["error"] else None
                deaths[task] += row["event"] == "released" and code == "worker_died"
                continue
            at_work[task] = worker
            together = [each for each, where in at_work.items() if where == worker]
            last = [each for each in together if deaths[each] == 2 * self._max_attempts - 1]
            if len(together) > 1 and set(last) - told:
                told.update(last)
                yield f"{last[0]} had its last life in one worker with {len(together) - 1} others"

    def _counts(self) -> Iterator[str]:
        for task in self.tasks():
            failures, deaths, most = task["failures"], task["deaths"], task["max_attempts"]
            if most != self._max_attempts:
                yield f"{task['id']} may have {most} attempts instead of {self._max_attempts}"
            if task["attempt"] < 1 or task["lease"] < task["attempt"]:
                yield f"{task['id']} has attempt {task['attempt']} under lease {task['lease']}"
            if task["attempt"] < failures + deaths:
                yield f"{task['id']} had {failures} failures and {deaths} deaths in {task['attempt']} attempts"
            if task["charge"] != 1:
                yield f"{task['id']} has charge {task['charge']} though nobody has resubmitted it"
            if task["status"] == "completed" and (failures >= most or deaths >= 2 * most):
                yield f"{task['id']} completed beyond its budget: failures {failures}, deaths {deaths} of {most}"

    def _money(self) -> Iterator[str]:
        entries: dict[tuple[str, int], list[tuple[str, int, str]]] = {}
        for row in self.rows("SELECT * FROM credit_entry WHERE kind <> 'grant'"):
            entry = (row["kind"], row["amount"], row["user_openid"])
            entries.setdefault((row["task_id"], row["charge"]), []).append(entry)
        for task in self.tasks():
            count = json.loads(task["params"])["count"]
            price, of_missing = price_of(task["type"], count, _left_out(task, count))
            owed = [("debit", -price, task["user_openid"])]
            given_back = price if task["status"] == "failed" else of_missing
            if given_back:
                owed.append(("refund", given_back, task["user_openid"]))
            paid = sorted(entries.pop((task["id"], task["charge"]), []))
            if paid != owed:
                yield f"{task['id']} is {task['status']} and was booked {paid} instead of {owed}"
        for (task_id, charge), booked in entries.items():
            yield f"charge {charge} of {task_id}, which is no task's, was booked {booked}"
        for row in self.rows(
            """SELECT user_openid, balance, (SELECT sum(amount) FROM credit_entry
                WHERE credit_entry.user_openid = account.user_openid) AS booked FROM account"""
        ):
            if row["balance"] != row["booked"]:
                yield f"the balance of {row['user_openid']} is {row['balance']}, its ledger says {row['booked']}"

    def _pictures(self) -> Iterator[str]:
        works = {work["task_id"]: work for work in self.rows("SELECT * FROM works")}
        for task in self.tasks():
            work = works.get(task["id"])
            if work is None:
                yield f"{task['id']} has no work"
                continue
            for column in ("user_openid", "type", "status", "stage", "progress", "error"):
                if work[column] != task[column]:
                    yield f"{column} of {task['id']} is {task[column]}, of its work {work[column]}"
            images = json.loads(work["images"])
            count = json.loads(task["params"])["count"]
            expected = count - _left_out(task, count) if task["status"] == "completed" else 0
            if len(images) != expected:
                yield f"{task['id']} has {len(images)} pictures instead of {expected}"
            for image in images:
                path = self._files / image["key"]
                if not path.is_file() or path.stat().st_size == 0:
                    yield f"the picture {image['key']} of {task['id']} is not in the store"

    def _change_log(self) -> Iterator[str]:
        for account in self.rows("SELECT user_openid, seq FROM account"):
            user = account["user_openid"]
            seqs = [
                row["seq"]
                for row in self.rows(
                    "SELECT seq FROM work_change WHERE user_openid = ? ORDER BY log_id", user
                )
            ]
            if seqs != list(range(1, account["seq"] + 1)):
                yield f"the change log of {user} is not 1 … {account['seq']} in order"

    def _histories(self) -> Iterator[str]:
        """What users saw each task do: legal steps, as many starts as attempts, progress that never fell."""
        starts: Counter[str] = Counter()
        at: dict[str, tuple[str | None, int, int]] = {}
        attempts = {task["id"]: task["attempt"] for task in self.tasks()}
        for row in self.rows("SELECT doc FROM work_change ORDER BY log_id"):
            doc = json.loads(row["doc"])
            task, status, progress = doc["task_id"], doc["status"], doc["progress"]
            before, had, started = at.get(task, (None, 0, 0))
            if before in FINAL:
                yield f"{task} changed to {status} after it was {before}"
            elif status not in NEXT[before]:
                yield f"{task} went from {before} to {status}"
            if (before, status) == ("pending", "processing"):
                starts[task] += 1
            if (before, status) == ("processing", "processing") and progress < had:
                yield f"the progress of {task} fell from {had} to {progress}"
            at[task] = (status, progress, started)
        for task, attempt in attempts.items():
            if starts[task] != attempt:
                yield f"{task} was seen to start {starts[task]} times in {attempt} attempts"

    def _feeds(self) -> Iterator[str]:
        for user, events in self._events.items():
            logged = self.rows(
                "SELECT seq, data_type, doc_id, doc FROM work_change WHERE user_openid = ? ORDER BY seq", user
            )
            if [seq for seq, _ in events] != [row["seq"] for row in logged]:
                yield f"{user} was told {len(events)} changes, not exactly the {len(logged)} of the log in order"
                continue
            for (seq, told), row in zip(events, logged, strict=True):
                heard = (told["dataType"], told["docId"], _without_files(told["doc"]))
                if heard != (row["data_type"], row["doc_id"], _without_files(json.loads(row["doc"]))):
                    yield f"{user} was told another change {seq} than the log holds"
            yield from self._last_words(user, events)

    def _last_words(self, user: str, events: list[tuple[int, dict[str, Any]]]) -> Iterator[str]:
        """The last change that a user received of each work equals the work."""
        last = {told["docId"]: told["doc"] for _, told in events}
        works = {work["id"]: work for work in self.rows("SELECT * FROM works WHERE user_openid = ?", user)}
        if last.keys() != works.keys():
            yield f"{user} knows {len(last)} works and has {len(works)}"
        for work_id in last.keys() & works.keys():
            work, doc = works[work_id], last[work_id]
            keys = [image["key"] for image in json.loads(work["images"])]
            if (doc["status"], doc["stage"], doc["progress"]) != (
                work["status"],
                work["stage"],
                work["progress"],
            ):
                yield f"{user} believes {doc['task_id']} to be {doc['status']}, and it is {work['status']}"
            if len(keys) != len(doc["images"]) or any(
                key not in image["url"] for key, image in zip(keys, doc["images"], strict=False)
            ):
                yield f"{user} was shown other pictures of {doc['task_id']} than there are"


def _left_out(task: sqlite3.Row, count: int) -> int:
    """How many pictures its service never makes; the studio makes all."""
    return left_out(task["name"], count) if task["type"] in TYPES else 0
