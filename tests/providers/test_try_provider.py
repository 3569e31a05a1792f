"""`darkroom doctor --provider NAME`: a real call to a service, each step on a line, and never a secret."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

from tests.support.fakes.dashscope_service import DashScope
from tests.support.providers.adapters import GARMENT, PORTRAIT

KEY = "sk-tell-nobody-321"


def doctor(service: DashScope, folder: Path, *more: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
    provider = {
        "PRESET": "dashscope-aitryon",
        "URL": f"{service.url}/api/v1",
        "SECRETS__KEY": KEY,
        "ALLOW_PRIVATE_ADDRESSES": "true",
        **settings,
    }
    environ |= {f"DARKROOM_PROVIDERS__fitter__{name}": value for name, value in provider.items()}
    environ |= {
        "DARKROOM_DATA_DIR": str(folder / "var"),
        "DARKROOM_CONFIG": "",
        "DARKROOM_URL": "https://us.test",
    }
    command = [
        str(Path(sys.executable).with_name("darkroom")),
        "doctor",
        "--provider",
        *(more or ("fitter",)),
    ]
    return subprocess.run(command, env=environ, capture_output=True, text=True, cwd=folder, timeout=100)


def test_a_service_that_works_is_shown_step_by_step_and_its_picture_is_saved(tmp_path):
    with DashScope() as service:
        out = tmp_path / "made.jpg"
        photos = ("--image", str(PORTRAIT), "--image", str(GARMENT))
        done = doctor(service, tmp_path, "fitter", *photos, "--out", str(out))
        assert done.returncode == 0, done.stderr
        assert [line.split()[3] for line in done.stdout.splitlines() if line.startswith("ok")] == [
            "settings",
            "request",
            "accepted",
            "picture",
        ]
        assert "the service calls the job task-0" in done.stdout
        assert "running at the AI service" in done.stdout
        assert Image.open(out).size == (40, 30)
        link = service.asked[0][3]["input"]["person_image_url"]
        assert link.startswith("https://us.test/files/inputs/doctor-")
    assert not list((tmp_path / "var" / "files").rglob("*.jpg"))  # what was put down for the service is gone


def test_a_service_that_refuses_us_is_said_with_what_to_do_and_without_the_key(tmp_path):
    with DashScope() as service:
        done = doctor(service, tmp_path, SECRETS__KEY="wrong-" + KEY)
    assert done.returncode == 1
    assert "ProviderDown" in done.stdout and "look at the key" in done.stdout
    assert "has made no picture" in done.stderr and "Traceback" not in done.stderr
    assert KEY not in done.stdout + done.stderr


def test_wrong_settings_and_names_are_one_sentence(tmp_path):
    with DashScope() as service:
        for done in (
            doctor(service, tmp_path, POLL__URL="", POLL__MAP__X="over"),
            doctor(service, tmp_path, "nobody"),
        ):
            assert done.returncode == 2
            assert len(done.stderr.strip().splitlines()) == 1
            assert not service.asked
