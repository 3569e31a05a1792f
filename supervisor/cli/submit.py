"""Commands for users: submit an order, watch changes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from config.settings import Settings
from supervisor.cli.base import Failed, settings_of_command
from supervisor.cli.shown.output import json_option, print_json
from supervisor.cli.typed_order import COMMANDS as TYPE_COMMANDS
from supervisor.cli.typed_order import TypedOrder, parameters_of, type_of
from supervisor.core.json_text import json_bytes
from supervisor.media.file_names import plain_name

if TYPE_CHECKING:
    from supervisor.cli.api_client import Api

DEFAULT_USER = "demo"


@click.command(cls=TypedOrder)
@click.argument("task_type", metavar="TYPE")
@click.argument("images", metavar="IMAGE...", nargs=-1)
@click.option("--video", "videos", metavar="FILE|URL", multiple=True, help="a film; may be repeated")
@click.option("--audio", metavar="FILE|URL", multiple=True, help="a sound; may be repeated")
@click.option("--file", "files", metavar="FILE|URL", multiple=True, help="another file; may be repeated")
@click.option("--scene", help="one of the type's scenes")
@click.option("--prompt", help="what the picture should show, for services that read it")
@click.option("--count", type=click.IntRange(1), help="how many pictures")
@click.option(
    "--parameters", metavar="JSON|@FILE", help="`params.parameters` whole; single options lie over it"
)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), default=Path("."), help="where to save them"
)
@click.option("--user", default=DEFAULT_USER, show_default=True, help="whose order it is")
@json_option
@click.pass_context
def submit(
    ctx: click.Context,
    /,
    task_type: str,
    images: tuple[str, ...],
    videos: tuple[str, ...],
    audio: tuple[str, ...],
    files: tuple[str, ...],
    scene: str | None,
    prompt: str | None,
    count: int | None,
    parameters: str | None,
    out: Path,
    user: str,
    as_json: bool,
    **given: Any,
) -> None:
    """Order pictures, or whatever a type makes, follow the work and save what comes back.

    `darkroom submit TYPE --help` lists the options of a type.

    \b
    darkroom submit photography portrait.png --scene night --out prints
    darkroom submit fitting portrait.png shirt.png
    darkroom submit photography https://example.org/me.jpg --count 4 --json
    """
    inputs = {"images": images, "videos": videos, "audio": audio, "files": files}
    for each in (entry for entries in inputs.values() for entry in entries):
        if not each.startswith("https://") and not Path(each).is_file():
            raise click.UsageError(f"{each} is no file and no https:// address.")
    declared = type_of(ctx)
    if declared is not None and declared["inputs"]["images"][0] and not images:
        raise click.UsageError("Missing argument 'IMAGE...'.")
    own = parameters_of(given, parameters) or None
    members = {"sceneId": scene, "prompt": prompt, "count": count, "parameters": own}
    params = {name: value for name, value in members.items() if value is not None}
    run_async(_submit(settings_of_command(), task_type, inputs, params, out, user, as_json))


@click.command()
@click.option("--user", default=DEFAULT_USER, show_default=True, help="whose changes")
@click.option("--json", "as_json", is_flag=True, help="Print each event as one line of JSON, for programs.")
def watch(user: str, as_json: bool) -> None:
    """Print the user's changes as they happen, until Ctrl-C.

    \b
    darkroom watch --user o-7
    darkroom watch --json | jq -c 'select(.event == "change") | .data.docChanges[0].doc.status'
    """
    with contextlib.suppress(click.Abort):  # Ctrl-C is how it ends
        run_async(_watch(settings_of_command(), user, as_json))


def run_async(work: Coroutine[Any, Any, None]) -> None:
    """Run it; a refusal of the service ends the command with its sentence."""
    from supervisor.cli.api_client import ApiError

    try:
        asyncio.run(work)
    except ApiError as error:
        raise Failed(str(error)) from None
    except KeyboardInterrupt:
        raise click.Abort from None


async def _submit(
    settings: Settings,
    task_type: str,
    inputs: Mapping[str, Sequence[str]],
    params: dict[str, Any],
    out: Path,
    user: str,
    as_json: bool,
) -> None:
    from supervisor.cli.api_client import api_of
    from supervisor.cli.progress import follow

    async with api_of(settings, user) as api:
        for kind, entries in inputs.items():
            upload = api.upload if kind == "images" else api.upload_file
            if entries:
                params[kind] = [
                    each if each.startswith("https://") else await upload(Path(each)) for each in entries
                ]
        accepted = await api.submit(task_type, params)
        doc = await follow(api, accepted["work_id"], f"{task_type} {accepted['task_id']}")
        if doc["status"] != "completed":
            error = doc.get("error") or {"code": doc["status"], "message": "it was cancelled"}
            raise Failed(f"Task {accepted['task_id']} {doc['status']}: {error['message']} ({error['code']})")
        saved = []
        for number, image in enumerate(doc["images"], start=1):
            path = await api.download(image["url"], out / f"{task_type}-{accepted['task_id']}-{number}")
            saved.append({"path": str(path), "width": image["width"], "height": image["height"]})
            if not as_json:
                click.echo(f"{path}  {image['width']}×{image['height']}")
        told = {"task_id": accepted["task_id"], "status": doc["status"], "images": saved}
        told |= await _save_others(api, doc, out / f"{task_type}-{accepted['task_id']}", silent=as_json)
        if as_json:
            print_json(told)


async def _save_others(api: Api, doc: dict[str, Any], stem: Path, *, silent: bool) -> dict[str, Any]:
    """Save files and data of a work beside its pictures; {files, data} as `--json` says them, where there are any."""
    told: dict[str, Any] = {}
    for number, file in enumerate(doc.get("files", []), start=1):
        name = plain_name(f"{stem.name}-{number}-{file['name']}")
        path = await api.save(file["url"], stem.with_name(name))
        about = {key: value for key, value in file.items() if key != "url"}
        told.setdefault("files", []).append({"path": str(path), **about})
        if not silent:
            click.echo(f"{path}  {file['media_type']}, {file['bytes']:,} bytes")
    if doc.get("data") is not None or doc.get("data_url"):
        path = stem.with_name(f"{stem.name}.json")
        if doc.get("data_url"):
            await api.save(doc["data_url"], path)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(json_bytes(doc["data"], indented=True))
        told["data"] = orjson.loads(path.read_bytes())
        if not silent:
            click.echo(f"{path}  JSON")
    return told


async def _watch(settings: Settings, user: str, as_json: bool) -> None:
    from supervisor.cli.api_client import api_of

    async with api_of(settings, user) as api:
        async for event in api.feed():
            if as_json:
                click.echo(orjson.dumps({"event": event.name, "data": event.data}).decode())
                continue
            if event.name in ("init", "reset"):
                click.echo(f"{event.name}: {len(event.docs)} works")
            for change in event.data.get("docChanges", []) if event.name == "change" else []:
                doc = change["doc"]
                what = f"{doc['updated_at']}  {change['queueType']:8} {doc['task_id']}  {doc['type']}  {doc['status']}"
                error = f"  {doc['error']['code']}: {doc['error']['message']}" if doc.get("error") else ""
                click.echo(f"{what}  {doc['progress']:3} %  {doc['stage'] or ''}{error}")


COMMANDS = [submit, *TYPE_COMMANDS, watch]
