"""Every command of the README and of the pages on front ends is run, in the order in which they stand.

Text in a fence without a language is a command, and so is SQL. Installations and commands that take minutes have a
cheaper check: for `make demo` and `make test` a dry run of make, since CI runs both; for the environment of its own,
that `venv` exists and setup.py has the extra. Only addresses, ports and placeholders are replaced.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.repository import ROOT
from tests.support.running_system import PACED, RunningSystem, running_system
from tests.support.waiting import eventually

DOCUMENTS = ("README.md", "README.zh-CN.md", "docs/front-ends.md", "docs/front-ends.zh-CN.md")
ENDLESS = re.compile(r"curl -N |darkroom watch|darkroom up|examples/watch\.")
WAITS_FOR_NEWS = re.compile(r"wait=25|darkroom watch|Last-Event-ID|examples/watch\.py")
SHOWS = {  # what the output of a command must hold; the first that fits
    r"darkroom submit": r"\.(jpg|png)",
    r"darkroom doctor": r"\w",
    r"darkroom up": r"ready http://",
    r"-F image=": r'"id":"\w{26}"',
    r"/v1/tasks": r'"task_id":"\w{26}"',
    r"Last-Event-ID": r"event: change",
    r"curl -N": r"event: init",
    r"feed-tickets": r'"ticket":',
    r"v1/works/changes": r'"next":"\S+-\d+"',
    r"examples/watch\.sh": r'"status":"completed"',
    r"examples/watch\.py|darkroom watch": r"\w{26}",
}

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not shutil.which("curl") and not os.environ.get("CI"), reason="there is no curl"),
]


def commands_of(document: str) -> list[str]:
    """Each command; SQL as `sql: …`."""
    found = []
    for language, block in re.findall(
        r"^```(\w*)\n(.*?)^```$", (ROOT / document).read_text(), re.MULTILINE | re.DOTALL
    ):
        if language == "sql":
            found.append(f"sql: {block}")
        elif not language:
            lines = block.replace("\\\n", " ").splitlines()
            found += [re.sub(r"\s{2,}# .*", "", line) for line in lines if line.strip()]
    return found


@pytest.fixture(scope="module")
def house() -> Iterator[RunningSystem]:
    with running_system(
        lifted=False, **PACED | {"PROVIDERS__paced__OPTIONS__step_seconds": "0.05"}
    ) as running:
        yield running


class Reader:
    """A reader who types a document's commands, in a folder that looks like the checkout."""

    def __init__(self, house: RunningSystem, folder: Path) -> None:
        self.house, self.folder = house, folder
        self.environ = house.environ | {"TOKEN": house.token("demo")}
        self.image = ""
        for name in ("examples", "Makefile", "setup.py", "pyproject.toml"):
            (folder / name).symlink_to(ROOT / name)
        (folder / ".venv").symlink_to(sys.prefix)

    def type(self, command: str) -> None:
        if command.startswith("sql: "):
            self._sql(command.removeprefix("sql: "))
            return
        command = self._here(command)
        shows = next((pattern for known, pattern in SHOWS.items() if re.search(known, command)), "")
        if command.startswith("make "):
            self._run(f"make -n -C {ROOT} {command.removeprefix('make ')}")
        elif "pip install" in command:
            assert "-m venv" in command
            self._run(f"{sys.executable} -c 'import venv'")
            wanted = re.search(r"install '\.\[([\w,]+)\]'", command)
            assert wanted, command
            extras = (ROOT / "setup.py").read_text()
            assert [name for name in wanted[1].split(",") if f'    "{name}": [' not in extras] == []
        else:
            told = self._run(command, shows)
            assert re.search(shows, told), f"{command}\nsays {told[-2000:]}"
            self._remember(told)

    def _here(self, command: str) -> str:
        address = self.house.url.removeprefix("http://")
        command = re.sub(r"(localhost|127\.0\.0\.1):8000", address, command)
        command = command.replace(
            "DARKROOM_PORT=9000", f"DARKROOM_DATA_DIR={self.folder}/other DARKROOM_PORT=0"
        )
        command = command.replace("<image id>", self.image)
        return re.sub(r"^python ", f"{sys.executable} ", command)

    def _remember(self, told: str) -> None:
        if image := re.search(r'\{"id":"(\w{26})","url"', told):
            self.image = image[1]
        if places := re.findall(r"^id: (\S+)$", told, re.MULTILINE):
            self.environ["PLACE"] = places[-1]
        if following := re.search(r'"next":"(\S+?-\d+)"', told):
            self.environ["NEXT"] = following[1]

    def _run(self, command: str, shows: str = "") -> str:
        """Its output: to its end, or, for a command without an end, until the expected text."""
        said = self.folder / "said"
        with said.open("w") as out:
            process = subprocess.Popen(
                ["sh", "-c", command],
                cwd=self.folder,
                env=self.environ,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        try:
            is_endless = bool(ENDLESS.search(command))
            last_order = 0.0

            def is_done() -> bool:
                nonlocal last_order
                if WAITS_FOR_NEWS.search(command) and time.monotonic() - last_order > 2:
                    last_order = time.monotonic()
                    self._order()
                has_shown = is_endless and re.search(shows, said.read_text())
                return bool(has_shown) or process.poll() is not None

            eventually(command, is_done)
            assert is_endless or process.returncode == 0, f"{command}\nsays {said.read_text()[-2000:]}"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return said.read_text()

    def _order(self) -> None:
        """Changes for a command that waits for some."""
        body = {"type": "photography", "params": {"images": ["https://example.org/1.jpg"]}}
        request = urllib.request.Request(
            f"{self.house.url}/v1/tasks", json.dumps(body).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {self.environ['TOKEN']}"},
        )  # fmt: skip
        with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(request, timeout=20):
            pass

    def _sql(self, statement: str) -> None:
        with (
            contextlib.closing(sqlite3.connect(self.house.data_dir / "darkroom.db", timeout=15)) as plain,
            plain,
        ):
            plain.execute(statement.replace("<image id>", self.image))
            (rowid,) = plain.execute("SELECT last_insert_rowid()").fetchone()

        def is_over() -> bool:
            status, error = self.house.one("SELECT status, error FROM task_queue WHERE rowid = ?", rowid)
            assert status != "failed", error
            return bool(status == "completed")

        eventually("the order by SQL is done", is_over)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_works_as_documented(house: RunningSystem, tmp_path: Path, document: str) -> None:
    reader, commands = Reader(house, tmp_path), commands_of(document)
    assert len(commands) > 5, "the document has commands"
    for command in commands:
        reader.type(command)
