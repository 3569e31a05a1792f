"""With DARKROOM_URL and DARKROOM_TOKEN the commands that act do so at that service, and not in a database here."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from supervisor.security.tokens import Role, make_user_token
from tests.support.command_line import darkroom
from tests.support.houses.web_server import SECRET, Web

ACTS = (
    ("block", "o-7", "--reason", "stolen card"),
    ("unblock", "o-7"),
    ("credits", "grant", "o-7", "5", "--reference", "r-1"),
    ("token", "revoke", "o-7"),
    ("sweep",),
)


async def run(web: Web, tmp_path: Path, role: Role, *words: str) -> subprocess.CompletedProcess[str]:
    """In a folder without a database."""
    folder = tmp_path / "elsewhere"
    folder.mkdir(exist_ok=True)
    token = make_user_token(SECRET, "bob", role, ttl_seconds=600)
    return await asyncio.to_thread(darkroom, folder, *words, DARKROOM_URL=web.url, DARKROOM_TOKEN=token)


async def test_an_admin_acts_there_and_is_on_record_there(web: Web, tmp_path: Path) -> None:
    for words in ACTS:
        done = await run(web, tmp_path, "admin", *words)
        assert done.returncode == 0, (words, done.stderr)
    assert not list((tmp_path / "elsewhere").iterdir())
    assert [tuple(row) for row in web.sql("SELECT action, operator, role FROM audit ORDER BY id")] == [
        (action, "bob", "admin") for action in ("block", "unblock", "grant", "revoke", "sweep")
    ]


@pytest.mark.parametrize("role", ["user", "viewer"])
async def test_a_role_that_may_not_is_told_so(web: Web, tmp_path: Path, role: Role) -> None:
    for words in ACTS:
        done = await run(web, tmp_path, role, *words)
        assert done.returncode == 1 and f"Yours has role '{role}'." in done.stderr, words
    assert web.sql("SELECT count(*) FROM audit") == [(0,)]


async def test_why_it_was_refused_there_is_said_once(web: Web, tmp_path: Path) -> None:
    done = await run(web, tmp_path, "admin", "bulk", "cancel", "--from", "yesterday", "--dry-run")
    assert done.returncode == 1
    assert done.stderr.count("must be a day") == 1 and "/filter/from" in done.stderr


async def test_one_token_is_revoked_on_a_host_of_the_system(web: Web, tmp_path: Path) -> None:
    done = await run(web, tmp_path, "admin", "token", "revoke", "--id", "j-1")
    assert done.returncode == 2 and "without DARKROOM_TOKEN" in done.stderr
