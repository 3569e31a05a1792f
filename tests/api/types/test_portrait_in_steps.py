"""The example with steps in docs/task-types.md in a running `darkroom up`: cut out, painted, enlarged, and paid once.

The only fake is the painter, a server with the answers of a third-party AI service.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from darkroom_client import Darkroom
from PIL import Image

from tests.support.fakes.painter import GROUNDS, Painter, portrait_house
from tests.support.running_system import DARKROOM, SAMPLES, RunningSystem
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(180)

PROMPT = "By the sea, ${params.prompt} ${steps.cut_out.images.0}"  # a user's text is no template
PORTRAIT = (SAMPLES / "portrait.png").read_bytes()


@pytest.fixture(scope="module")
def painters() -> Iterator[tuple[Painter, Painter]]:
    with Painter() as flux, Painter() as backup:
        yield flux, backup


@pytest.fixture(scope="module")
def house(
    painters: tuple[Painter, Painter], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningSystem]:
    with portrait_house(tmp_path_factory.mktemp("portrait"), *painters) as opened:
        yield opened


def ask(house: RunningSystem, path: str, body: Any = None) -> bytes:
    """The answer to a GET, or to a POST of a picture or of JSON."""
    kind = "image/png" if isinstance(body, bytes) else "application/json"
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"{house.url}{path}", data, {"Content-Type": kind})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return bytes(answer.read())


def order(house: RunningSystem, **params: Any) -> str:
    """The id of a new portrait."""
    image = json.loads(ask(house, "/v1/images", PORTRAIT))["id"]
    body = {"type": "portrait", "params": {"images": [image], **params}}
    return str(json.loads(ask(house, "/v1/tasks", body))["task_id"])


def ended(house: RunningSystem, task_id: str) -> dict[str, Any]:
    """The task, once it is over; its progress may not fall until then."""
    least = 0

    def look() -> dict[str, Any] | None:
        nonlocal least
        task: dict[str, Any] = json.loads(ask(house, f"/v1/tasks/{task_id}"))
        assert task["progress"] >= least, "progress never falls"
        least = task["progress"]
        return task if task["status"] in ("completed", "failed", "cancelled") else None

    found: dict[str, Any] = eventually("the portrait is over", look, seconds=120)
    return found


def balance(house: RunningSystem) -> int:
    return int(json.loads(ask(house, "/v1/credits"))["balance"])


def picture(house: RunningSystem, shown: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(ask(house, shown["url"])))


def said_by(house: RunningSystem, *command: str) -> str:
    return subprocess.run(
        [str(DARKROOM), *command], env=house.environ, capture_output=True, text=True, check=True
    ).stdout


def test_a_portrait_is_cut_out_painted_and_enlarged(
    house: RunningSystem, painters: tuple[Painter, Painter]
) -> None:
    painter = painters[0]
    before, asked = balance(house), len(painter.asked)
    task = ended(house, order(house, prompt=PROMPT, count=2))
    assert task["status"] == "completed", task["error"]
    [request] = painter.asked[asked:]
    assert request["n"] == 2 and request["prompt"] == f"{PROMPT}, studio light"
    assert balance(house) == before - 6

    assert [(step["name"], step["status"], step["progress"]) for step in task["steps"]] == [
        ("cut_out", "done", 100), ("paint", "done", 100), ("enlarge", "done", 100)
    ]  # fmt: skip
    assert all(step["run_seconds"] > 0 for step in task["steps"])
    cut = picture(house, task["steps"][0]["images"][0])
    assert cut.format == "PNG" and cut.mode == "RGBA" and cut.size == (512, 512)
    assert "images" not in task["steps"][1], "its files go when the task has ended"

    made = [picture(house, each) for each in task["result"]["images"]]
    assert [each.size for each in made] == [(1024, 1024)] * 2
    face = (180, 80, 260, 180)
    original = np.asarray(Image.open(io.BytesIO(PORTRAIT)).convert("RGB").crop(face), np.float32)
    for each, colour in zip(made, GROUNDS, strict=False):
        small = each.convert("RGB").resize((512, 512), Image.Resampling.BOX)
        likeness = np.corrcoef(np.asarray(small.crop(face), np.float32).ravel(), original.ravel())[0, 1]
        assert likeness > 0.9, "the face is kept"
        ground = np.asarray(small, np.float32)[20:120, 350:450].mean((0, 1))
        assert ground.argmax() == np.argmax(colour), "before the painted ground"


def test_a_painter_that_is_away_is_replaced_by_its_fallback(
    house: RunningSystem, painters: tuple[Painter, Painter]
) -> None:
    flux, backup = painters
    flux.answer_with = 401
    asked = len(backup.asked)
    try:
        task = ended(house, order(house, prompt="a garden"))
    finally:
        flux.answer_with = 200
    assert task["status"] == "completed", task["error"]
    assert len(backup.asked) == asked + 1 and [step["status"] for step in task["steps"]] == ["done"] * 3


def test_the_python_client_reads_the_steps(house: RunningSystem) -> None:
    with Darkroom(house.url) as client:
        task = client.task(ended(house, order(house, prompt="a hill"))["task_id"])
        assert [(step.name, step.status) for step in task.steps] == [
            (name, "done") for name in ("cut_out", "paint", "enlarge")
        ]
        [cut] = task.steps[0].images
        assert client.fetch(cut).startswith(b"\x89PNG") and task.steps[1].images == ()


def test_the_types_steps_and_the_history_are_shown(house: RunningSystem) -> None:
    types = {each["type"]: each for each in json.loads(ask(house, "/v1/types"))["items"]}
    assert types["portrait"]["steps"] == ["cut_out", "paint", "enlarge"] and types["fitting"]["steps"] == []
    task = ended(house, order(house, prompt="a street"))
    items = json.loads(ask(house, f"/v1/tasks/{task['task_id']}/events"))["items"]
    events = [each["event"] for each in items if each["event"] != "claimed"]
    assert events == ["submitted", "debited", "admitted", "advanced", "advanced", "completed"]
    shown = said_by(house, "show", task["task_id"])
    assert re.search(r"^cut_out  done +[\d.]+ s$", shown, re.MULTILINE)
    said = said_by(house, "types")
    assert "steps: cut_out, paint, enlarge" in said


def test_the_run_time_of_each_step_is_a_metric(house: RunningSystem) -> None:
    ended(house, order(house, prompt="a wood"))
    lines = ask(house, "/metrics").decode().splitlines()
    for step in ("cut_out", "paint", "enlarge"):
        of_step = [
            line
            for line in lines
            if line.startswith("darkroom_step_run_seconds_count{") and f'"{step}"' in line
        ]
        assert [float(line.split()[-1]) >= 1 for line in of_step if '"completed"' in line] == [True]
        assert len(of_step) == 3, "completed, failed and cancelled, from the first scrape on"
