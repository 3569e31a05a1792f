"""The old rows that the sweep removes, and the rows that it keeps for ever."""

from __future__ import annotations

import importlib
import io
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config.settings import Settings
from config.storage import Retention
from supervisor.core.claim import Claim
from supervisor.core.errors import BadParams
from supervisor.core.ids import new_ulid
from supervisor.core.shown_images import keys_of
from supervisor.core.throttle import Throttle
from supervisor.database.interface.database import Transaction
from supervisor.objects.local_files import LocalFiles
from supervisor.objects.object_store import StoreAway
from supervisor.services import file_sweep
from supervisor.services import sweep as sweeping
from supervisor.services.file_sweep import SIGNATURE, doom_orphans
from supervisor.services.sweep import sweep
from supervisor.store.counters import open_task_counts
from supervisor.store.feed import works
from supervisor.store.operators import audit
from supervisor.store.operators.audit import Operator
from supervisor.store.retention import ageing
from supervisor.store.tasks import claims, images, results, user_actions
from supervisor.store.tasks.results import ResultFile
from tests.conftest import Clock, Plain, Store
from tests.support.databases import REFUSED
from tests.support.objects import put_bytes
from tests.support.workers import complete

DAY = 86_400
HOUR = 3_600


class Shop:
    """A store of rows, a store of files, and the contents of both."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store = store
        self.files = LocalFiles(settings.data_dir / "files")
        self.settings = settings

    def keeps(self, **days: float) -> None:
        self.settings = self.settings.model_copy(update={"retention": Retention(**days)})

    def sweep(self) -> dict[str, int]:
        return sweep(self.store.database, self.settings, self.files)

    def upload(self, user: str = "o-1") -> str:
        id_ = new_ulid()
        put_bytes(self.files, f"uploads/{id_[-2:]}/{id_}.jpg", b"x")
        image = images.NewImage(id_, user, f"uploads/{id_[-2:]}/{id_}.jpg", 4, 3, 1, "0")
        self.store.write(lambda tx: images.add(tx, image))
        return id_

    def order(self, image: str, user: str = "o-1") -> str:
        new = user_actions.NewTask(user, "photography", {"images": [image]})
        return str(self.store.write(lambda tx: user_actions.submit(tx, self.settings, new))["task_id"])

    def result(self, task_id: str, charge: int = 1, lease: int = 1, n: int = 0) -> str:
        """A picture of a task, in both stores; its key."""
        return self._result(task_id, charge, lease, n, None).key

    def with_thumbnail(self, task_id: str, charge: int = 1, lease: int = 1) -> ResultFile:
        """A picture of a task that has a thumbnail, in both stores."""
        key = f"results/{task_id}/{charge}-{lease}-0-thumbnail.webp"
        put_bytes(self.files, key, b"x")
        return self._result(task_id, charge, lease, 0, {"key": key, "width": 2, "height": 1})

    def _result(
        self, task_id: str, charge: int, lease: int, n: int, thumbnail: dict[str, Any] | None
    ) -> ResultFile:
        key = f"results/{task_id}/{charge}-{lease}-{n}.jpg"
        put_bytes(self.files, key, b"x")
        file = ResultFile(n, key, "0", 4, 3, thumbnail)
        self.store.write(lambda tx: results.add(tx, task_id, charge, "hash", file))
        return file

    def completed(self, claim: Claim, file: ResultFile | None = None) -> str:
        """Ends a claimed task with one stored picture; its key."""
        file = file or self._result(claim.task_id, claim.charge, claim.lease, 0, None)
        made = [file.shown()]
        self.store.write(lambda tx: complete(tx, claim.task_id, claim.lease, made))
        return file.key

    def keys(self) -> list[str]:
        return [
            each.key for folder in ("inputs", "results", "uploads") for each in self.files.listing(folder)
        ]

    def uploads(self) -> list[str]:
        return [row["id"] for row in self.store.all("SELECT id FROM image ORDER BY id")]

    def age(self, key: str, seconds: float) -> None:
        path = self.files.local_path(key)
        assert path is not None
        os.utime(path, (time.time() - seconds, time.time() - seconds))


@pytest.fixture
def shop(store: Store, settings: Settings) -> Shop:
    return Shop(store, settings)


# --- uploads ---


def test_an_unused_upload_expires_and_is_removed_with_its_file(shop: Shop, clock: Clock) -> None:
    image = shop.upload()
    clock.advance(30 * DAY - 60)
    assert shop.sweep()["uploads_forgotten"] == 0 and shop.uploads() == [image]
    clock.advance(120)
    assert shop.sweep()["uploads_forgotten"] == 0 and len(shop.keys()) == 1
    with pytest.raises(BadParams, match=image):
        shop.order(image)
    clock.advance(HOUR + 60)
    counts = shop.sweep()
    assert (counts["uploads_forgotten"], counts["files_deleted"]) == (1, 1)
    assert shop.uploads() == [] and shop.keys() == []


def test_an_upload_is_kept_while_its_task_is_open_and_while_its_work_is_kept(
    shop: Shop, clock: Clock, store: Store, live_worker: Callable[..., str]
) -> None:
    live_worker()
    image = shop.upload()
    task_id = shop.order(image)
    for _ in range(3):
        clock.advance(31 * DAY)
        store.write(lambda tx: tx.execute("UPDATE task_queue SET expires_at = NULL"))  # it waits for long
        assert shop.sweep()["uploads_forgotten"] == 0
    (claim,) = store.dispatch()
    assert claim.image_keys, "the task finds its photo"
    shop.completed(claim)
    clock.advance(31 * DAY)
    shop.sweep()
    clock.advance(2 * HOUR)
    assert shop.sweep()["uploads_forgotten"] == 0 and shop.uploads() == [image]
    store.write(lambda tx: works.delete(tx, store.work(task_id)["id"], "o-1"))
    clock.advance(31 * DAY)
    shop.sweep()
    clock.advance(2 * HOUR)
    assert shop.sweep()["uploads_forgotten"] == 1 and shop.keys() == []


def test_an_upload_that_a_row_of_plain_sql_names_is_kept(
    shop: Shop, clock: Clock, store: Store, pending_task: Callable[..., str]
) -> None:
    image = shop.upload()
    clock.advance(31 * DAY)
    pending_task(params=f'{{"images":["{image}"]}}')
    shop.sweep()  # it is not admitted yet
    clock.advance(2 * HOUR)
    shop.sweep()
    assert store.admit_waiting() == 1
    clock.advance(31 * DAY)
    shop.sweep()
    clock.advance(2 * HOUR)
    shop.sweep()
    assert shop.uploads() == [image]
    assert store.value("SELECT count(*) FROM image_use") == 1


def test_an_upload_that_was_used_in_the_moment_of_its_expiry_is_kept(
    shop: Shop, clock: Clock, store: Store
) -> None:
    image = shop.upload()
    task_id = shop.order(shop.upload())
    clock.advance(31 * DAY)
    shop.sweep()
    # A submission that had read the upload before it expired, and commits now.
    store.write(lambda tx: images.note_use(tx, [(image, task_id)]))
    clock.advance(2 * HOUR)
    shop.sweep()
    assert image in shop.uploads()
    assert store.value("SELECT expired_at FROM image WHERE id = ?", image) is None


def test_another_users_task_does_not_keep_an_upload(shop: Shop, clock: Clock) -> None:
    image = shop.upload("o-1")
    with pytest.raises(BadParams):
        shop.order(image, user="o-2")
    clock.advance(31 * DAY)
    shop.sweep()
    clock.advance(2 * HOUR)
    assert shop.sweep()["uploads_forgotten"] == 1


def test_uploads_are_kept_for_ever_where_that_is_set(shop: Shop, clock: Clock) -> None:
    shop.keeps(upload_days=0)
    image = shop.upload()
    clock.advance(5000 * DAY)
    shop.sweep()
    clock.advance(2 * HOUR)
    shop.sweep()
    assert shop.uploads() == [image]


@pytest.mark.sqlite_only  # no release before that one stored in PostgreSQL
def test_uses_from_before_uses_were_noted_are_found_by_the_migration(
    shop: Shop, store: Store, pending_task: Callable[..., str]
) -> None:
    image, foreign = shop.upload("o-1"), shop.upload("o-2")
    using = [
        pending_task(params=f'{{"images":["{image}","{image}"]}}'),
        pending_task(params=f'{{"images":["https://example.org/a.jpg","{image}"]}}'),
    ]
    for images_ in (f'["{foreign}"]', f'"{foreign}"', "null", "7", "[]", '{"a":1}', "[[],{},null]"):
        pending_task(params=f'{{"images":{images_}}}')
    pending_task(params="{}")
    version = importlib.import_module("supervisor.schema.migrations.0005_retention")
    (backfill,) = [each for each in version.SQLITE if each.startswith("INSERT INTO image_use")]
    store.write(lambda tx: tx.execute(backfill))
    noted = store.all("SELECT image_id, task_id FROM image_use ORDER BY task_id")
    assert [(row["image_id"], row["task_id"]) for row in noted] == [(image, each) for each in sorted(using)]


# --- finished tasks ---


def test_finished_tasks_are_kept_for_ever_by_default(
    shop: Shop, clock: Clock, store: Store, claimed_task: Callable[..., Claim]
) -> None:
    shop.completed(claimed_task())
    clock.advance(5000 * DAY)
    assert shop.sweep()["tasks_forgotten"] == 0
    assert len(shop.keys()) == 1 and store.value("SELECT count(*) FROM works") == 1


def test_old_finished_tasks_go_with_works_and_pictures_and_the_ledger_stays(
    shop: Shop,
    clock: Clock,
    store: Store,
    claimed_task: Callable[..., Claim],
    failed_task: Callable[..., str],
    cancelled_task: Callable[..., str],
) -> None:
    shop.keeps(task_days=7)
    shop.completed(claimed_task("done"))
    failed = failed_task("failed")
    shop.result(failed, lease=9)
    cancelled_task("cancelled")
    ledger = store.all("SELECT * FROM credit_entry ORDER BY id")
    clock.advance(7 * DAY - 60)
    young = failed_task("young")
    assert shop.sweep()["tasks_forgotten"] == 0
    clock.advance(120)
    counts = shop.sweep()
    assert (counts["tasks_forgotten"], counts["files_deleted"]) == (3, 2)
    assert [row["id"] for row in store.all("SELECT id FROM task_queue")] == [young]
    assert [row["task_id"] for row in store.all("SELECT task_id FROM works")] == [young]
    assert store.value("SELECT count(*) FROM result_file") == 0 and shop.keys() == []
    assert store.all("SELECT * FROM credit_entry ORDER BY id")[: len(ledger)] == ledger
    for user in ("done", "failed", "cancelled"):
        store.balance(user)
        (last,) = store.all(
            "SELECT data_type FROM work_change WHERE user_openid = ? ORDER BY seq DESC LIMIT 1", user
        )
        assert last["data_type"] == "remove", "the feed says that the work is gone"


def test_a_task_that_runs_or_was_retried_is_never_forgotten(
    shop: Shop,
    clock: Clock,
    store: Store,
    claimed_task: Callable[..., Claim],
    failed_task: Callable[..., str],
) -> None:
    shop.keeps(task_days=1)
    running, retried = claimed_task("a").task_id, failed_task("b")
    clock.advance(5 * DAY)
    store.write(lambda tx: user_actions.resubmit(tx, shop.settings, retried))
    counts = store.write(lambda tx: ageing.forget_finished_tasks(tx, "photography", DAY, 100))
    assert counts == 0
    assert {row["id"] for row in store.all("SELECT id FROM task_queue")} == {running, retried}


def test_more_than_a_batch_goes_in_one_sweep(
    shop: Shop,
    clock: Clock,
    store: Store,
    cancelled_task: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sweeping, "FORGET_BATCH", 2)
    shop.keeps(task_days=1)
    for type_ in ("photography", "fitting"):
        for _ in range(3):
            cancelled_task(type_=type_)
    assert store.write(ageing.types_of_finished_tasks) == ["fitting", "photography"]
    clock.advance(2 * DAY)
    assert shop.sweep()["tasks_forgotten"] == 6


# --- files ---


def test_a_crash_between_the_row_and_the_object_is_found_again(
    shop: Shop, clock: Clock, store: Store, claimed_task: Callable[..., Claim]
) -> None:
    shop.keeps(task_days=1)
    key = shop.completed(claimed_task())
    clock.advance(2 * DAY)
    # The transaction that forgets the rows is the last thing this process does.
    store.write(lambda tx: ageing.forget_finished_tasks(tx, "photography", DAY, 100))
    assert shop.keys() == [key]
    assert shop.sweep()["files_deleted"] == 1 and shop.keys() == []
    assert store.value("SELECT count(*) FROM doomed_file") == 0


def test_a_deleted_work_whose_files_could_not_be_deleted_is_finished_by_the_sweep(
    shop: Shop, store: Store, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task()
    shop.completed(claim)
    store.write(lambda tx: works.delete(tx, store.work(claim.task_id)["id"], "o-1"))
    assert len(shop.keys()) == 1
    assert shop.sweep()["files_deleted"] == 1 and shop.keys() == []


def test_thumbnails_are_found_again_and_go_with_their_pictures(
    shop: Shop,
    store: Store,
    clock: Clock,
    claimed_task: Callable[..., Claim],
    failed_task: Callable[..., str],
) -> None:
    claim, runs = claimed_task("done"), claimed_task("runs")
    file = shop.with_thumbnail(claim.task_id, claim.charge, claim.lease)
    assert store.write(lambda tx: results.found(tx, claim.task_id, claim.charge, "hash")) == [file]
    shop.completed(claim, file)
    failed = failed_task("failed")
    held, orphan = shop.with_thumbnail(runs.task_id), shop.with_thumbnail(failed)
    kept = [*keys_of([file.shown()]), *keys_of([held.shown()])]
    for key in (*kept, *keys_of([orphan.shown()])):
        shop.age(key, 3 * DAY)
    assert shop.sweep()["orphans_found"] == 2, "the files of a failed task may not be used"
    assert sorted(shop.keys()) == sorted(kept)
    gone = store.write(lambda tx: works.delete(tx, store.work(claim.task_id)["id"], "done"))
    assert gone == sorted(keys_of([file.shown()]))
    store.write(lambda tx: claims.fail(tx, runs.task_id, runs.lease, "internal", "x"))
    shop.keeps(task_days=1)
    clock.advance(2 * DAY)
    shop.sweep()
    assert shop.keys() == []


def test_a_work_that_shows_a_thumbnail_keeps_it_whatever_else_is_known(
    shop: Shop, store: Store, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task("done")
    file = shop.with_thumbnail(claim.task_id)
    shop.completed(claim, file)
    store.write(lambda tx: tx.execute("DELETE FROM result_file"))
    for key in keys_of([file.shown()]):
        shop.age(key, 3 * DAY)
    assert shop.sweep()["orphans_found"] == 0 and len(shop.keys()) == 2


FILM_N, DATA_N = results.FIRST_FILE, results.FIRST_DATA


def _with_film_and_data(shop: Shop, claim: Claim) -> list[str]:
    """End a claimed task with a film and data too large for its row; their keys."""
    film, data = (f"results/{claim.task_id}/1-{claim.lease}-{n}" for n in (f"{FILM_N}.mp4", f"{DATA_N}.json"))
    shown = {"media_type": "video/mp4", "bytes": 1, "name": "film.mp4"}
    files = [
        ResultFile(FILM_N, film, "0", 0, 0, about={"file": shown, "of": [0]}),
        ResultFile(DATA_N, data, "0", 0, 0, about={"data": None, "of": [0]}),
    ]
    for file in files:
        put_bytes(shop.files, file.key, b"x")
    found = results.together(files)

    def end(tx: Transaction) -> None:
        for file in files:
            results.add(tx, claim.task_id, claim.charge, "hash", file)
        made = claims.Made(claim.task_id, claim.lease, found.images, found.missing_of(1), found.outputs)
        assert claims.complete_all(tx, [made]).get() == [None]

    shop.store.write(end)
    return [film, data]


def test_films_and_data_go_with_their_task_and_its_work_and_not_before(
    shop: Shop, clock: Clock, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task()
    keys = _with_film_and_data(shop, claim)
    shop.keeps(task_days=30)
    shop.sweep()
    assert sorted(shop.keys()) == sorted(keys)
    clock.advance(31 * DAY)
    assert shop.sweep()["files_deleted"] == 2
    assert shop.keys() == []


def test_a_deleted_work_takes_its_films_and_data_with_it(
    shop: Shop, store: Store, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task()
    _with_film_and_data(shop, claim)
    store.write(lambda tx: works.delete(tx, store.work(claim.task_id)["id"], "o-1"))
    assert shop.sweep()["files_deleted"] == 2 and shop.keys() == []


def test_a_work_keeps_the_films_and_data_that_it_shows_whatever_else_is_known(
    shop: Shop, store: Store, claimed_task: Callable[..., Claim]
) -> None:
    keys = _with_film_and_data(shop, claimed_task())
    store.write(lambda tx: tx.execute("DELETE FROM result_file"))
    for key in keys:
        shop.age(key, 3 * DAY)
    assert shop.sweep()["orphans_found"] == 0 and sorted(shop.keys()) == sorted(keys)


def test_a_film_of_an_earlier_charge_is_found_and_goes(
    shop: Shop, store: Store, failed_task: Callable[..., str]
) -> None:
    task_id = failed_task()
    key = f"results/{task_id}/1-1-{FILM_N}.mp4"
    put_bytes(shop.files, key, b"x")
    file = ResultFile(FILM_N, key, "0", 0, 0, about={"file": {}, "of": [0]})
    store.write(lambda tx: results.add(tx, task_id, 1, "hash", file))
    shop.age(key, 3 * DAY)
    assert shop.sweep()["orphans_found"] == 1 and shop.keys() == []


def test_a_store_that_is_away_delays_only_the_files(
    shop: Shop, store: Store, claimed_task: Callable[..., Claim], monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = claimed_task()
    shop.completed(claim)
    store.write(lambda tx: works.delete(tx, store.work(claim.task_id)["id"], "o-1"))

    def away(*_: Any) -> None:
        raise StoreAway("The file store does not answer.")

    with monkeypatch.context() as broken:
        broken.setattr(shop.files, "delete", away, raising=False)
        assert shop.sweep()["files_deleted"] == 0
    assert shop.sweep()["files_deleted"] == 1


def test_old_files_without_a_row_are_found_and_all_others_kept(
    shop: Shop, store: Store, claimed_task: Callable[..., Claim], failed_task: Callable[..., str]
) -> None:
    upload = shop.upload()
    kept = [
        shop.completed(claimed_task("done")),
        shop.result(claimed_task("runs").task_id),
        f"uploads/{upload[-2:]}/{upload}.jpg",
        "foreign/of-somebody-else.txt",
        "inputs/t-1-1-0/input-0.jpg",  # of a request that may still be fetched from
    ]
    failed = failed_task("failed")
    orphans = [
        "uploads/ZZ/never-recorded.jpg",
        "results/unknown-task/1-1-0.jpg",
        shop.result(failed),  # it may not be used: a retry is another charge
        "inputs/t-1-1-0/input-1.jpg",
    ]
    young = "results/just-put/1-1-0.jpg"
    for key in (*kept[3:], orphans[0], orphans[1], orphans[3], young):
        put_bytes(shop.files, key, b"x")
    for key in (*kept, *orphans):
        shop.age(key, 3 * DAY)
    shop.age(orphans[3], 60 * DAY)
    counts = shop.sweep()
    assert (counts["orphans_found"], counts["files_deleted"]) == (4, 4)
    assert sorted(shop.keys()) == sorted({*kept, young} - {"foreign/of-somebody-else.txt"})
    assert shop.files.local_path("foreign/of-somebody-else.txt")
    assert store.value("SELECT count(*) FROM result_file WHERE task_id = ?", failed) == 0


def test_the_search_is_made_once_a_day(shop: Shop, clock: Clock) -> None:
    shop.sweep()
    put_bytes(shop.files, "uploads/ZZ/never-recorded.jpg", b"x")
    shop.age("uploads/ZZ/never-recorded.jpg", 3 * DAY)
    assert shop.sweep()["orphans_found"] == 0
    clock.advance(DAY + 60)
    assert shop.sweep()["orphans_found"] == 1


def test_a_search_without_time_left_continues_in_the_next_sweep(
    shop: Shop, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_sweep, "LOOKED_AT_ONCE", 2)
    for key in ("inputs/a/1.jpg", *(f"results/t{n}/1.jpg" for n in range(4)), "uploads/x/1.jpg"):
        put_bytes(shop.files, key, b"x")
        shop.age(key, 60 * DAY)
    found = []
    for _ in range(4):
        found.append(doom_orphans(store.database, shop.settings, shop.files, one_batch()))
    assert found == [2, 2, 2, 0]
    assert store.value("SELECT after_key FROM file_walk") == ""


def test_a_store_that_another_database_has_signed_is_left_alone(shop: Shop) -> None:
    shop.files.put(SIGNATURE, io.BytesIO(b"the name of another database"))
    put_bytes(shop.files, "uploads/ZZ/of-the-other.jpg", b"x")
    shop.age("uploads/ZZ/of-the-other.jpg", 60 * DAY)
    assert shop.sweep()["orphans_found"] == 0
    assert shop.keys() == ["uploads/ZZ/of-the-other.jpg"]


def test_no_search_is_made_where_that_is_set(shop: Shop, settings: Settings) -> None:
    shop.keeps(orphan_days=0)
    shop.sweep()
    assert not (settings.data_dir / "files").exists()


def test_half_written_files_of_a_crashed_put_go_with_the_search(shop: Shop, settings: Settings) -> None:
    put_bytes(shop.files, "uploads/ZZ/kept.jpg", b"x")
    left: Path = settings.data_dir / "files" / "uploads" / "ZZ" / ".tmp-0123"
    left.write_bytes(b"half of")
    os.utime(left, (1, 1))
    shop.sweep()
    assert not left.exists() and shop.keys() == ["uploads/ZZ/kept.jpg"]


def one_batch() -> Throttle:
    """Time for one batch, and no more."""
    times = iter([0.0, 0.0, 0.0, 0.0, 99.0])
    return Throttle(1, monotonic=lambda: next(times), sleep=lambda _: None)


# --- how ---


def test_housekeeping_rests_four_times_as_long_as_it_works_and_stops_in_time() -> None:
    now, slept = [0.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    def batch() -> int:
        now[0] += 0.1
        return 7

    assert Throttle(0.9, monotonic=lambda: now[0], sleep=sleep).repeat(batch) == 14
    assert slept == pytest.approx([0.4, 0.4])


def test_no_step_reads_a_whole_table(
    shop: Shop, store: Store, producer: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each statement, explained with the planner told to read a table whole only where nothing else is possible."""
    said: list[tuple[str, dict[str, Any]]] = []
    kind: Any = store.database.read(type)

    def recorded(call: Callable[..., Any]) -> Callable[..., Any]:
        def record(self: Transaction, sql: Any, **named: Any) -> Any:
            said.append((self.text_of(sql), named))
            return call(self, sql, **named)

        return record

    steps: list[Callable[[Transaction], Any]] = [
        lambda tx: ageing.expire_uploads(tx, 1, 10),
        lambda tx: ageing.forget_expired_uploads(tx, 10),
        lambda tx: ageing.types_of_finished_tasks(tx),
        lambda tx: ageing.forget_finished_tasks(tx, "photography", 1, 10),
        lambda tx: ageing.doom_orphans(tx, ["results/a/1.jpg", "uploads/b/2.jpg"]),
    ]
    with monkeypatch.context() as watching:
        for name in {"execute", "send", "ask"} & vars(kind).keys() | {"execute"}:  # the others may lead to it
            watching.setattr(kind, name, recorded(getattr(kind, name)))
        for step in steps:
            store.write(step)
    plans = [plan for sql, named in said for plan in _plan(store, sql, named)]
    whole = [
        plan
        for plan in plans
        if re.search(r"^\W*(Seq Scan on|SCAN) (task_queue|works|image|result_file)\b", plan)
    ]
    assert len(said) >= 7 and [plan for plan in whole if "INDEX" not in plan] == []


def _plan(store: Store, sql: str, named: dict[str, Any]) -> list[str]:
    def explain(tx: Transaction) -> list[str]:
        if tx.dialect.name == "sqlite":
            return [row["detail"] for row in tx.all(f"EXPLAIN QUERY PLAN {sql}", **named)]
        tx.execute("SET LOCAL enable_seqscan = off")
        return [row["QUERY PLAN"] for row in tx.all(f"EXPLAIN {sql}", **named)]

    return store.write(explain)


# --- evidence of paid requests, the operators' record, numbers of nothing ---


def request_of(store: Store, task_id: str, state: str, reference: str) -> None:
    """A paid request of a task, in this state."""

    def write_down(tx: Transaction) -> None:
        tx.execute(
            f"""INSERT INTO remote_job (task_id, charge, lease, provider, reference, state, updated_at)
                VALUES (?, 1, 1, 'far', ?, 'submitting', {tx.now})""",
            task_id, reference,
        )  # fmt: skip
        if state != "submitting":
            tx.execute("UPDATE remote_job SET state = 'waiting' WHERE reference = ?", reference)
            tx.execute("UPDATE remote_job SET state = ? WHERE reference = ?", state, reference)

    store.write(write_down)


def references(store: Store) -> list[str]:
    return [row["reference"] for row in store.all("SELECT reference FROM remote_job ORDER BY id")]


def test_evidence_goes_a_year_after_its_request_was_over(
    shop: Shop, store: Store, clock: Clock, completed_task: Callable[..., str]
) -> None:
    request_of(store, completed_task("o-1"), "done", "old")
    clock.advance(364 * DAY)
    request_of(store, completed_task("o-2"), "failed", "new")
    assert shop.sweep()["remote_jobs_pruned"] == 0
    clock.advance(2 * DAY)
    assert shop.sweep()["remote_jobs_pruned"] == 1
    assert references(store) == ["new"]


def test_evidence_is_kept_while_its_request_or_its_task_is_open(
    shop: Shop, store: Store, clock: Clock, completed_task: Callable[..., str], producer: Plain,
    admitted_task: Callable[..., str],
) -> None:  # fmt: skip
    request_of(store, completed_task("o-1"), "waiting", "the job is open")
    request_of(store, admitted_task("o-2"), "failed", "the task is open")
    store.write(lambda tx: tx.execute("UPDATE task_queue SET expires_at = NULL"))  # it waits for long
    clock.advance(800 * DAY)
    assert shop.sweep()["remote_jobs_pruned"] == 0
    assert references(store) == ["the job is open", "the task is open"]
    for reference in references(store):
        with pytest.raises(REFUSED, match="evidence of paid requests is append-only until"):
            producer.execute("DELETE FROM remote_job WHERE reference = ?", (reference,))


def test_evidence_and_record_are_kept_for_ever_where_that_is_set(
    shop: Shop, store: Store, clock: Clock, completed_task: Callable[..., str]
) -> None:
    request_of(store, completed_task("o-1"), "done", "old")
    store.write(lambda tx: audit.record(tx, Operator("o-7", "operator"), "sweep", "sweep", "now"))
    shop.keeps(remote_job_days=0, audit_days=0)
    clock.advance(4000 * DAY)
    counts = shop.sweep()
    assert (counts["remote_jobs_pruned"], counts["audit_pruned"]) == (0, 0)
    assert len(references(store)) == 1 and store.value("SELECT count(*) FROM audit") == 1


def test_operators_actions_are_removed_after_their_time_and_never_within_a_month(
    shop: Shop, store: Store, clock: Clock, producer: Plain
) -> None:
    store.write(lambda tx: audit.record(tx, Operator("o-7", "operator"), "sweep", "sweep", "now"))
    clock.advance(29 * DAY)
    with pytest.raises(REFUSED, match="kept for 30 days"):
        producer.execute("DELETE FROM audit")
    shop.keeps(audit_days=30)
    assert shop.sweep()["audit_pruned"] == 0
    clock.advance(2 * DAY)
    assert shop.sweep()["audit_pruned"] == 1
    assert store.value("SELECT count(*) FROM audit") == 0


def test_a_record_of_operators_can_not_be_set_to_go_within_a_month() -> None:
    with pytest.raises(ValueError, match="AUDIT_DAYS is 7, but may be 0"):
        Retention(audit_days=7)


def test_a_type_that_nothing_waits_of_leaves_no_number_behind(
    shop: Shop, store: Store, pending_task: Callable[..., str], admitted_task: Callable[..., str]
) -> None:
    admitted_task("o-1")
    pending_task("o-2", type_="misspelt")
    store.admit_waiting()  # which fails it
    store.write(lambda tx: open_task_counts.fold(tx, 1000))
    shop.sweep()
    assert [row["type"] for row in store.all("SELECT type FROM task_count")] == ["photography"]
