"""The npm package: what is in its file, that it is the served client, and that each kind of program can load it."""

from __future__ import annotations

import gzip
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients.npm_package import NAME, PACKAGE, Project, packed, run
from tests.support.npm_packages import NODE, NPM
from tests.support.repository import ROOT
from web.app.pages import CLIENT, CLIENT_TWIN, static_files

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not (NODE and NPM) and not os.environ.get("CI"), reason="there is no Node"),
]

MOST_BYTES_OF_THE_CORE = 18_000
NAMES = {"database", "command", "DarkroomError"}


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(tmp_path_factory.mktemp("packed"))


@pytest.fixture(scope="module")
def project(tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("app"), tarball)


def syntax_tree(project: Project, code: str, *, is_module: bool) -> Any:
    """What a parser reads in it: places and comments left out."""
    path = project.write("parsed.js", code)
    kind = ["--module"] if is_module else []
    return without_places(
        json.loads(run(project.beside / ".bin" / "acorn", "--ecma2017", "--compact", *kind, path))
    )


def without_places(node: Any) -> Any:
    if isinstance(node, list):
        return [without_places(each) for each in node]
    if isinstance(node, dict):
        return {name: without_places(value) for name, value in node.items() if name not in ("start", "end")}
    return node


@pytest.mark.parametrize(("served", "files"), [
    (CLIENT, ["dist/index.js"]), (CLIENT_TWIN, ["dist/index.cjs", "miniprogram_dist/index.js"]),
])  # fmt: skip
def test_the_package_is_the_served_client_without_its_comments(
    project: Project, served: str, files: list[str]
) -> None:
    is_module = served == CLIENT
    wanted = syntax_tree(project, static_files()[served].body.decode(), is_module=is_module)
    for file in files:
        assert syntax_tree(project, (project.package / file).read_text(), is_module=is_module) == wanted, file


def test_the_core_is_small_and_has_no_comment_but_its_first_line(project: Project) -> None:
    core = (project.package / "dist" / "index.js").read_bytes()
    assert len(gzip.compress(core, 9)) <= MOST_BYTES_OF_THE_CORE
    first, _, rest = core.decode().partition("\n")
    assert first.startswith("/* darkroom-client ") and "/*" not in rest and "  // " not in rest


def test_the_file_holds_what_is_meant_and_nothing_of_the_work_on_it(tarball: Path) -> None:
    with tarfile.open(tarball) as archive:
        names = {name.removeprefix("package/") for name in archive.getnames()}
    modules = ("index", "react", "vue", "works_list")
    dist = {f"dist/{module}{suffix}" for module in modules for suffix in (".js", ".cjs", ".d.ts", ".d.cts")}
    phone = {"miniprogram_dist/index.js", "miniprogram_dist/index.d.ts"}
    assert names == dist | phone | {"package.json", "README.md", "LICENSE"}


def test_the_manifest_says_types_first_and_has_the_servers_version() -> None:
    manifest = json.loads((PACKAGE / "package.json").read_text())
    for path, kinds in manifest["exports"].items():
        if path != "./package.json":
            assert [*kinds] == ["import", "require"]
            assert all([*conditions] == ["types", "default"] for conditions in kinds.values()), path
    assert "dependencies" not in manifest and manifest["sideEffects"] is False
    assert all(each["optional"] for each in manifest["peerDependenciesMeta"].values())
    version = manifest["version"].replace("-dev.", ".dev")
    assert f'version="{version}"' in (ROOT / "setup.py").read_text()


def test_it_is_imported_and_required(project: Project) -> None:
    named = "import { database, command, DarkroomError } from 'darkroom-client';"
    shown = "console.log(typeof database().submit, typeof command.in, new DarkroomError(402, 'x').status);"
    assert project.node_says(named + shown) == "function function 402"
    required = "const { database, command, DarkroomError } = require('darkroom-client');"
    assert project.node_says(required + shown, "program.cjs") == "function function 402"


@pytest.mark.parametrize("framework", ["react", "vue"])
def test_hooks_are_imported_and_required_and_use_the_apps_own_framework(
    project: Project, framework: str
) -> None:
    path = f"'darkroom-client/{framework}'"
    assert project.node_says(f"import {{ useWorks }} from {path}; console.log(typeof useWorks)") == "function"
    required = f"console.log(typeof require({path}).useWorks)"
    assert project.node_says(required, "program.cjs") == "function"


def test_without_a_framework_only_its_own_path_needs_it(tarball: Path, tmp_path: Path) -> None:
    """Both are optional peers: npm installs neither, and warns of nothing."""
    project = Project(tmp_path, tarball)
    for name in ("react", "vue"):
        (project.folder / "node_modules" / name).unlink()
    assert project.node_says("import { database } from 'darkroom-client'; console.log(typeof database)")
    lost = "try { await import('darkroom-client/react') } catch (error) { console.log(error.code) }"
    assert project.node_says(lost) == "ERR_MODULE_NOT_FOUND"


def test_what_the_exports_do_not_name_cannot_be_reached(project: Project) -> None:
    inner = (
        "try { await import('darkroom-client/dist/works_list.js') } catch (error) { console.log(error.code) }"
    )
    assert project.node_says(inner) == "ERR_PACKAGE_PATH_NOT_EXPORTED"
    manifest = "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);"
    assert project.node_says(f"{manifest} console.log(require('{NAME}/package.json').name)") == NAME


@pytest.mark.parametrize(
    ("file", "module", "resolution"),
    [
        ("program.mts", "Node16", "node16"),
        ("program.cts", "Node16", "node16"),
        ("program.mts", "NodeNext", "nodenext"),
        ("program.ts", "ESNext", "bundler"),
    ],
)
def test_typescript_finds_the_types_of_each_path(
    project: Project, file: str, module: str, resolution: str
) -> None:
    program = project.write(
        file,
        """import { database, type Work } from "darkroom-client";
        import { useWorks } from "darkroom-client/react";
        import { useWorks as useVueWorks } from "darkroom-client/vue";
        const db = database({ baseUrl: "https://pictures.example.com" });
        export const react: readonly Work[] = useWorks(db).works;
        export const vue: readonly Work[] = useVueWorks(db).works.value;
        // @ts-expect-error: without types this would be `any`, and no mistake
        export const wrong: number = db;""",
    )
    project.type_check(program, module=module, moduleResolution=resolution)


def test_a_bundler_takes_one_copy_of_the_core_and_drops_what_is_not_used(project: Project) -> None:
    project.write("page.js", "import { database } from 'darkroom-client'; console.log(database);")
    project.write(
        "both.js",
        "import { database } from 'darkroom-client'; import { useWorks } from 'darkroom-client/react';"
        "console.log(database, useWorks);",
    )
    project.write("none.js", "import 'darkroom-client'; import { command } from 'darkroom-client';")
    page, both, none = (
        project.bundled(name, "--minify", "--external:react").read_text()
        for name in ("page.js", "both.js", "none.js")
    )
    assert len(gzip.compress(page.encode(), 9)) < MOST_BYTES_OF_THE_CORE
    assert len(both) < len(page) + 2000, "one copy"
    assert len(none) < 100, "no side effects"


def test_a_mini_programs_npm_build_takes_the_folder_that_the_manifest_names(project: Project) -> None:
    """WeChat's developer tools copy that folder to miniprogram_npm/NAME; findings/ holds a run of their own builder."""
    manifest = json.loads((project.package / "package.json").read_text())
    taken = project.package / manifest["miniprogram"]
    for path in taken.iterdir():
        project.write(f"miniprogram_npm/{NAME}/{path.name}", path.read_text())
    project.write("miniprogram_npm/package.json", {"type": "commonjs"})
    phone = project.take("phone.cjs")
    said = run(project.node, phone, f"./miniprogram_npm/{NAME}/index.js", cwd=project.folder)
    assert said.strip() == "https://pictures.example.com/v1/credits unreachable"
