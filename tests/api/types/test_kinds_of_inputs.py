"""An upload must be in the list of its own kind, or its order is refused: by every interface, before the debit."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest

from actors.entry import submit_actor
from supervisor.core.errors import BadParams
from supervisor.core.ids import new_ulid
from supervisor.store.tasks import admission, images
from supervisor.store.tasks.images import NewImage
from tests.support.databases import KINDS
from tests.support.houses.web_server import bearer, running_web

OF_ALL = {"inputs": {"images": [0, 4], "videos": [0, 4], "audio": [0, 4], "files": [0, 9]}}
MEDIA = {"images": None, "videos": "video/mp4", "audio": "audio/mpeg", "files": "application/pdf"}
Uploads = dict[str, str]


@pytest.fixture(params=KINDS)
async def web(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    async with running_web(tmp_path, request.param, tasks={"mixed": OF_ALL}) as web:
        yield web


@pytest.fixture
def uploads(web: Any) -> Uploads:
    """{kind: id of an upload of o-1}."""
    made = {}
    for kind, media_type in MEDIA.items():
        made[kind] = id_ = new_ulid()
        image = NewImage(id_, "o-1", f"uploads/{id_}", 0, 0, 10, "0" * 64, media_type, "it")
        web.database.write(lambda tx, image=image: images.add(tx, image)).result(timeout=60)
    return made


async def _post(http: aiohttp.ClientSession, web: Any, params: Any, query: str = "") -> tuple[int, Any]:
    order = {"type": "mixed", "params": params}
    async with http.post(f"{web.url}/v1/tasks{query}", json=order, headers=bearer("o-1")) as answer:
        return answer.status, await answer.json()


@pytest.mark.parametrize("query", ["", "?estimate=true"])
async def test_over_http_the_place_is_named_and_nothing_is_stored(
    web: Any, http: aiohttp.ClientSession, uploads: Uploads, query: str
) -> None:
    for kind, upload in uploads.items():
        for listed in MEDIA:
            if listed in (kind, "files"):
                continue
            url = "https://example.com/a"
            status, told = await _post(http, web, {listed: [url, upload]}, query)
            assert (status, told["errors"][0]["pointer"]) == (422, f"/params/{listed}/1"), (kind, listed)
            says = f"{upload} is {MEDIA[kind] or 'a picture'}: name it in {kind}, not in {listed}."
            assert told["errors"][0]["detail"] == says
    assert web.sql("SELECT count(*) FROM task_queue") == [(0,)]
    assert web.sql("SELECT count(*) FROM credit_entry WHERE kind = 'debit'") == [(0,)]


async def test_each_in_its_own_list_and_all_among_the_files_are_taken(
    web: Any, http: aiohttp.ClientSession, uploads: Uploads
) -> None:
    status, told = await _post(http, web, {kind: [upload] for kind, upload in uploads.items()})
    assert status == 202, told
    status, told = await _post(http, web, {"files": list(uploads.values())})
    assert status == 202, told


async def test_a_row_fails_with_it_and_its_user_sees_why(web: Any, uploads: Uploads) -> None:
    insert = "INSERT INTO task_queue (id, user_openid, type, params) VALUES (?, 'o-1', 'mixed', ?)"
    web.sql(insert, "bad", json.dumps({"images": [uploads["videos"]]}))
    web.database.write(lambda tx: admission.admit_waiting(tx, web.settings, 10).get().rows).result(timeout=60)
    [(status, error)] = web.sql("SELECT status, CAST(error AS TEXT) FROM works WHERE task_id = 'bad'")
    told = json.loads(error)
    assert (status, told["code"]) == ("failed", "bad_params")
    assert told["message"] == f"{uploads['videos']} is video/mp4: name it in videos, not in images."
    assert web.sql("SELECT count(*) FROM credit_entry WHERE kind = 'debit'") == [(0,)]


async def test_a_message_is_refused_with_it(web: Any, uploads: Uploads) -> None:
    worker: Any = type(
        "AsMuchOfAWorker", (), {"settings": web.settings, "database": web.database, "draining": False}
    )()
    order = submit_actor._order(
        worker, new_ulid(), "o-1", {"type": "mixed", "params": {"audio": [uploads["images"]]}}
    )
    with pytest.raises(BadParams, match="is a picture: name it in images, not in audio"):
        await submit_actor._stored(worker, order)
    assert web.sql("SELECT count(*) FROM task_queue") == [(0,)]
