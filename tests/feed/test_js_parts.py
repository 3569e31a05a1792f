"""The JS client by itself: its pure parts in Node, its language, its types, and its twin."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from supervisor.core.lifecycle import Status
from tests.support.npm_packages import NODE, NPM, npm_packages
from tests.support.repository import ROOT
from web.app.commonjs import commonjs_twin
from web.app.pages import CLIENT, CLIENT_TWIN, STATIC, static_files

MINI_PROGRAM = ROOT / "examples" / "mini-program"


def needs_node(test: Any) -> Any:
    """A system test that runs where Node is."""
    is_missing = not (NODE and NPM) and not os.environ.get("CI")
    return pytest.mark.system(pytest.mark.skipif(is_missing, reason="there is no Node")(test))


def run(*command: str | Path, **environ: str) -> str:
    """What a program says; fails with it when the program does."""
    done = subprocess.run(
        [str(each) for each in command],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_twin_is_the_client_with_another_export() -> None:
    source, twin = (static_files()[name].body.decode() for name in (CLIENT, CLIENT_TWIN))
    assert twin == commonjs_twin(source)
    assert "module.exports = { database," in twin and "\nexport " not in twin
    assert len(twin.splitlines()) == len(source.splitlines()) + 1


@pytest.mark.parametrize(
    "source", ["", "export const a = 1;", "import x from 'y';\nexport { x };", "export { a };\nexport { b };"]
)
def test_a_module_that_has_no_twin_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match="CommonJS"):
        commonjs_twin(source)


@needs_node
def test_the_pure_parts_hold_in_node(tmp_path: Path) -> None:
    module = tmp_path / "darkroom.mjs"
    module.write_bytes((STATIC / CLIENT).read_bytes())
    run(
        NODE or "node",
        "--test",
        ROOT / "tests" / "front_ends" / "parts.test.mjs",
        DARKROOM_MODULE=str(module),
    )


@needs_node
def test_the_client_is_es2017_and_its_types_hold(tmp_path: Path) -> None:
    tools = npm_packages() / "node_modules" / ".bin"
    run(tools / "acorn", "--ecma2017", "--module", "--silent", STATIC / CLIENT)
    (tmp_path / "tsconfig.json").write_text(
        """{"compilerOptions": {"allowJs": true, "checkJs": true, "noEmit": true, "target": "ES2017", "types": [],
        "lib": ["ES2017", "DOM"], "strict": true, "noImplicitAny": false, "useUnknownInCatchVariables": false},
        "files": ["darkroom.js"]}"""
    )
    (tmp_path / "darkroom.js").write_bytes((STATIC / CLIENT).read_bytes())
    run(tools / "tsc", "-p", tmp_path)


def test_the_mini_programs_page_has_a_word_for_every_status_and_shows_the_progress() -> None:
    folder = MINI_PROGRAM / "pages" / "works"
    words = re.search(r"const STATUS = \{(.*?)\};", (folder / "works.js").read_text(), re.DOTALL)
    assert words and set(re.findall(r"(\w+): \"", words[1])) == {str(status) for status in Status}
    template = (folder / "works.wxml").read_text()
    assert "{{item.status}}" in template and 'percent="{{item.progress}}"' in template
    assert template.count("<image") + template.count("<progress") == template.count("aria-label"), (
        "for screen readers"
    )


@needs_node
def test_the_mini_program_is_well_typed(tmp_path: Path) -> None:
    packages = npm_packages() / "node_modules"
    for path in MINI_PROGRAM.rglob("*.js"):
        copy = tmp_path / path.relative_to(MINI_PROGRAM)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    (tmp_path / "darkroom.js").write_bytes(static_files()[CLIENT_TWIN].body)
    (tmp_path / "tsconfig.json").write_text(
        f"""{{"compilerOptions": {{"allowJs": true, "noEmit": true, "target": "ES2020", "module": "CommonJS",
        "lib": ["ES2020"], "strict": true, "typeRoots": ["{packages}"], "types": ["miniprogram-api-typings"]}},
        "include": ["app.js", "pages/**/*.js"]}}"""
    )
    run(packages / ".bin" / "tsc", "-p", tmp_path)
