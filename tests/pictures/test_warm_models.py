"""Models that stay loaded: killable, replaced, bounded in time and memory, and in nobody's way."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from PIL import Image

from actors.files.scratch import Scratch
from actors.providers import base
from actors.providers.base import (
    ContentRejected,
    Done,
    InvalidInput,
    Job,
    Lost,
    ProviderError,
    RateLimited,
    Transient,
)
from actors.providers.warm.messages import done_in, error_in, job_in, request_for, told_of, told_of_error
from actors.providers.warm.processes import WarmProcesses
from actors.providers.warm.provider import ModelNotLoaded, WarmProvider
from actors.registry.adapters import check_provider, open_provider
from config.load_settings import SettingsError, load_settings
from config.settings import Settings
from supervisor.core.errors import SettingFault
from tests.support.image_children import _OF_OTHERS, children
from tests.support.repository import ROOT
from tests.support.waiting import PATIENCE_SECONDS

Open = Callable[..., WarmProvider]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


class House:
    """What a provider has of its worker."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings


@pytest.fixture(autouse=True, scope="module")
def note_children_of_others() -> None:
    """multiprocessing's helpers live as long as the test run."""
    _OF_OTHERS.update(children())


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Open]:
    """Opens a provider with such a model; options: of its settings."""
    made: list[WarmProvider] = []

    def open_one(*, env: dict[str, str] | None = None, **options: Any) -> WarmProvider:
        options = {"class": "tests.support.providers.troubled_model:TroubledModel"} | options
        settings = Settings(
            data_dir=tmp_path,
            providers={
                "mine": {"kind": "python", "options": options, "env": env or {}, "secrets": {"KEY": "k-1"}}
            },
        )
        provider = open_provider("mine", House(settings))  # type: ignore[arg-type]
        assert isinstance(provider, WarmProvider)
        made.append(provider)
        return provider

    yield open_one
    for provider in made:
        await provider.close()
    assert children() == set()


def job(folder: Path, prompt: str = "", **changes: Any) -> Job:
    values: dict[str, Any] = {
        "task_id": "t-1", "type": "poster", "params": {"prompt": prompt}, "inputs": (Path("/a.png"),), "pictures": (0,),
        "count": 1, "seed": 9, "scratch": Scratch(folder / "scratch"), "ai_timeout_seconds": PATIENCE_SECONDS,
    }  # fmt: skip
    return Job(**(values | changes))


def ignore(percent: int, stage: str) -> None:
    pass


def _has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


async def until(claim: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not claim():  # noqa: ASYNC110  /proc rings no bell
            await asyncio.sleep(0.02)


async def test_it_is_loaded_once_and_its_user_sees_that(opened: Open, tmp_path: Path) -> None:
    provider, seen = opened(), list[tuple[int, str]]()
    first = await provider.submit(job(tmp_path), lambda *report: seen.append(report))
    again = await provider.submit(job(tmp_path), lambda *report: seen.append(report))
    assert (first.data["calls"], again.data["calls"]) == (1, 2)
    assert first.data["pid"] == again.data["pid"] and first.data["inputs"] == ["/a.png"]
    assert seen == [(2, "loading the model"), (10, "working"), (10, "working")]


async def test_what_is_made_comes_back_whole(opened: Open, tmp_path: Path) -> None:
    provider = opened()
    done = await provider.submit(job(tmp_path, "files"), ignore)
    (film,) = done.files
    assert film.path.read_text() == "a film" and (film.name, film.duration_seconds) == ("film.txt", 4.0)
    assert done.data == [1, None]
    large = await provider.submit(job(tmp_path, "large"), ignore)
    assert len(large.data["text"]) == 200_000


@pytest.mark.parametrize(
    ("prompt", "kind", "code"),
    [
        ("reject", ContentRejected, "content_rejected"),
        ("wait", RateLimited, "provider_error"),
        ("break", Transient, "internal"),
        ("wrong", Transient, "internal"),
    ],
)
async def test_what_it_raises_keeps_its_class_and_its_process_lives_on(
    opened: Open, tmp_path: Path, prompt: str, kind: type[Exception], code: str
) -> None:
    provider = opened()
    before = await provider.submit(job(tmp_path), ignore)
    with pytest.raises(kind) as caught:
        await provider.submit(job(tmp_path, prompt), ignore)
    assert caught.value.code == code and "Traceback" not in str(caught.value)  # type: ignore[attr-defined]
    assert getattr(caught.value, "wait_seconds", 7) == 7
    assert (await provider.submit(job(tmp_path), ignore)).data["pid"] == before.data["pid"]


async def test_a_crash_costs_its_task_alone(opened: Open, tmp_path: Path) -> None:
    provider = opened()
    before = await provider.submit(job(tmp_path), ignore)
    with pytest.raises(Transient) as caught:
        await provider.submit(job(tmp_path, "crash"), ignore)
    assert caught.value.code == "worker_died" and caught.value.retryable
    after = await provider.submit(job(tmp_path), ignore)
    assert after.data["pid"] != before.data["pid"] and after.data["calls"] == 1


async def test_it_can_ask_nobody(opened: Open, tmp_path: Path) -> None:
    """Neither a person, nor the pipe with its next request."""
    provider = opened()
    with pytest.raises(Transient) as caught:
        await provider.submit(job(tmp_path, "ask"), ignore)
    assert caught.value.code == "internal"
    assert (await provider.submit(job(tmp_path), ignore)).data["calls"] == 2


async def test_its_progress_belongs_to_its_job_and_may_come_from_threads(
    opened: Open, tmp_path: Path
) -> None:
    provider, seen = opened(), list[tuple[int, str]]()

    async def reported(prompt: str) -> list[tuple[int, str]]:
        seen.clear()
        await provider.submit(job(tmp_path, prompt), lambda *said: seen.append(said))
        return [each for each in seen if each[1] not in ("working", "loading the model")]

    assert await reported("report -7") == [(10, "reported")]
    assert {percent for percent, _ in await reported("report by threads")} == {50}
    assert await reported("report too late") == []
    assert await reported("report what is late") == []


@pytest.mark.parametrize("written", ["[1, 2]", "7", "null", '{"id": 2}', '{"id": 2, "progress": "x"}'])
async def test_what_it_writes_into_our_pipe_costs_its_task_alone(
    opened: Open, tmp_path: Path, written: str
) -> None:
    provider = opened()
    await provider.submit(job(tmp_path), ignore)
    with pytest.raises(Transient) as caught:
        await provider.submit(job(tmp_path, f"write {written}"), ignore)
    assert caught.value.code == "worker_died"
    assert (await provider.submit(job(tmp_path), ignore)).data["calls"] == 1


@pytest.mark.parametrize("how", ["fork", "program", "daemon"])
@pytest.mark.parametrize("then", ["crash", "hang", ""])
async def test_what_it_has_started_ends_with_it(opened: Open, tmp_path: Path, how: str, then: str) -> None:
    """Else it would hold memory, and the pipes for whose end its job waits."""
    notes = tmp_path / "notes"
    provider = opened(notes=str(notes))
    await provider.submit(job(tmp_path), ignore)
    ordered = job(
        tmp_path, f"start {how} {then}", ai_timeout_seconds=1 if then == "hang" else PATIENCE_SECONDS
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        if then:
            with pytest.raises(Transient) as caught:
                await provider.submit(ordered, ignore)
            assert caught.value.code == ("worker_died" if then == "crash" else "ai_timeout")
        else:
            await provider.submit(ordered, ignore)
            await provider.close()
    (started,) = (int(line.split()[1]) for line in notes.read_text().splitlines() if "started" in line)
    await until(lambda: _has_ended(started))


async def test_one_that_dies_while_idle_costs_nobody(opened: Open, tmp_path: Path) -> None:
    provider = opened()
    before = await provider.submit(job(tmp_path), ignore)
    os.kill(before.data["pid"], signal.SIGKILL)
    assert (await provider.submit(job(tmp_path), ignore)).data["pid"] != before.data["pid"]


async def test_one_that_dies_as_it_is_asked_costs_nobody(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looked alive a moment before."""
    provider = opened()
    before = await provider.submit(job(tmp_path), ignore)
    put_in = WarmProcesses._ask
    killed = []

    async def die_first(self: Any, child: Any, *args: Any) -> Any:
        if not killed:
            killed.append(child.process.pid)
            os.kill(child.process.pid, signal.SIGKILL)
        return await put_in(self, child, *args)

    monkeypatch.setattr(WarmProcesses, "_ask", die_first)
    after = await provider.submit(job(tmp_path), ignore)
    assert killed == [before.data["pid"]] != [after.data["pid"]]


async def test_the_ai_time_out_binds_and_loading_is_not_part_of_it(opened: Open, tmp_path: Path) -> None:
    provider = opened(**{"class": "examples.models.slow_poster:SlowPoster", "loading_seconds": "1.5"})
    assert await provider.submit(job(tmp_path, ai_timeout_seconds=1.4), ignore)
    hanging = opened()
    with pytest.raises(Transient) as caught:
        await hanging.submit(job(tmp_path, "hang", ai_timeout_seconds=0.3), ignore)
    assert caught.value.code == "ai_timeout"


@pytest.mark.parametrize(
    ("load", "said"),
    [("fail", "CUDA driver version"), ("die", "ended while it was loaded"), ("hang", "within 1 s")],
)
async def test_a_model_that_cant_be_loaded_costs_no_attempt(
    opened: Open, tmp_path: Path, load: str, said: str
) -> None:
    provider = opened(load=load, load_seconds="1" if load == "hang" else "60")
    with pytest.raises(ModelNotLoaded, match=said) as caught:
        await provider.submit(job(tmp_path), ignore)
    assert caught.value.waits_for == "wrong_settings" and caught.value.wait_seconds > 1


async def test_a_cancel_kills_it(opened: Open, tmp_path: Path) -> None:
    provider, working = opened(), asyncio.Event()
    run = asyncio.create_task(
        provider.submit(job(tmp_path, "hang"), lambda *said: said[1] == "working" and working.set())
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        await working.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert children() == set()


async def test_one_that_has_grown_is_replaced_after_its_call(opened: Open, tmp_path: Path) -> None:
    provider = opened(memory_mib="150")
    pids = [(await provider.submit(job(tmp_path, "leak 60"), ignore)).data["pid"] for _ in range(8)]
    assert 2 <= len(set(pids)) < len(pids), "each had its share, and none had all"


async def test_one_that_grows_beyond_all_bounds_is_killed_within_its_call(
    opened: Open, tmp_path: Path
) -> None:
    provider = opened(memory_mib="100")
    with pytest.raises(Transient, match="more than 200 MiB") as caught:
        await provider.submit(job(tmp_path, "hold 400"), ignore)
    assert caught.value.code == "worker_died"


async def test_an_idle_one_closes_its_model_and_ends(opened: Open, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    provider = opened(idle_seconds="0.3", notes=str(notes))
    await provider.submit(job(tmp_path), ignore)
    await until(lambda: children() == set())
    assert notes.read_text().split("\n")[:3] == ["load", "make t-1", "close"]
    await provider.submit(job(tmp_path), ignore)


async def test_an_end_in_good_order_closes_the_model(opened: Open, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    provider = opened(notes=str(notes))
    await provider.submit(job(tmp_path), ignore)
    await provider.close()
    assert notes.read_text().endswith("close\n") and children() == set()


async def test_a_drain_lets_it_finish(opened: Open, tmp_path: Path) -> None:
    provider = opened(**{"class": "examples.models.slow_poster:SlowPoster", "loading_seconds": "0.5"})
    run = asyncio.create_task(provider.submit(job(tmp_path), ignore))
    await until(children)
    for pid in children():
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGINT)
    # One that was hit before it had said that it ignores them could not be loaded; nothing else may come of it.
    try:
        assert len((await run).images) == 1
    except ModelNotLoaded:
        assert len((await provider.submit(job(tmp_path), ignore)).images) == 1


async def test_what_it_prints_is_logged_with_the_tasks_id(opened: Open, tmp_path: Path) -> None:
    provider = opened()
    with structlog.testing.capture_logs() as lines:
        await provider.submit(job(tmp_path, "say hello", task_id="t-77"), ignore)
        await provider.close()
    said = [(line["task"], line["line"]) for line in lines if line["event"] == "model_says"]
    assert sorted(said) == [("t-77", "and natively"), ("t-77", "hello")], (
        "of two pipes, whichever comes first"
    )


async def test_it_knows_its_own_variables_and_none_of_our_secrets(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DARKROOM_SECRET", "of the tests, and of nothing else 0123")
    monkeypatch.setenv("HF_HOME", "/models")
    provider = opened(env={"CUDA_VISIBLE_DEVICES": "1"})
    told = (await provider.submit(job(tmp_path, "env"), ignore)).data
    assert told["env"]["CUDA_VISIBLE_DEVICES"] == "1" and told["env"]["HF_HOME"] == "/models"
    assert not [name for name in told["env"] if name.startswith("DARKROOM_")]
    assert told["secrets"] == {"KEY": "k-1"}
    assert set(filter(None, sys.path)) <= set(told["path"])


async def test_under_which_a_worker_has_died_runs_in_a_process_of_its_own(
    opened: Open, tmp_path: Path
) -> None:
    provider = opened()
    shared = await provider.submit(job(tmp_path), ignore)
    own = await provider.submit(job(tmp_path, own_process=True), ignore)
    assert own.data["pid"] != shared.data["pid"] and children() == set()


def test_jobs_are_plain_values(tmp_path: Path) -> None:
    request = request_for(job(tmp_path, "a"))
    plain = job_in(request)
    assert pickle.loads(pickle.dumps(plain)) == plain and plain.folder.is_dir()
    assert done_in(told_of(Done(data={"a": 1}))) == Done(data={"a": 1})
    for error in (ContentRejected("No."), RateLimited("Later.", wait_seconds=3), ModelNotLoaded("Away.")):
        back = error_in(json.loads(json.dumps(told_of_error(error))))
        assert isinstance(error, type(back)) and str(back) == str(error)
        assert getattr(back, "wait_seconds", 0) == getattr(error, "wait_seconds", 0)


def test_every_error_that_it_may_raise_comes_back() -> None:
    kinds = [
        kind for kind in vars(base).values() if isinstance(kind, type) and issubclass(kind, ProviderError)
    ]
    assert {ContentRejected, Lost, RateLimited} <= set(kinds)
    for kind in kinds:
        back = error_in(json.loads(json.dumps(told_of_error(kind("In words.")))))
        assert isinstance(back, Transient if kind is Lost else kind) and str(back) == "In words."


@pytest.mark.parametrize("wait", [-5, float("nan"), float("inf"), "soon", [1]])
def test_a_wait_that_is_none_becomes_the_usual_one(wait: Any) -> None:
    back = error_in(told_of_error(RateLimited("Later.", wait_seconds=wait)))
    assert isinstance(back, RateLimited) and back.wait_seconds == RateLimited.usual_wait_seconds


@pytest.mark.parametrize(
    ("option", "value"), [("processes", "0"), ("memory_mib", "1.5"), ("load_seconds", "0")]
)
def test_wrong_options_stop_the_start(tmp_path: Path, option: str, value: str) -> None:
    options = {"class": "tests.support.providers.troubled_model:TroubledModel", option: value}
    settings = Settings(data_dir=tmp_path, providers={"mine": {"kind": "python", "options": options}})
    with pytest.raises(SettingFault, match=f"PROVIDERS__mine__OPTIONS__{option} is '{value}'"):
        check_provider("mine", settings)


def test_variables_keep_the_case_of_their_names() -> None:
    given = {
        "DARKROOM_CONFIG": "",
        "DARKROOM_PROVIDERS__MINE__KIND": "python",
        "DARKROOM_PROVIDERS__MINE__ENV__CUDA_VISIBLE_DEVICES": "0",
        "DARKROOM_PROVIDERS__ENV__KIND": "python",
    }
    providers = load_settings(given).providers
    assert providers["mine"].env == {"CUDA_VISIBLE_DEVICES": "0"} and providers["env"].kind == "python"


@pytest.mark.parametrize("env", [{"A=B": "1"}, {"": "1"}, {"A": "\0"}, {"A\0": "1"}])
def test_variables_that_no_process_may_have_stop_the_start(tmp_path: Path, env: dict[str, str]) -> None:
    provider = {"kind": "python", "options": {"class": "a:B"}, "env": env}
    with pytest.raises(ValueError, match=r"ENV sets .* but a variable's name may be any text without ="):
        Settings(data_dir=tmp_path, providers={"mine": provider})


@pytest.mark.parametrize(
    ("setting", "value"),
    [("ENV__A", "a\0b"), ("COST_UNIT", "US dollars"), ("PRESET", "fax"), ("ENV__A=B", "1")],
)
def test_a_sentence_about_a_providers_setting_names_the_provider(setting: str, value: str) -> None:
    given = {"DARKROOM_CONFIG": "", "DARKROOM_PROVIDERS__MINE__KIND": "python"}
    with pytest.raises(SettingsError, match=f"DARKROOM_PROVIDERS__mine__{setting.partition('__')[0]} "):
        load_settings(given | {f"DARKROOM_PROVIDERS__MINE__{setting}": value})


async def test_the_example_with_a_model_of_a_package_cuts_a_person_out(opened: Open, tmp_path: Path) -> None:
    provider = opened(**{"class": "examples.models.cut_out:CutOut"})
    portrait = ROOT / "examples" / "samples" / "portrait.png"
    (made,) = (await provider.submit(job(tmp_path, inputs=(portrait,)), ignore)).images
    with Image.open(made.path) as cut:
        alpha = cut.getchannel("A")
        assert cut.size == (made.width, made.height) == Image.open(portrait).size
        assert alpha.getpixel((5, 5)) < 50 < 200 < alpha.getpixel((cut.width // 2, cut.height // 2))
    (tmp_path / "no.png").write_bytes(b"no picture")
    with pytest.raises(InvalidInput):
        await provider.submit(job(tmp_path, inputs=(tmp_path / "no.png",)), ignore)
