"""`darkroom doctor --provider NAME`: a real call to a service, each step on a line, and never a secret."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

from PIL import Image

from tests.support.fakes.dashscope_service import DashScope
from tests.support.fakes.fake_ai_service import Asked, FakeAiService, Reply, picture_reply
from tests.support.pictures import picture
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
    assert not list((tmp_path / "var" / "files").rglob("*.jpg"))  # the files for the service are gone


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


def own(url: str, folder: Path, *more: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """The same of a service of one's own that answers at once."""
    given = {
        "KIND": "http",
        "URL": url,
        "SUBMIT__BODY__prompt": "${params.prompt}",
        "SUBMIT__BODY__photo": "${input.0.data_uri}",
        "SUBMIT__HEADERS__Authorization": "Bearer ${secret.KEY}",
        "SECRETS__KEY": KEY,
        **settings,
    }
    environ = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
    environ |= {f"DARKROOM_PROVIDERS__own__{name}": value for name, value in given.items() if value}
    environ |= {"DARKROOM_DATA_DIR": str(folder / "var"), "DARKROOM_CONFIG": ""}
    command = [str(Path(sys.executable).with_name("darkroom")), "doctor", "--provider", "own", *more]
    return subprocess.run(command, env=environ, capture_output=True, text=True, cwd=folder, timeout=100)


def test_a_result_path_without_a_match_shows_the_right_path_and_the_request(tmp_path):
    data = base64.b64encode(picture("red")).decode()
    answer = Reply(document={"made": [{"image": data, "seed": 7}], "ok": True})
    with FakeAiService(lambda asked: answer) as service:
        done = own(service.url, tmp_path, "--prompt", "by the sea", RESULT='["$.nothing"]')
    assert done.returncode == 1
    assert 'A picture stands at `$.made[*].image`: set result = ["$.made[*].image"].' in done.stdout
    assert "$.made[*].seed: 7" in done.stdout and "$.ok: true" in done.stdout
    assert '"prompt": "by the sea"' in done.stdout and "characters)" in done.stdout
    assert KEY not in done.stdout + done.stderr and data not in done.stdout


def test_a_bad_answer_is_shown_and_for_a_404_the_address_comes_first(tmp_path):
    with FakeAiService(lambda asked: Reply(500, {"detail": f"no weights for {KEY}"})) as service:
        done = own(service.url, tmp_path)
        assert "This came back, HTTP 500:" in done.stdout and "no weights for" in done.stdout
        assert KEY not in done.stdout
        service.reply = lambda asked: Reply(404, {"detail": "Not Found"})
        done = own(service.url, tmp_path)
    (wrong,) = [line for line in done.stdout.splitlines() if line.startswith("WRONG")]
    assert "Nothing takes this at the address: look at `url` and the path first" in wrong


def test_a_missing_secret_is_reported_with_its_variable(tmp_path):
    done = own("http://127.0.0.1:9", tmp_path, SECRETS__KEY="")
    wanted = "give it in the environment as DARKROOM_PROVIDERS__own__SECRETS__KEY"
    assert done.returncode == 2 and wanted in done.stderr


def test_programs_read_the_same_as_json(tmp_path):
    with FakeAiService(lambda asked: picture_reply(picture("red"))) as service:
        good = json.loads(own(service.url, tmp_path, "--json", RESULT='["$.image"]').stdout)
        bad = own(service.url, tmp_path, "--json", RESULT='["$.nothing"]')
    assert good["well"] and good["pictures_at"] == ["$.image"] and good["answer"]["status"] == 200
    told = json.loads(bad.stdout)
    assert not told["well"] and bad.returncode == 1 and told["pictures_at"] == ["$.image"]
    assert [each["step"] for each in told["steps"] if each["well"] is False] == ["ProviderError"]
    assert KEY not in bad.stdout


def test_a_service_on_this_host_that_calls_back_is_waited_for(tmp_path):
    data = base64.b64encode(picture("red")).decode()
    with FakeAiService() as service:

        def reply(asked: Asked) -> Reply:
            report = json.dumps({"state": "ok", "image": data}).encode()
            request = urllib.request.Request(asked.document["tell"], report)
            threading.Timer(0.2, urllib.request.urlopen, [request]).start()
            return Reply(document={"id": "j-1"})

        service.reply = reply
        done = own(
            service.url, tmp_path, MODE="callback", ID="$.id", SUBMIT__BODY__tell="${callback_url}",
            CALLBACK__STATUS="$.state", CALLBACK__MAP__OK="done", RESULT='["$.image"]', ALLOW_PRIVATE_ADDRESSES="true",
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the service has reported" in done.stdout and "picture" in done.stdout


def test_the_studio_refuses_our_drawing_and_a_photo_is_asked_for(tmp_path):
    command = [str(Path(sys.executable).with_name("darkroom")), "doctor", "--provider", "studio"]
    environ = os.environ | {"DARKROOM_DATA_DIR": str(tmp_path / "var"), "DARKROOM_CONFIG": ""}

    def doctor_(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *more], env=environ, capture_output=True, text=True, cwd=tmp_path, timeout=100
        )

    refused = doctor_()
    assert refused.returncode == 1
    assert "The picture was a drawing; name a photo of yours with --image FILE." in refused.stdout
    made = doctor_("--image", str(PORTRAIT))
    assert made.returncode == 0 and "picture" in made.stdout, made.stdout
