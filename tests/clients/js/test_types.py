"""The package's types: real programs hold under `tsc --strict`, mistakes are refused, and the code is as declared."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import get_args

import pytest

from tests.support.clients.npm_package import FRONT_ENDS, GENERATOR, PACKAGE, Project, packed
from tests.support.npm_packages import NODE, NPM, npm_packages
from web.app.pages import CLIENT, static_files
from web.openapi import schemas

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not (NODE and NPM) and not os.environ.get("CI"), reason="there is no Node"),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("app"), packed(tmp_path_factory.mktemp("packed")))


@pytest.fixture(params=["7", "5"])
def compiler(request: pytest.FixtureRequest) -> Path | None:
    """TypeScript of this version; None: the app's own, 7."""
    return npm_packages(GENERATOR) / "node_modules" / "typescript" if request.param == "5" else None


def test_a_pages_program_is_well_typed(project: Project, compiler: Path | None) -> None:
    project.type_check(project.take("page.ts"), compiler=compiler, noUncheckedIndexedAccess=True)


def test_a_program_for_node_is_well_typed(project: Project, compiler: Path | None) -> None:
    node = {"module": "NodeNext", "moduleResolution": "nodenext", "types": ["node"], "lib": ["ES2022"]}
    project.type_check(project.take("program.mts"), compiler=compiler, **node)


def test_a_mini_programs_page_is_well_typed_where_nothing_of_a_browser_is_known(
    project: Project, compiler: Path | None
) -> None:
    phone = {"types": ["miniprogram-api-typings"], "lib": ["ES2020"], "skipLibCheck": False}
    project.type_check(project.take("phone_page.ts"), compiler=compiler, **phone)


@pytest.mark.parametrize("file", ["hook.tsx", "composable.ts"])
def test_components_are_well_typed(project: Project, compiler: Path | None, file: str) -> None:
    project.type_check(project.take(file), compiler=compiler, exactOptionalPropertyTypes=True)


def test_each_mistake_is_refused_and_nothing_else(project: Project, compiler: Path | None) -> None:
    lines = (FRONT_ENDS / "wrong_use.ts").read_text().splitlines()
    wanted = {n + 1: line for n, line in enumerate(lines, 1) if line.startswith("////")}
    said = project.type_check(project.take("wrong_use.ts"), compiler=compiler, fails=True)
    refused = {int(line) for line in re.findall(r"^wrong_use\.ts\((\d+),\d+\): error", said, re.M)}
    assert {line: words for line, words in wanted.items() if line not in refused} == {}, "these are let pass"
    assert refused - set(wanted) == set(), said


def test_the_declared_types_are_those_of_the_code(project: Project) -> None:
    """What the code does can be used as declared, and it has no function that is not declared."""
    project.write("darkroom.js", static_files()[CLIENT].body.decode())
    project.type_check(project.take("compared.ts"), allowJs=True, checkJs=False, noImplicitAny=False)


def test_the_readmes_programs_hold(project: Project) -> None:
    blocks = dict(re.findall(r"^```(\w+)\n(.*?)^```", (PACKAGE / "README.md").read_text(), re.M | re.S))
    page = """import type { Work } from "darkroom-client";
        declare const file: File;
        declare function myToken(): Promise<string>;
        declare function show(works: readonly Work[]): void;\n"""
    project.write("db.ts", 'import { database } from "darkroom-client"; export const db = database();')
    project.write("Prints.vue", blocks["vue"])
    project.node_says(
        """import { readFileSync, writeFileSync } from "node:fs";
        import { compileScript, parse } from "vue/compiler-sfc";
        const { descriptor, errors } = parse(readFileSync("Prints.vue", "utf8"));
        if (errors.length) throw errors[0];
        writeFileSync("Prints.ts", compileScript(descriptor, { id: "prints", inlineTemplate: true }).content);"""
    )
    programs = [
        project.write(f"readme.{kind}", {"ts": page, "tsx": ""}[kind] + blocks[kind])
        for kind in ("ts", "tsx")
    ]
    project.type_check(*programs, project.folder / "Prints.ts")


def test_words_of_the_server_are_words_of_the_types() -> None:
    types = (PACKAGE / "src/index.d.ts").read_text()

    def words(name: str) -> set[str]:
        declared = re.search(rf"^export type {name} =(.*?);$", types, re.M | re.S)
        assert declared
        return set(re.findall(r'"(\w+)"', declared[1]))

    assert words("Status") == set(get_args(schemas.Status))
    assert words("ErrorCode") >= set(get_args(schemas.ErrorCode))
    for name in (
        "Work",
        "Task",
        "TaskStep",
        "Picture",
        "Thumbnail",
        "Estimate",
        "UploadedImage",
        "UploadedFile",
        "AcceptedTask",
    ):
        declared = re.search(rf"^export interface {name} {{\n(.*?)^}}", types, re.M | re.S)
        assert declared
        model = getattr(schemas, name)
        wanted = {field.alias or key: field.is_required() for key, field in model.model_fields.items()}
        members = re.findall(r"^  (\w+)(\??):", declared[1], re.M)
        known = {key: not optional for key, optional in members}
        assert wanted.items() <= known.items(), name
        assert not any(known[key] for key in known.keys() - wanted), f"{name}: a server need not have these"
