"""Commands that write settings of AI services."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from supervisor.cli.base import FAILED


@click.group()
def provider() -> None:
    """Describe an AI service."""


@provider.command("new")
@click.argument("url")
@click.option("--name", default="own", show_default=True, metavar="NAME", help="The provider's name.")
@click.option(
    "--type", "type_", default="own_photo", show_default=True, metavar="TYPE", help="The task type's name."
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Add it to this darkroom.toml.")
def new(url: str, name: str, type_: str, out: Path | None) -> None:
    """Recognise a running AI server, and write its settings.

    It knows Gradio, ComfyUI, cog, LitServe, BentoML, A1111 and Forge, Triton, and servers with OpenAI's API. Nothing is
    ordered.

    \b
    darkroom provider new http://127.0.0.1:7860 --out darkroom.toml
    darkroom doctor --provider own
    """
    options = ["--name", name, "--type", type_, *(["--out", str(out)] if out else [])]
    command = [sys.executable, "-P", "-m", "actors.entry.recognise_server", url, *options]
    status = subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
    if status:
        raise SystemExit(FAILED if status == 1 else status)


COMMANDS = (provider,)
