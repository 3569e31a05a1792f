"""Commands of somebody who wants pictures: submit an order, watch what happens."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click

from config.settings import Settings
from supervisor.cli import Failed, settings_of_command

DEFAULT_USER = "demo"


@click.command()
@click.argument("task_type", metavar="TYPE")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.option("--scene", help="studio, sunset or night")
@click.option("--prompt", help="what the picture should show, for services that read it")
@click.option("--count", type=click.IntRange(1, 8), help="how many pictures")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), default=Path("."), help="where to save them"
)
@click.option("--user", default=DEFAULT_USER, show_default=True, help="whose order it is")
def submit(
    task_type: str,
    images: tuple[str, ...],
    scene: str | None,
    prompt: str | None,
    count: int | None,
    out: Path,
    user: str,
) -> None:
    """Order pictures, follow the work and save them."""
    for image in images:
        if not image.startswith("https://") and not Path(image).is_file():
            raise click.UsageError(f"{image} is no file and no https:// address.")
    given = {"sceneId": scene, "prompt": prompt, "count": count}
    params = {name: value for name, value in given.items() if value is not None}
    run_async(_submit(settings_of_command(), task_type, images, params, out, user))


@click.command()
@click.option("--user", default=DEFAULT_USER, show_default=True, help="whose changes")
def watch(user: str) -> None:
    """Print the user's changes as they happen, until Ctrl-C."""
    run_async(_watch(settings_of_command(), user))


def run_async(work: Coroutine[Any, Any, None]) -> None:
    """Run it; what the service refuses ends the command with its sentence."""
    from supervisor.cli.api import ApiError

    try:
        asyncio.run(work)
    except ApiError as error:
        raise Failed(str(error)) from None
    except KeyboardInterrupt:
        raise click.Abort from None


async def _submit(
    settings: Settings, task_type: str, images: tuple[str, ...], params: dict[str, Any], out: Path, user: str
) -> None:
    from supervisor.cli.api import Api, bearer_token, service_address
    from supervisor.cli.progress import follow

    async with Api(service_address(settings), bearer_token(settings, user)) as api:
        references = [
            image if image.startswith("https://") else await api.upload(Path(image)) for image in images
        ]
        accepted = await api.submit(task_type, {**params, "images": references})
        doc = await follow(api, accepted["work_id"], f"{task_type} {accepted['task_id']}")
        if doc["status"] != "completed":
            error = doc.get("error") or {"code": doc["status"], "message": "it was cancelled"}
            raise Failed(f"Task {accepted['task_id']} {doc['status']}: {error['message']} ({error['code']})")
        for number, image in enumerate(doc["images"], start=1):
            path = await api.download(image["url"], out / f"{task_type}-{accepted['task_id']}-{number}")
            click.echo(f"{path}  {image['width']}×{image['height']}")


async def _watch(settings: Settings, user: str) -> None:
    from supervisor.cli.api import Api, bearer_token, service_address

    async with Api(service_address(settings), bearer_token(settings, user)) as api:
        async for event in api.feed():
            if event.name in ("init", "reset"):
                click.echo(f"{event.name}: {len(event.docs)} works")
            for change in event.data.get("docChanges", []) if event.name == "change" else []:
                doc = change["doc"]
                what = f"{doc['updated_at']}  {change['queueType']:8} {doc['task_id']}  {doc['type']}  {doc['status']}"
                error = f"  {doc['error']['code']}: {doc['error']['message']}" if doc.get("error") else ""
                click.echo(f"{what}  {doc['progress']:3} %  {doc['stage'] or ''}{error}")


COMMANDS = [submit, watch]
