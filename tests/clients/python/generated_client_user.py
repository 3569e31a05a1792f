"""A program over what openapi-python-client has made.  Arguments: address, token, service's token, picture."""

from __future__ import annotations

import importlib
import io
import pkgutil
import sys
import time
from pathlib import Path
from typing import Any

import generated  # type: ignore[import-not-found]
from generated.api.credits_ import show_credits  # type: ignore[import-not-found]
from generated.api.pictures import upload_image  # type: ignore[import-not-found]
from generated.api.tasks import cancel_task, show_task, submit_task  # type: ignore[import-not-found]
from generated.models.poster_order import PosterOrder  # type: ignore[import-not-found]
from generated.models.poster_params import PosterParams  # type: ignore[import-not-found]
from generated.models.upload_image_files_body import UploadImageFilesBody  # type: ignore[import-not-found]
from generated.types import File  # type: ignore[import-not-found]

DEADLINE_SECONDS = 90.0


def _import_all() -> int:
    found = [each.name for each in pkgutil.walk_packages(generated.__path__, "generated.")]
    for name in found:
        importlib.import_module(name)
    return len(found)


def _client(url: str, token: str) -> Any:
    return generated.AuthenticatedClient(base_url=url, token=token, raise_on_unexpected_status=True)


def main(url: str, token: str, service_token: str, picture: Path) -> None:
    assert _import_all() > 200
    client, service = _client(url, token), _client(url, service_token)
    photo = File(io.BytesIO(picture.read_bytes()), "portrait.jpg", "image/jpeg")
    uploaded = upload_image.sync(client=client, body=UploadImageFilesBody(image=photo))
    assert uploaded.width == 64, uploaded

    bare = PosterOrder("poster", PosterParams())
    assert bare.to_dict() == {"type": "poster", "params": {}}, "what is left out is not sent"
    told = submit_task.sync(client=client, body=bare, estimate=True)
    assert told.credits_ == 1, told

    order = PosterOrder("poster", PosterParams(images=[uploaded.id], prompt="a fair", count=2))
    first = submit_task.sync(client=client, body=order, idempotency_key="k-1")
    again = submit_task.sync_detailed(client=client, body=order, idempotency_key="k-1")
    assert again.parsed.task_id == first.task_id and again.headers["Idempotent-Replayed"] == "true"
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (task := show_task.sync(first.task_id, client=client)).status != "completed":
        assert time.monotonic() < deadline, task
        time.sleep(0.05)
    assert len(task.result.images) == 2

    refused = submit_task.sync_detailed(client=client, body=PosterOrder("poster", PosterParams(count=99)))
    assert refused.status_code == 422 and refused.parsed.errors[0].pointer == "/params/count"
    waiting = submit_task.sync(
        client=service, body=PosterOrder("poster", PosterParams(prompt="wait")), x_user="o-2"
    )
    assert cancel_task.sync(waiting.task_id, client=service, x_user="o-2").status == "cancelled"
    assert show_credits.sync(client=service, x_user="o-2").entries[-1].kind == "grant"
    print("done")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]))
