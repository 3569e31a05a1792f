"""The program that recognises a running AI server and writes its settings: `python -m actors.entry.recognise_server`.

`darkroom provider new URL` runs it, since it imports nothing of this package.  Nothing is ordered.  Exit status 0, 1
for a server that is away or not known, 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from actors.providers.base import ProviderError, Unreachable
from actors.providers.common.client import HttpClient
from actors.providers.common.requests import Outgoing
from actors.registry.recognising import QUESTIONS, recognise, settings_text
from config.provider import PROVIDER_NAME
from config.settings import TASK_TYPE_NAME

ASK_SECONDS = 10.0
MOST_BYTES = 16_777_216


def main(arguments: list[str] | None = None) -> int:
    """The exit status."""
    asked = _arguments(arguments)
    parts = urlsplit(asked.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        print(f"{asked.url!r} is no address; it begins with http:// or https://.", file=sys.stderr)
        return 2
    name = asked.name or "own"
    if not PROVIDER_NAME.fullmatch(name) or not TASK_TYPE_NAME.fullmatch(asked.type):
        print(
            "--name and --type may be a small letter and up to 31 more small letters, digits and _.",
            file=sys.stderr,
        )
        return 2
    try:
        answers = asyncio.run(_answers(asked.url.rstrip("/")))
    except Unreachable as error:
        print(f"{error} Is the server started, and is this its address and port?", file=sys.stderr)
        return 1
    known = recognise(asked.url.rstrip("/"), answers)
    if known is None:
        print(
            "The server says nothing of itself that is known here. Describe it with kind `http`: docs/ai-services.md, "
            "“Configure a service over HTTP”.",
            file=sys.stderr,
        )
        return 1
    return _write(settings_text(name, asked.type, known), asked.out, name, asked.type)


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="darkroom provider new")
    parser.add_argument("url")
    parser.add_argument("--name")
    parser.add_argument("--type", default="own_photo")
    parser.add_argument("--out", type=Path)
    return parser.parse_args(arguments)


async def _answers(url: str) -> dict[str, Any]:
    """{path: the answer}.  Raises Unreachable if no server answers."""
    client = HttpClient(most_bytes=MOST_BYTES)
    try:
        found = await asyncio.gather(*(_answer(client, url, path) for path in QUESTIONS))
    finally:
        await client.close()
    return {path: document for path, document in zip(QUESTIONS, found, strict=True) if document is not None}


async def _answer(client: HttpClient, url: str, path: str) -> Any:
    try:
        answer = await client.question(Outgoing("GET", url + path, {}), ASK_SECONDS)
    except Unreachable:
        raise
    except ProviderError:
        return None
    return answer.document if answer.status == 200 else None


def _write(text: str, out: Path | None, name: str, type_: str) -> int:
    """Write to stdout, or to the end of a file that has neither of the two tables yet."""
    if out is None:
        print(text, end="")
        return 0
    before = out.read_text(encoding="utf-8") if out.exists() else ""
    try:
        there = tomllib.loads(before)
    except tomllib.TOMLDecodeError as error:
        print(f"{out} is no TOML ({error}); nothing was written.", file=sys.stderr)
        return 1
    for table, each, option in (("providers", name, "--name"), ("tasks", type_, "--type")):
        if each in there.get(table, {}):
            print(f"{out} has [{table}.{each}] already; take another {option}.", file=sys.stderr)
            return 1
    joined = f"{before.rstrip()}\n\n{text}" if before.strip() else text
    out.write_text(joined, encoding="utf-8")
    print(
        f"[providers.{name}] and [tasks.{type_}] stand in {out} now:\n\n{re.sub('^', '    ', text, flags=re.MULTILINE)}"
    )
    print(f"Try it: darkroom doctor --provider {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
