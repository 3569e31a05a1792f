"""The image's packages are locked by hash, equal those of other installations, and their licences are named."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.repository import ROOT

LOCK = ROOT / "deploy" / "requirements.lock"
PINNED = re.compile(
    r"^([A-Za-z0-9._-]+)==(\S+?)(?: ;.*)? \\\n((?:    --hash=sha256:[0-9a-f]{64}.*\n)+)", re.MULTILINE
)
IMAGE_EXTRAS = ("studio", "heic", "postgres", "s3", "otel")
IMAGE_PYTHON = {"python_full_version": "3.11.14", "python_version": "3.11"}
COPYLEFT = re.compile(r"GPL|MPL|Mozilla|General Public|EUPL|CDDL|Eclipse")


def pinned(path: Path) -> dict[str, str]:
    """{name: version} of a constraints file."""
    pairs = (line.split("==") for line in path.read_text().splitlines() if "==" in line and line[0] != "#")
    return {canonicalize_name(name): version for name, version in pairs}


def locked() -> dict[str, str]:
    """{name: version} of the lock; a line without a hash is none of them."""
    return {canonicalize_name(name): version for name, version, _ in PINNED.findall(LOCK.read_text())}


def needed(name: str, extras: frozenset[str], seen: set[tuple[str, frozenset[str]]]) -> set[str]:
    """Every distribution that this one, with these extras, brings along here; itself included."""
    if (name, extras) in seen:
        return set()
    seen.add((name, extras))
    found = {name}
    for text in importlib.metadata.requires(name) or []:
        wanted = Requirement(text)
        marker = wanted.marker
        asked = [{"extra": extra} | IMAGE_PYTHON for extra in ("", *extras)]
        if marker is None or any(marker.evaluate(each) for each in asked):
            found |= needed(canonicalize_name(wanted.name), frozenset(wanted.extras), seen)
    return found


def shipped() -> set[str]:
    return needed("darkroom-queue", frozenset(IMAGE_EXTRAS), set()) - {"darkroom-queue"}


def licence_of(name: str) -> str:
    """What a distribution says of its licence; a `License` that is a whole text says it in its first line."""
    told = importlib.metadata.metadata(name)
    classifiers = [each for each in told.get_all("Classifier") or [] if each.startswith("License")]
    text = (told.get("License") or "").strip().partition("\n")[0]
    return " ".join([told.get("License-Expression") or text, *classifiers])


def test_the_lock_holds_all_that_the_image_needs_and_nothing_without_a_hash() -> None:
    lines = [line for line in LOCK.read_text().splitlines() if line[:1].strip() and not line.startswith("#")]
    assert len(lines) == len(locked())
    assert shipped() - set(locked()) == set()


def test_the_lock_and_the_constraints_name_the_same_versions() -> None:
    constraints = pinned(ROOT / "constraints.txt")
    assert {name: constraints.get(name) for name in locked()} == locked()


def test_the_notice_names_every_dependency_under_a_copyleft_licence() -> None:
    notice = (ROOT / "NOTICE").read_text().lower()
    copyleft = {name for name in shipped() if COPYLEFT.search(licence_of(name))}
    assert {"dramatiq", "periodiq", "psycopg", "orjson", "asyncinotify"} <= copyleft
    assert {name for name in copyleft if name not in notice} == set()


def test_the_notice_names_what_wheels_bring_under_other_licences_than_their_own() -> None:
    """A wheel of pillow-heif calls itself BSD and holds libraries under the LGPL and GPL."""
    notice = (ROOT / "NOTICE").read_text().lower()
    brought: dict[str, set[str]] = {}
    for name in shipped():
        for file in importlib.metadata.files(name) or []:
            if "bundled" in file.name.lower():
                entries = re.findall(
                    r"^Name: (\S+).*?^License: (.+?)$", file.read_text(), re.MULTILINE | re.DOTALL
                )
                brought[name] = {library.lower() for library, licence in entries if COPYLEFT.search(licence)}
    assert {"libheif", "libde265", "x265"} <= brought["pillow-heif"]
    named = {library for libraries in brought.values() for library in libraries if "mingw" not in library}
    assert {library for library in named if library not in notice} == set()


@pytest.mark.system
@pytest.mark.timeout(600)
def test_a_bare_environment_accepts_every_hash_of_the_lock(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "bare")], check=True)
    python = tmp_path / "bare" / "bin" / "python"
    install = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--require-hashes"]
    done = subprocess.run(
        [*install, "--dry-run", "-r", str(LOCK)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
