"""Without the `studio` extra: framed cards that say so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from actors.providers.studio.fallback import STAGE, make_cards
from actors.providers.studio.orders.order import SCENES, read_order
from tests.support.repository import ROOT

SAMPLES = ROOT / "examples" / "samples"
# None in sys.modules makes an import fail as if the package were not installed
WITHOUT_EXTRA = (
    "import sys; sys.modules['numpy'] = sys.modules['ai_edge_litert'] = None; "
    "from tests.support.providers.studio_image_child import main; sys.argv = ['image_child']; main()"
)


def test_cards_differ_by_scene_and_number(tmp_path: Path) -> None:
    seen = []
    for scene in SCENES:
        request = {
            "task": "photography",
            "person": str(SAMPLES / "portrait.png"),
            "scene": scene,
            "count": 2,
            "size": 300,
        }
        for made in make_cards(
            read_order(request | {"out": str(tmp_path / scene)}), lambda percent, stage: None
        ):
            seen.append(np.asarray(Image.open(made.path), np.float32) / 255)
    for i, a in enumerate(seen):
        for b in seen[i + 1 :]:
            assert np.abs(a - b).mean() > 0.02


def test_a_child_without_the_extra_makes_cards_and_says_so(tmp_path: Path) -> None:
    request = {
        "id": 1, "task": "fitting", "person": str(SAMPLES / "portrait.png"), "garment": str(SAMPLES / "garment.png"),
        "out": str(tmp_path), "count": 2,
    }  # fmt: skip
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRA],
        input=json.dumps(request) + "\n", env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    answers = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [image["n"] for image in answers[-1]["made"]] == [0, 1]
    assert answers[-2]["stage"] == STAGE
    with Image.open(tmp_path / "0.jpg") as card:
        assert card.size == (1024, 1024)
