"""A program of a user's: it has nothing but the installed wheel.  Arguments: address, token, picture, folder."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from darkroom_client import AsyncDarkroom, BadInput, Darkroom, Task, Work
from darkroom_client.progress import ProgressBars


def blocking(url: str, token: str, picture: Path, folder: Path) -> Task:
    with Darkroom(url, lambda: token) as client, ProgressBars() as bars:
        task = client.run("poster", images=picture, prompt="a fair", count=2, on_progress=bars.show)
        assert [path.parent for path in client.download(task, folder)] == [folder] * 2
        try:
            client.order("poster", count=99)
        except BadInput as bad:
            assert bad.mistakes[0][0] == "/params/count"
        return task


async def awaiting(url: str, token: str, picture: Path) -> list[Work]:
    async with AsyncDarkroom(url, token) as client:
        order = await client.order("poster", images=[picture.read_bytes()], prompt="a fair")
        works = [work async for work in client.watch_task(order)]
        async for event in client.watch():
            assert {work.task_id for work in event.works} >= {order.task_id}
            break
        return works


if __name__ == "__main__":
    url, token, picture, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])
    assert blocking(url, token, picture, folder).status == "completed"
    assert asyncio.run(awaiting(url, token, picture))[-1].status == "completed"
    print("done")
