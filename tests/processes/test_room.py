"""A full disk: each writer reports it, leaves no half-written file, and waits; tasks are not blamed."""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from PIL import Image

from actors.attempts.outcomes import Postpone, after_error, after_question
from actors.attempts.progress import ProgressReport
from actors.files.scratch import write_whole
from actors.providers.base import Running
from supervisor.core.errors import NoRoom, OutcomeUnknown, StoreAway
from supervisor.core.rescue import Budget
from supervisor.objects.disk_space import WAITING, is_full
from supervisor.objects.local_files import LocalFiles
from supervisor.pictures.child_program import Parent, _plain, serve
from supervisor.remote.unclear_answers import Doubts
from supervisor.store.tasks import claims
from tests.conftest import Clock, Store
from tests.support.hosts.full_disk import largest_file
from tests.support.houses.web_server import Web, bearer, running_web, until
from tests.support.providers.studio_image_child import studio_order


def files_in(folder: Path) -> list[str]:
    return sorted(name for _, _, names in os.walk(folder) for name in names)


def noise(side: int) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((side, side), 90).convert("RGB").save(file, "JPEG", quality=95)
    return file.getvalue()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_errors_that_mean_a_full_disk(number: int) -> None:
    assert is_full(OSError(number, os.strerror(number)))
    assert not is_full(OSError(errno.EIO, "")) and not is_full(ValueError())


def test_a_store_without_room_says_so_and_keeps_no_half(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path / "files")
    with largest_file(1000), pytest.raises(NoRoom, match="is full; free some space"):
        files.put("results/a.jpg", io.BytesIO(bytes(5000)))
    assert files_in(tmp_path) == []
    files.put("results/a.jpg", io.BytesIO(bytes(5000)))
    assert files_in(tmp_path) == ["a.jpg"]


def test_a_folder_that_cant_be_written_is_a_store_that_is_away(tmp_path: Path) -> None:
    (tmp_path / "files").write_text("in the way")
    with pytest.raises(StoreAway, match="can't be written") as raised:
        LocalFiles(tmp_path / "files").put("results/a.jpg", io.BytesIO(b"x"))
    assert not isinstance(raised.value, NoRoom)


def test_received_bytes_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    with largest_file(1000), pytest.raises(OSError, match="File too large"):
        write_whole(tmp_path / "answer", bytes(5000))
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("task", ["plain", "photography"])
def test_an_image_child_without_room_says_so_and_keeps_no_half(tmp_path: Path, task: str) -> None:
    source = tmp_path / "source"
    source.write_bytes(noise(300) if task == "plain" else Path("examples/samples/portrait.png").read_bytes())
    out = tmp_path / "out"
    out.mkdir()

    def told() -> dict[str, Any]:
        said = io.StringIO()
        decode = io.StringIO('{"id": 1, "decode": true}\n')
        serve(request, Parent(decode, said, None), {"plain": _plain, "photography": studio_order})
        return dict(json.loads(said.getvalue().splitlines()[-1]))

    request: dict[str, Any] = {"id": 1, "task": task, "out": str(out)}
    request |= (
        {"files": [{"n": 0, "path": str(source)}], "most_pixels": 0}
        if task == "plain"
        else {"person": str(source), "scene": "studio", "count": 1, "seed": 1}
    )
    with largest_file(1000):
        assert told()["error"]["code"] == "no_room"
    assert files_in(out) == []
    assert len(told()["made"]) == 1


def test_an_attempt_that_met_a_full_disk_is_counted_for_none() -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    budget = Budget(failures=2, deaths=0, max_attempts=3)
    assert isinstance(after_error(budget, full, may_bill_twice=False, chance=0.5), Postpone)
    answer, _ = after_question(full, Doubts(), may_bill_twice=False, usual_seconds=5)
    assert isinstance(answer, Running) and answer.stage == WAITING


def test_an_attempt_that_waits_for_room_passes_no_deadline(
    store: Store, clock: Clock, claimed_task: Any, polled_task: Any
) -> None:
    claim = claimed_task()
    task_id, lease = polled_task("o-2")
    clock.advance(600)
    for held in ((claim.task_id, claim.lease), (task_id, lease)):
        assert store.write(lambda tx, held=held: claims.stand_still(tx, *held, WAITING, 3600))
        assert store.task(held[0])["stage"] == store.work(held[0])["stage"] == WAITING
    assert store.value(
        "SELECT count(*) FROM task_queue WHERE deadline_at > ? OR remote_deadline_at > ?",
        *[clock.now().strftime("%Y-%m-%dT%H:%M:%S.000Z")] * 2,
    )
    before = store.task(claim.task_id)["deadline_at"]
    store.write(lambda tx: claims.stand_still(tx, claim.task_id, claim.lease, WAITING, 1))
    assert store.task(claim.task_id)["deadline_at"] == before, "a deadline is never moved back"
    assert not store.write(lambda tx: claims.stand_still(tx, claim.task_id, claim.lease + 1, WAITING, 1))


async def test_a_stage_reported_before_the_wait_is_not_written_after_it(
    store: Store, claimed_task: Any
) -> None:
    claim = claimed_task()
    progress = ProgressReport(store.database, claim.task_id, claim.lease)
    progress.report(85, "collecting the pictures")  # it is written a moment later
    progress.waits(WAITING)
    await store.database.write_async(
        lambda tx: claims.stand_still(tx, claim.task_id, claim.lease, WAITING, 60), order_key=claim.task_id
    )
    await until(lambda: store.task(claim.task_id)["progress"] == 85, "what was reported is written")
    progress.close()
    assert store.task(claim.task_id)["stage"] == WAITING


# --- uploads ---


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[Web]:
    async with running_web(tmp_path) as running:
        yield running


async def _upload(http: aiohttp.ClientSession, web: Web, data: bytes) -> tuple[int, str | None]:
    headers = bearer("o-1") | {"Content-Type": "image/jpeg"}
    async with http.post(web.url + "/v1/images", data=data, headers=headers) as answer:
        return answer.status, answer.headers.get("Retry-After")


@pytest.mark.parametrize("side", [100, 900], ids=["when it is stored", "while it is received"])
async def test_an_upload_to_a_full_disk_may_come_again(
    web: Web, http: aiohttp.ClientSession, side: int
) -> None:
    data = noise(side)
    with largest_file(1000):
        status, retry_after = await _upload(http, web, data)
    assert status == 503 and int(retry_after or 0) > 0
    assert files_in(web.settings.data_dir / "files") == [] and web.sql("SELECT count(*) FROM image") == [(0,)]
    assert await _upload(http, web, data) == (201, None)


async def test_an_upload_whose_commit_is_of_unknown_outcome_keeps_its_object(
    web: Web, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await _upload(http, web, noise(100)) == (201, None)  # whereby the user is met
    write = web.context.database.write_async

    async def lost(step: Any, **more: Any) -> Any:
        await write(step, **more)  # it was committed, and the answer was lost
        raise OutcomeUnknown

    with monkeypatch.context() as patch:
        patch.setattr(web.context.database, "write_async", lost)
        status, _ = await _upload(http, web, noise(100))
    assert status == 503
    keys = {key for (key,) in web.sql("SELECT key FROM image")}
    assert len(keys) == 2 and all((web.settings.data_dir / "files" / key).exists() for key in keys)
