"""The wheel of our client for Python is all that its users need: it is built, installed from its file, and used."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.clients.wheels import CLIENT, client_wheel, environment
from tests.support.houses.door_shop import door_shop
from tests.support.houses.web_server import picture_bytes

USER = Path(__file__).with_name("wheel_user.py")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return client_wheel(tmp_path_factory.mktemp("wheel"))


def test_it_holds_the_package_with_its_types_and_nothing_else(wheel: Path) -> None:
    source = CLIENT / "src"
    ours = {str(path.relative_to(source)): path.read_bytes() for path in source.rglob("darkroom_client/*.*")}
    with zipfile.ZipFile(wheel) as packed:
        names = [name for name in packed.namelist() if ".dist-info/" not in name]
        assert {name: packed.read(name) for name in names} == {
            name: data for name, data in ours.items() if not name.endswith(".pyc")
        }
    assert "darkroom_client/py.typed" in names


async def test_a_user_who_has_only_the_wheel_orders_watches_and_fetches(wheel: Path, tmp_path: Path) -> None:
    python = await asyncio.to_thread(environment, [f"{wheel}[rich]"], tmp_path / "environment")
    picture = tmp_path / "portrait.jpg"
    picture.write_bytes(picture_bytes())
    async with door_shop(tmp_path / "shop", tasks={"poster": {"inputs": {"images": [0, 4]}}}) as shop:
        used = await asyncio.create_subprocess_exec(
            python, "-I", USER, shop.url, shop.key("o-1"), picture, tmp_path / "made",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await used.communicate()
        assert used.returncode == 0 and b"done" in out, out.decode()
        assert [path.read_bytes() for path in (tmp_path / "made").iterdir()] == [shop.picture] * 2
        assert len(shop.tasks("o-1")) == 2


@pytest.mark.skipif(
    find_spec("mypy") is None and not os.environ.get("CI"), reason="mypy is in the extra `dev`"
)
def test_a_users_program_is_checked_by_its_types(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "from darkroom_client import Darkroom\n"
        "client = Darkroom('https://d.example')\n"
        "client.order('poster', imagse='a.jpg')\n"
        "client.wait(client.order('poster', count='two')).images[0].url.decode()\n"
    )
    mypy = [
        sys.executable,
        "-m",
        "mypy",
        "--config-file",
        "/dev/null",
        "--strict",
        "--cache-dir",
        str(tmp_path),
    ]
    environ = {"MYPYPATH": str(CLIENT / "src"), "PATH": "/usr/bin:/bin"}
    good = subprocess.run(
        [*mypy, USER], env=environ, capture_output=True, text=True, timeout=250, check=False
    )
    assert good.returncode == 0, good.stdout
    bad = subprocess.run(
        [*mypy, wrong], env=environ, capture_output=True, text=True, timeout=250, check=False
    )
    assert [int(line.split(":")[1]) for line in bad.stdout.splitlines() if "error:" in line] == [3, 4, 4]
