"""/v1/works and /v1/credits: a user's view of their tasks, and their payments."""

from __future__ import annotations

import logging

from aiohttp import web

from supervisor.core.errors import WorkNotFound
from supervisor.objects.object_store import StoreAway
from supervisor.store.feed import works
from supervisor.store.ledger import credits
from supervisor.store.retention import deletion_queue
from web.feed.feed_event import with_links
from web.handling.context import Context, context_of, user_of
from web.handling.path_names import id_in_path
from web.handling.request_bodies import bad_cursor, limit_of, text_of, time_of
from web.handling.responses import json_answer, shown_page
from web.http.detached_work import finished

log = logging.getLogger("darkroom.web")


async def list_works(request: web.Request) -> web.Response:
    """200 with a page of works, newest first: of all, or of a type and a span of time."""
    context, user, limit = context_of(request), user_of(request), limit_of(request)
    cursor = request.query.get("cursor")
    search = works.Search(
        type=text_of(request, "type"),
        created_from=time_of(request, "created_from"),
        created_before=time_of(request, "created_before"),
    )
    try:
        page = await context.read(
            request, lambda tx: works.page(tx, user, search, limit=limit, cursor=cursor)
        )
    except ValueError:
        raise bad_cursor() from None
    return json_answer(shown_page(page, [with_links(doc, context.links.link) for doc in page.items]))


async def show(request: web.Request) -> web.Response:
    """200 with the work."""
    context, user, work_id = (
        context_of(request),
        user_of(request),
        id_in_path(request, "work_id", WorkNotFound),
    )
    doc = await context.read(request, lambda tx: works.get(tx, work_id, user))
    if doc is None:
        raise WorkNotFound(work_id)
    return json_answer(with_links(doc, context.links.link))


async def delete(request: web.Request) -> web.Response:
    """204; an open task is cancelled first, and the files are deleted too."""
    await finished(_delete(request, id_in_path(request, "work_id", WorkNotFound)))
    return web.Response(status=204)


async def show_credits(request: web.Request) -> web.Response:
    """200 with the balance and the newest entries of the ledger."""
    context, user = context_of(request), user_of(request)
    return json_answer(await context.read(request, lambda tx: credits.statement(tx, user)))


async def _delete(request: web.Request, work_id: str) -> None:
    context, user = context_of(request), user_of(request)
    keys = await context.write(request, lambda tx: works.delete(tx, work_id, user))
    await delete_files(context, keys)


async def delete_files(context: Context, keys: list[str]) -> None:
    """Delete the files of deleted rows, which are in the deletion queue: after an interruption, the sweep does the
    rest."""
    try:
        for key in keys:
            await context.on_files(context.files.delete, key)
    except (StoreAway, OSError) as error:
        log.warning("%d files of deleted works are left to the sweep: %s", len(keys), error)
        return
    await context.database.write_async(lambda tx: deletion_queue.forget(tx, keys))
