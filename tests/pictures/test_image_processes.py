"""The pool of image children: they can be killed and reused, and leave nothing behind."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from actors.attempts import jobs
from actors.attempts.jobs import job_of
from actors.files.scratch import Scratch
from actors.providers.base import Job
from config.settings import Settings
from supervisor.core.claim import Claim
from supervisor.core.rescue import Budget
from supervisor.pictures.child_process import ImageProcessDied, ImageWorkFailed, child_environment
from supervisor.pictures.process_pool import ImageProcesses
from tests.support.image_children import _OF_OTHERS, _read, children
from tests.support.providers.studio_image_child import open_image_processes
from tests.support.repository import ROOT

SAMPLES = ROOT / "examples" / "samples"
PATIENCE_SECONDS = 90.0  # for what takes a second or two on a machine with nothing else to do
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture
async def pool() -> AsyncIterator[ImageProcesses]:
    processes = open_image_processes(1)
    yield processes
    await processes.close()
    assert children() == set()


def order(out: Path, **changes: Any) -> dict[str, Any]:
    """A quick request; eight pictures at full size make a long one."""
    return {
        "task": "photography",
        "person": str(SAMPLES / "portrait.png"),
        "size": 160,
        "out": str(out),
    } | changes


LONG = {"count": 8, "size": 1024}


@pytest.fixture(autouse=True, scope="module")
def note_children_of_others() -> None:
    """multiprocessing's helpers live as long as the test run."""
    _OF_OTHERS.update(children())


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def ignore(percent: int, stage: str) -> None:
    pass


async def start_one(pool: ImageProcesses) -> None:
    """A child that waits for its first request."""
    pool._idle.append(await pool._start())


async def begun(
    pool: ImageProcesses, request: dict[str, Any], **options: Any
) -> asyncio.Task[list[dict[str, Any]]]:
    """A run whose child has already said that it works."""
    working = asyncio.Event()
    run = asyncio.create_task(
        pool.run(request, lambda percent, stage: working.set(), PATIENCE_SECONDS, **options)
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        await working.wait()
    return run


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


async def eventually(claim: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    async with asyncio.timeout(seconds):
        while not claim():  # noqa: ASYNC110  /proc rings no bell
            await asyncio.sleep(0.02)


async def test_progress_rises_and_the_pictures_lie_there(pool: ImageProcesses, tmp_path: Path) -> None:
    seen: list[tuple[int, str]] = []
    images = await pool.run(order(tmp_path, count=2), lambda *report: seen.append(report), PATIENCE_SECONDS)
    assert [image["n"] for image in images] == [0, 1]
    assert all(Image.open(image["path"]).size == (image["width"], image["height"]) for image in images)
    percents = [percent for percent, _ in seen]
    assert percents == sorted(percents) and 0 <= percents[0] < 10 and 80 < percents[-1] <= 99
    assert all(stage for _, stage in seen)


async def test_a_child_is_used_again(pool: ImageProcesses, tmp_path: Path) -> None:
    await start_one(pool)
    first = children()
    await pool.run(order(tmp_path / "a"), ignore, PATIENCE_SECONDS)
    await pool.run(order(tmp_path / "b", scene="night"), ignore, PATIENCE_SECONDS)
    assert len(first) == 1 and children() == first


async def test_a_fault_is_an_answer_and_the_child_lives_on(pool: ImageProcesses, tmp_path: Path) -> None:
    await start_one(pool)
    first = children()
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 not much of a picture")
    for wrong, code in (({"person": str(broken)}, "image_unusable"), ({"scene": "moon"}, "bad_params")):
        with pytest.raises(ImageWorkFailed) as caught:
            await pool.run(order(tmp_path, **wrong), ignore, PATIENCE_SECONDS)
        assert caught.value.code == code
        assert caught.value.message.endswith(".") and "Traceback" not in caught.value.message
    assert children() == first


async def test_a_cancel_kills_and_reaps_the_child(pool: ImageProcesses, tmp_path: Path) -> None:
    run = await begun(pool, order(tmp_path, **LONG))
    [pid] = children()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert gone(pid), "dead and reaped by the time the cancel is through"
    await pool.run(order(tmp_path / "next"), ignore, PATIENCE_SECONDS)


async def test_a_time_out_kills_the_child(pool: ImageProcesses, tmp_path: Path) -> None:
    await start_one(pool)
    [pid] = children()
    with pytest.raises(TimeoutError):
        await pool.run(order(tmp_path, **LONG), ignore, 0.3)
    assert gone(pid)


async def test_a_killed_child_is_reported_and_replaced(pool: ImageProcesses, tmp_path: Path) -> None:
    run = await begun(pool, order(tmp_path, **LONG))
    [pid] = children()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ImageProcessDied):
        await run
    assert len(await pool.run(order(tmp_path / "next"), ignore, PATIENCE_SECONDS)) == 1


async def test_a_child_that_died_idle_is_not_used(pool: ImageProcesses, tmp_path: Path) -> None:
    await start_one(pool)
    [pid] = children()
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: gone(pid))
    assert len(await pool.run(order(tmp_path), ignore, PATIENCE_SECONDS)) == 1


async def test_a_drain_lets_the_pictures_be_finished(pool: ImageProcesses, tmp_path: Path) -> None:
    run = await begun(pool, order(tmp_path, count=2, size=400))
    [pid] = children()
    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGTERM)
    assert len(await run) == 2


async def test_a_child_of_its_own_ends_with_its_request(pool: ImageProcesses, tmp_path: Path) -> None:
    await start_one(pool)
    [idle] = children()
    run = await begun(pool, order(tmp_path), own_child=True)
    assert idle not in children() and len(children()) == 1
    await run
    assert children() == set()


def _claim(*, failures: int = 0, deaths: int = 0) -> Claim:
    person = {"images": ["https://example.org/person.jpg"]}
    budget = Budget(failures, deaths, 3)
    return Claim("t-1", 1, 1, 1, "photography", "o-1", person, {}, 1, budget, 0.0)


@pytest.mark.parametrize(("failures", "deaths"), [(0, 0), (2, 0), (0, 1), (1, 2)])
async def test_a_task_under_which_a_worker_has_died_gets_a_child_of_its_own_and_no_other_task_does(
    failures: int, deaths: int, pool: ImageProcesses, tmp_path: Path
) -> None:
    worker: Any = SimpleNamespace(settings=Settings(data_dir=tmp_path))
    job = job_of(
        worker, _claim(failures=failures, deaths=deaths), "studio", pictures=(0,), scratch=Scratch(tmp_path)
    )
    await start_one(pool)
    [idle] = children()
    run = await begun(pool, order(tmp_path), own_child=job.own_process)
    assert (idle not in children()) == (deaths > 0)
    await run
    assert (children() == set()) == (deaths > 0), "who shares a child leaves it to the next"


def test_the_address_for_reports_is_made_only_if_it_is_read_and_then_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def make(_: object, name: str, reference: str) -> str:
        made.append(f"{name}/{reference}")
        return f"https://us.test/{name}/{reference}"

    monkeypatch.setattr(jobs, "callback_url", make)
    worker: Any = SimpleNamespace(settings=Settings(data_dir=tmp_path))

    def job(reference: str) -> Job:
        return job_of(
            worker, _claim(), "studio", pictures=(0,), scratch=Scratch(tmp_path), reference=reference
        )

    polled = job("r-1")
    assert dataclasses.replace(polled, callback_url="https://x.test").callback_url == "https://x.test"
    assert job("").callback_url == "" and made == []
    assert polled.callback_url == polled.callback_url == "https://us.test/studio/r-1"
    assert dataclasses.replace(polled, count=2).callback_url == polled.callback_url
    assert made == ["studio/r-1"]


async def test_waiting_callers_are_served_in_order_and_may_leave(
    pool: ImageProcesses, tmp_path: Path
) -> None:
    served: list[int] = []

    async def ask(n: int) -> None:
        await pool.run(order(tmp_path / str(n)), ignore, PATIENCE_SECONDS)
        served.append(n)

    asks = [asyncio.create_task(ask(n)) for n in range(4)]
    await asyncio.sleep(0)
    asks[2].cancel()
    await asyncio.gather(*asks, return_exceptions=True)
    assert served == [0, 1, 3]
    assert len(children()) == 1


async def test_fifty_cancelled_runs_leave_nothing(tmp_path: Path) -> None:
    pool = open_image_processes(4)
    await start_one(pool)
    before = descriptors()
    for batch in range(10):
        runs = [
            asyncio.create_task(pool.run(order(tmp_path, **LONG), ignore, PATIENCE_SECONDS)) for _ in range(5)
        ]
        await asyncio.sleep(0.02 * batch)  # from before the fork until well into the child's start
        for run in runs:
            run.cancel()
        await asyncio.gather(*runs, return_exceptions=True)
    assert len(await pool.run(order(tmp_path), ignore, PATIENCE_SECONDS)) == 1, "no place was lost"
    await pool.close()
    assert children() == set()
    await eventually(lambda: descriptors() <= before)


def test_the_pool_works_on_a_loop_in_another_thread(tmp_path: Path) -> None:
    made: list[dict[str, Any]] = []

    async def work() -> None:
        pool = open_image_processes(1)
        made.extend(await pool.run(order(tmp_path), ignore, PATIENCE_SECONDS))
        await pool.close()

    thread = threading.Thread(target=lambda: asyncio.run(work()))
    thread.start()
    thread.join(PATIENCE_SECONDS)
    assert len(made) == 1


async def test_children_die_with_their_parent(tmp_path: Path) -> None:
    program = (
        "import asyncio, json, sys\n"
        "from tests.support.providers.studio_image_child import open_image_processes\n"
        "pool = open_image_processes(1)\n"
        "asyncio.run(pool.run(json.loads(sys.argv[1]), lambda *r: print('working', flush=True), 60))\n"
    )
    parent = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", program, json.dumps(order(tmp_path, **LONG))],
        stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert parent.stdout is not None
    assert parent.stdout.readline() == "working\n"
    [child] = [int(pid) for pid in _read(Path(f"/proc/{parent.pid}/task/{parent.pid}/children")).split()]
    parent.kill()
    parent.wait()
    parent.stdout.close()
    await eventually(lambda: gone(child) or _state(child) == "Z")


def _state(pid: int) -> str:
    return _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()[:1][0] if not gone(pid) else ""


def test_a_worker_never_loads_image_libraries() -> None:
    program = (
        "import sys, actors.registry.adapters, actors.providers.studio.provider, actors.providers.base\n"
        "print([name for name in ('numpy', 'PIL', 'ai_edge_litert') if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert ran.stdout.strip() == "[]", ran.stderr


def test_a_child_learns_no_secrets() -> None:
    known = child_environment(
        {
            "PATH": "/bin",
            "DARKROOM_SECRET": "of the tests, and of nothing else 0123",
            "DARKROOM_PROVIDERS__A__SECRETS__B": "x",
            "AWS_ACCESS_KEY_ID": "x",
            "OPENAI_API_KEY": "x",
            "PGPASSFILE": "x",
        }
    )
    assert set(known) == {"PATH", "PYTHONPATH", "MALLOC_ARENA_MAX"}


async def test_stray_prints_break_no_answer(tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "import tests.support.providers.studio_image_child as child\n"
        "child.carry_out = lambda order, progress: (print('stray'), os.write(1, b'noise'), [])[2]\n"
        "sys.argv = ['image_child']; child.main()"
    )
    ran = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", program],
        input=json.dumps(order(tmp_path, id=7)) + "\n", env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=PATIENCE_SECONDS,
    )  # fmt: skip
    assert json.loads(ran.stdout) == {"id": 7, "made": []}
    assert "stray" in ran.stderr and "noise" in ran.stderr


def test_a_child_is_nice_and_starts_quickly() -> None:
    used_before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "tests.support.providers.studio_image_child"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    answer, _ = child.communicate(json.dumps({"id": 1, "task": "sculpture"}) + "\n", timeout=PATIENCE_SECONDS)
    assert json.loads(answer)["error"]["code"] == "bad_params"
    used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - used_before
    assert used < 5, "of the CPU: on a busy machine everything takes its time"
