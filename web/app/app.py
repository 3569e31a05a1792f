"""The application: the table of addresses, and the middleware of every request."""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import AsyncIterator
from typing import NamedTuple

from aiohttp import web
from aiohttp.typedefs import Handler

from supervisor.database.interface.wakeups import Wakeups
from supervisor.security.start_secret import PATH as START_PATH
from web.access.authentication import FEED_PATH, authenticate
from web.access.cors import answer_preflight, is_open_to_pages, name_the_origin
from web.api import (
    callbacks,
    changes_poll,
    feed,
    files,
    grants,
    health,
    images,
    issued_tokens,
    metrics_route,
    start,
    stored_files,
    tasks,
    types,
    wechat,
    works,
)
from web.app import pages, share_page
from web.app.revoked_streams import look_for_revoked
from web.doors.cloudbase import door as cloudbase
from web.doors.fal import door as fal
from web.doors.fal import uploads as fal_uploads
from web.doors.fal.refusal import error_answer as fal_error
from web.doors.openai import door as openai
from web.doors.openai.answers import error_answer as openai_error
from web.doors.repeated_orders import keep_cut_orders
from web.doors.replicate import door as replicate
from web.feed.change_tailer import Tailer
from web.handling.access_log import observe
from web.handling.background_loops import repeat
from web.handling.context import CONTEXT, Context
from web.http.body_reader import refuse_encoded
from web.http.problems import BAR, SHAPES, answer_problems, expect_100_continue, name_ourselves
from web.http.request_ids import tell_request_id
from web.limits.rate_limits import keep_counts, obey_quotas, tell_standing
from web.openapi.description import DESCRIPTION, Description, show_openapi
from web.operators import bulk_actions, costs, dead_letters, ops, users, webhooks, week_history
from web.operators.ops_samples import keep_samples
from web.sharing import archives, shares


class Address(NamedTuple):
    """One row of the table of addresses.

    operation: the name of its description in `web.openapi.operations`; "" for parts of the pages, which have none.
    status: of the expected answer.
    """

    method: str
    path: str
    handler: Handler
    operation: str
    status: int = 200


ADDRESSES = (
    Address("POST", "/v1/images", images.upload, "uploadImage", 201),
    Address("POST", "/v1/files", files.upload, "uploadFile", 201),
    Address("POST", "/v1/tasks", tasks.submit, "submitTask", 202),
    Address("GET", "/v1/tasks", tasks.list_tasks, "listTasks"),
    Address("GET", "/v1/tasks/{task_id}", tasks.show, "showTask"),
    Address("GET", "/v1/tasks/{task_id}/order", tasks.show_order, "showTaskOrder"),
    Address("GET", "/v1/tasks/{task_id}/events", tasks.show_events, "showTaskEvents"),
    Address("POST", "/v1/tasks/{task_id}/cancel", tasks.cancel, "cancelTask", 202),
    Address("POST", "/v1/tasks/{task_id}/retry", tasks.retry, "retryTask", 202),
    Address("GET", "/v1/types", types.list_types, "listTypes"),
    Address("GET", FEED_PATH, feed.feed, "followWorks"),
    Address("GET", "/v1/works/changes", changes_poll.changes, "pollChanges"),
    Address("GET", "/v1/works", works.list_works, "listWorks"),
    Address("GET", "/v1/works/{work_id}", works.show, "showWork"),
    Address("DELETE", "/v1/works/{work_id}", works.delete, "deleteWork", 204),
    Address("POST", "/v1/works/{work_id}/shares", shares.share, "shareWork", 201),
    Address("GET", shares.SHARED_PATH, share_page.show, "showShared"),
    Address("GET", share_page.PICTURE_PATH, share_page.fetch_picture, "fetchShared"),
    Address("POST", "/v1/archives", archives.prepare, "prepareArchive", 201),
    Address("GET", archives.ARCHIVE_PATH, archives.send, "fetchArchive"),
    Address("POST", wechat.PATH, wechat.login, "logInWithWeChat"),
    Address("GET", "/v1/credits", works.show_credits, "showCredits"),
    Address("GET", "/v1/credits/{user}", grants.show, "showCreditsOfUser"),
    Address("POST", "/v1/credits/{user}/grants", grants.grant, "grantCredits", 201),
    Address("POST", "/v1/feed-tickets", issued_tokens.issue_ticket, "issueFeedTicket", 201),
    Address("POST", "/v1/tokens", issued_tokens.issue_token, "issueToken", 201),
    Address("POST", callbacks.PATH, callbacks.report, "reportOnRemoteJob"),
    Address("POST", cloudbase.PATH, cloudbase.answer, "answerCloudBase"),
    Address("POST", "/openai/v1/images/generations", openai.generate, "openaiGenerate"),
    Address("POST", "/openai/v1/images/edits", openai.edit, "openaiEdit"),
    Address("POST", "/openai/v1/images/variations", openai.edit, "openaiVary"),
    Address("GET", "/openai/v1/models", openai.list_models, "openaiListModels"),
    Address("GET", "/openai/v1/models/{model}", openai.show_model, "openaiShowModel"),
    Address("POST", "/replicate/v1/predictions", replicate.create, "replicateCreate", 201),
    Address("GET", "/replicate/v1/predictions", replicate.list_predictions, "replicateList"),
    Address("GET", "/replicate/v1/predictions/{task_id}", replicate.show, "replicateShow"),
    Address("POST", "/replicate/v1/predictions/{task_id}/cancel", replicate.cancel, "replicateCancel"),
    Address("GET", replicate.STREAM_PATH, replicate.stream, "replicateStream"),
    Address("GET", replicate.MODEL_PATH, replicate.show_model, "replicateShowModel"),
    Address(
        "POST",
        "/replicate/v1/models/{owner}/{model_name}/predictions",
        replicate.create,
        "replicateCreateOfModel",
        201,
    ),
    Address(
        "GET",
        "/replicate/v1/models/{owner}/{model_name}/versions/{version}",
        replicate.show_version,
        "replicateShowVersion",
    ),
    Address("POST", "/replicate/v1/files", replicate.upload, "replicateUpload", 201),
    Address(
        "GET", "/replicate/v1/webhooks/default/secret", replicate.webhook_secret, "replicateWebhookSecret"
    ),
    Address("POST", "/fal/queue/{app_path}", fal.queue, "falSubmit"),
    Address("GET", "/fal/queue/{app_path}", fal.queue, "falLook"),
    Address("PUT", "/fal/queue/{app_path}", fal.queue, "falCancel", 202),
    Address("POST", "/fal/run/{app_path}", fal.run, "falRun"),
    Address("POST", "/fal/proxy", fal.proxy, "falProxySubmit"),
    Address("GET", "/fal/proxy", fal.proxy, "falProxyLook"),
    Address("PUT", "/fal/proxy", fal.proxy, "falProxyCancel", 202),
    Address("POST", "/fal/storage/auth/token", fal_uploads.token, "falUploadToken"),
    Address("POST", "/fal/storage/files/upload", fal_uploads.send, "falUpload"),
    Address("POST", "/fal/storage/upload/initiate", fal_uploads.initiate, "falBeginUpload"),
    Address("PUT", fal_uploads.UPLOAD_PATH, fal_uploads.put, "falPutUpload"),
    Address("GET", fal_uploads.FILE_PATH, fal_uploads.fetch, "falFetchUpload", 302),
    Address("GET", "/files/{key}", stored_files.fetch, "fetchPicture"),
    Address("GET", "/v1/ops/overview", ops.show_overview, "showOverview"),
    Address("GET", "/v1/ops/tasks", ops.find_tasks, "findTasks"),
    Address("GET", "/v1/ops/tasks/{task_id}", ops.show_task, "examineTask"),
    Address("POST", "/v1/ops/tasks/{task_id}/cancel", ops.cancel, "cancelAnyTask", 202),
    Address("POST", "/v1/ops/tasks/{task_id}/retry", ops.retry, "retryAnyTask", 202),
    Address("POST", "/v1/ops/tasks/{task_id}/release", ops.release, "releaseTask", 202),
    Address("POST", "/v1/ops/workers/{worker_id}/drain", ops.drain, "drainWorker", 202),
    Address("POST", "/v1/ops/webhooks/{webhook_id}/resend", ops.resend, "resendWebhook", 202),
    Address("POST", "/v1/ops/pauses", ops.pause, "pause", 201),
    Address("DELETE", "/v1/ops/pauses/{kind}/{name}", ops.resume, "resume", 204),
    Address("POST", "/v1/ops/sweep", ops.sweep, "sweepNow"),
    Address("POST", "/v1/ops/bulk/preview", bulk_actions.preview, "previewBulkAction"),
    Address("POST", "/v1/ops/bulk", bulk_actions.start, "startBulkAction", 202),
    Address("GET", "/v1/ops/bulk", bulk_actions.list_actions, "listBulkActions"),
    Address("GET", "/v1/ops/bulk/{bulk_id}", bulk_actions.show, "showBulkAction"),
    Address("POST", "/v1/ops/bulk/{bulk_id}/stop", bulk_actions.stop, "stopBulkAction", 202),
    Address("POST", "/v1/ops/bulk/{bulk_id}/resume", bulk_actions.resume, "resumeBulkAction", 202),
    Address("GET", "/v1/ops/history", week_history.show_history, "showHistory"),
    Address("GET", "/v1/ops/dead-letters", dead_letters.show_dead_letters, "showDeadLetters"),
    Address("GET", "/v1/ops/costs", costs.show_costs, "showCosts"),
    Address("GET", "/v1/ops/webhooks", webhooks.list_webhooks, "listWebhooks"),
    Address("GET", "/v1/ops/blocked", users.list_blocked, "listBlocked"),
    Address("GET", "/v1/ops/users/{user}", users.show, "showUser"),
    Address("POST", "/v1/ops/users/{user}/block", users.block, "blockUser"),
    Address("DELETE", "/v1/ops/users/{user}/block", users.unblock, "unblockUser", 204),
    Address("POST", "/v1/ops/users/{user}/grants", users.grant, "grantAsAdmin", 201),
    Address("POST", "/v1/ops/users/{user}/revoke", users.revoke, "revokeTokensOfUser"),
    Address("GET", START_PATH, start.enter, "enter", 303),
    Address("GET", "/", pages.console, "console"),
    Address("GET", "/ops", pages.ops, "operate"),
    Address("GET", "/docs", pages.docs, "docs"),
    Address("GET", "/static/{name}", pages.asset, ""),
    Address("GET", "/openapi.json", show_openapi, "openapi"),
    Address("GET", "/healthz", health.healthz, "healthz"),
    Address("GET", "/readyz", health.readyz, "readyz"),
    Address("GET", "/metrics", metrics_route.show_metrics, "metrics"),
)


STREAMS = frozenset({FEED_PATH, replicate.STREAM_PATH, "/fal/queue/{app_path}", "/fal/proxy"})

# The allowed forms of a part of a path, if it is not a single name.
PATTERNS = {
    "{key}": "{key:.+}",
    "{app_path}": "{app_path:.+}",
    "{model}": "{model:.+}",  # a name of two parts, and more
    "{work_id}": "{work_id:(?!(?:feed|changes)$)[^{}/]+}",  # otherwise their 405 would list DELETE
}


def build_app(context: Context, wakeups: Wakeups) -> web.Application:
    """The application of this context; it starts its own tailer."""
    app = web.Application(middlewares=[observe, answer_problems, refuse_encoded, authenticate, obey_quotas])
    app[CONTEXT] = context
    app[DESCRIPTION] = Description(context.settings, ADDRESSES)
    pages.static_files()  # read and compressed before the first request
    for address in ADDRESSES:
        resource = app.router.add_resource(_pattern(address.path))
        resource.add_route(address.method, address.handler, expect_handler=expect_100_continue)
        if address.method == "GET" and address.path not in STREAMS:  # the head of a stream has no end
            resource.add_route("HEAD", address.handler, expect_handler=expect_100_continue)
        has_preflight = any(route.method == "OPTIONS" for route in resource)
        if is_open_to_pages(address.path, context.settings) and not has_preflight:
            resource.add_route("OPTIONS", answer_preflight)
        context.metrics.know_route(resource.canonical, address.method, address.status)

    async def follow_the_log(_: web.Application) -> AsyncIterator[None]:
        tailer = Tailer(context.database, context.hub, context.links.link, context.metrics)
        await tailer.start()  # before the first stream can open
        running = [
            asyncio.create_task(tailer.run(wakeups), name="tailer"),
            *(
                asyncio.create_task(repeat(name, turn, context.metrics), name=name)
                for name, turn in (
                    ("pings", context.hub.pinging(context.ping_seconds)),
                    ("revocations", lambda: look_for_revoked(context)),
                    ("notices", lambda: context.notices.store_in_time(context.database)),
                )
            ),
        ]
        yield
        for task in running:
            task.cancel()
        for task in running:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def say_goodbye(_: web.Application) -> None:
        context.is_draining = True
        await context.hub.close()

    app[ops.SWEEPING] = asyncio.Lock()
    app[archives.UNDER_WAY] = collections.Counter()
    app[BAR] = context.bar
    app[SHAPES] = {"/openai/v1/": openai_error, "/replicate/v1/": replicate.error_answer, "/fal/": fal_error}
    app.cleanup_ctx.append(follow_the_log)
    app.cleanup_ctx.append(keep_samples)
    app.cleanup_ctx.append(bulk_actions.run_bulk_actions)
    app.cleanup_ctx.append(wechat.open_door)
    app.cleanup_ctx.append(keep_counts)
    app.cleanup_ctx.append(keep_cut_orders)
    app.on_response_prepare.append(name_ourselves)
    app.on_response_prepare.append(tell_request_id)
    app.on_response_prepare.append(name_the_origin)
    app.on_response_prepare.append(tell_standing)
    app.on_shutdown.append(say_goodbye)
    return app


def _pattern(path: str) -> str:
    for part, pattern in PATTERNS.items():
        path = path.replace(part, pattern)
    return path
