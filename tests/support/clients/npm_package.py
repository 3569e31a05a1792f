"""The npm package of the client, packed as a maintainer packs it, and projects that install it from that file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.support.npm_packages import NPM, npm_packages
from tests.support.repository import ROOT

PACKAGE = ROOT / "clients" / "js"
NAME = "darkroom-client"
FRONT_ENDS = ROOT / "tests" / "front_ends" / "package"

# What an app has beside the client.
APP = {
    "@types/node": "26.6.6",
    "@types/react": "19.3.0",
    "@types/react-dom": "19.3.0",
    "acorn": "8.19.0",
    "esbuild": "0.28.2",
    "miniprogram-api-typings": "5.2.3",
    "node": "22.23.3",
    "react": "19.3.1",
    "react-dom": "19.3.1",
    "typescript": "7.0.2",
    "vue": "3.5.45",
}
# The generator needs TypeScript 5, with which our types are checked too.
GENERATOR = {"openapi-fetch": "0.17.0", "openapi-typescript": "7.13.0", "typescript": "5.9.3"}


def packed(folder: Path) -> Path:
    """The file that `npm pack` makes of a copy in this empty folder: tests may run at once."""
    copy = folder / "clients" / "js"
    ours = shutil.ignore_patterns("dist", "miniprogram_dist", "node_modules", "*.tgz", "LICENSE")
    shutil.copytree(PACKAGE, copy, ignore=ours)
    for path in ("web/static/darkroom.js", "LICENSE"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, folder / path)
    said = run(NPM or "npm", "pack", "--silent", "--pack-destination", folder, cwd=copy)
    return folder / said.split()[-1]


def run(*command: str | Path, cwd: Path | None = None, fails: bool = False) -> str:
    """What a program says; an AssertionError with it when it ends otherwise than expected."""
    done = subprocess.run(
        [str(each) for each in command],
        cwd=cwd,
        env={**os.environ, "npm_config_update_notifier": "false"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert (done.returncode != 0) is fails, done.stdout + done.stderr
    return done.stdout


class Project:
    """An app's folder with the package in it.  `beside`: where the app's other packages are."""

    def __init__(self, folder: Path, tarball: Path) -> None:
        self.folder, self.beside = folder, npm_packages(APP) / "node_modules"
        folder.mkdir(parents=True, exist_ok=True)
        self.write("package.json", {"name": "app", "private": True, "dependencies": {}})
        run(NPM or "npm", "install", "--no-audit", "--no-fund", "--offline", tarball, cwd=folder)
        for name in (*APP, "@vue", "csstype", "undici-types"):
            link = folder / "node_modules" / name
            if (self.beside / name).exists() and not link.exists():
                link.parent.mkdir(exist_ok=True)
                link.symlink_to(self.beside / name)

    @property
    def package(self) -> Path:
        return self.folder / "node_modules" / NAME

    @property
    def node(self) -> Path:
        """Node 22."""
        return self.beside / "node" / "bin" / "node"

    def write(self, name: str, content: str | dict[str, Any]) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    def take(self, name: str) -> Path:
        """A program of tests/front_ends/package, copied here."""
        return self.write(name, (FRONT_ENDS / name).read_text())

    def node_says(self, source: str, name: str = "program.mjs") -> str:
        return run(self.node, self.write(name, source), cwd=self.folder).strip()

    def type_check(
        self, *files: Path, fails: bool = False, compiler: Path | None = None, **options: Any
    ) -> str:
        """What `tsc --strict` says of these files."""
        strict = {
            "strict": True, "noEmit": True, "target": "ES2022", "module": "ESNext", "moduleResolution": "bundler",
            "types": [], "lib": ["ES2022", "DOM", "DOM.Iterable"],
        }  # fmt: skip
        if any(each.suffix == ".tsx" for each in files):
            options["jsx"] = "react-jsx"
        names = [str(each.relative_to(self.folder)) for each in files]
        config = self.write("tsconfig.json", {"compilerOptions": {**strict, **options}, "files": names})
        tsc = (compiler or self.beside / "typescript") / "bin" / "tsc"
        return run(
            *([] if os.access(tsc, os.X_OK) else [self.node]), tsc, "-p", config, cwd=self.folder, fails=fails
        )

    def bundled(self, name: str, *options: str) -> Path:
        """A page's script, made by esbuild."""
        made = self.folder / "out" / Path(name).with_suffix(".js").name
        esbuild = self.beside / ".bin" / "esbuild"
        run(
            esbuild,
            self.folder / name,
            "--bundle",
            "--format=esm",
            f"--outfile={made}",
            *options,
            cwd=self.folder,
        )
        return made
