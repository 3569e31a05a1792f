"""A page's script in one file does what its modules do one by one."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.npm_packages import NODE, NPM, npm_packages
from web.app.page_scripts import joined, without_comments
from web.app.pages import STATIC, static_files

MODULES = {
    "main.js": """/** Comments go. */
import { Count, twice } from "./count.js";
import * as words from "./words.js";

const left = 3;  // this comment stays
console.log(JSON.stringify([twice(left), new Count().now, words.say("a")]));
""",
    "count.js": """import { say } from "./words.js";
const left = 4;
export function twice(n) { return 2 * n; }
export class Count { get now() { return left + say("b").length; } }
""",
    "words.js": """/*
 * A longer comment.
 */
const left = 5;
const say = (text) => text.repeat(left);
export { say };
""",
}
COMPARE = """
import { tokenizer } from 'acorn';
import { readFileSync } from 'node:fs';
const tokens = (path) => [...tokenizer(readFileSync(path, 'utf8'), { ecmaVersion: 2022, sourceType: 'module' })]
  .map(({ type, value }) => `${type.label} ${value}`).join('\\n');
const [before, after] = process.argv.slice(2).map(tokens);
if (before !== after || before.length < 1000) throw new Error('they differ');
"""
needs_node = pytest.mark.skipif(not (NODE and NPM) and not os.environ.get("CI"), reason="there is no Node")


def run(path: Path) -> str:
    done = subprocess.run([NODE or "node", str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.system
@needs_node
def test_modules_in_one_file_say_what_they_say_apart(tmp_path: Path) -> None:
    for name, source in MODULES.items():
        (tmp_path / name).write_text(source)
    (tmp_path / "package.json").write_text(json.dumps({"type": "module"}))
    (tmp_path / "one.js").write_text(joined("main.js", MODULES))
    apart, together = run(tmp_path / "main.js"), run(tmp_path / "one.js")
    assert together == apart and json.loads(apart) == [6, 9, "aaaaa"]


def test_each_module_stands_in_it_once_and_comments_are_left_out() -> None:
    script = joined("main.js", MODULES)
    assert script.count("const m_words = ") == 1 and "longer comment" not in script
    assert "this comment stays" in script, "lines keep their ends"


@pytest.mark.parametrize(
    "source",
    [
        'import words from "./words.js";\n',
        'import { say as tell } from "./words.js";\n',
        "export let left = 1;\n",
        "export default 1;\n",
        'export { say } from "./words.js";\n',
    ],
)
def test_what_can_not_be_put_into_one_file_is_refused(source: str) -> None:
    with pytest.raises(ValueError):
        joined("main.js", {**MODULES, "main.js": source})


def test_modules_that_import_each_other_are_refused() -> None:
    circle = {"a.js": 'import { b } from "./b.js";\n', "b.js": 'import { a } from "./a.js";\n'}
    with pytest.raises(ValueError, match=r"a\.js → b\.js → a\.js"):
        joined("a.js", circle)


@pytest.mark.system
@needs_node
def test_the_scripts_of_all_pages_are_modules_that_parse(tmp_path: Path) -> None:
    scripts = {
        name: file.body
        for name, file in static_files().items()
        if name.count(".") == 2 and name.endswith(".js")
    }
    assert len(scripts) >= 4, "of three pages, and the client's twin"
    for name, body in scripts.items():
        (tmp_path / name).write_bytes(body)
        acorn = npm_packages() / "node_modules" / ".bin" / "acorn"
        command = [str(acorn), "--ecma2022", "--module", "--silent", str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{name}: {done.stderr}"


@pytest.mark.system
@needs_node
def test_of_our_modules_nothing_but_comments_is_left_out(tmp_path: Path) -> None:
    """The same tokens, one by one: no text that looks like a comment is taken for one."""
    program = npm_packages() / "compare_tokens.mjs"
    program.write_text(COMPARE)
    for path in STATIC.glob("*.js"):
        (tmp_path / path.name).write_text(without_comments(path.read_text(encoding="utf-8")))
        command = [NODE or "node", str(program), str(path), str(tmp_path / path.name)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{path.name}: {done.stderr}"
