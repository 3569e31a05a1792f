"""POST /tcb/admin: a call of CloudBase's server SDKs.

Every answer is HTTP 200, since the SDKs hide the content of any other: `{"requestId", "data"}`, or `{"requestId",
"code", "message"}`, which they throw.  A key belongs to a service and acts for the user that each document names.  A
repeated signature is the same call: an order is found by its `_id`, or by the signature if it has none, and the result
of an update or a remove is stored for a day with its signature, in the same transaction.
"""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from aiohttp import web

from supervisor.core.errors import KeyReused, drop_frames
from supervisor.core.ids import new_ulid
from supervisor.database.interface.database import Row, Transaction
from supervisor.database.interface.errors import IntegrityError
from supervisor.security.cloudbase_keys import is_secret_id, secret_key
from supervisor.security.token_proof import Proof
from supervisor.security.tokens import Identity
from supervisor.selection.search_terms import Compare, Search
from supervisor.store.feed import works
from supervisor.store.sql.rows import decoded, work_doc
from supervisor.store.tasks import idempotency_keys, search, user_actions
from supervisor.store.tasks.new_task import Key, NewTask
from supervisor.telemetry import tracing
from web.access.authentication import identify
from web.api.tasks import stored
from web.api.works import delete_files
from web.doors.cloudbase.calls import Add, Call, Count, Get, Remove, Update, call_of
from web.doors.cloudbase.documents import task_document, work_document
from web.doors.cloudbase.ejson import encode
from web.doors.cloudbase.orders import Order
from web.doors.cloudbase.refusal import NOT_ALLOWED, NOT_POSSIBLE, Refused, code_of
from web.doors.cloudbase.signature import BadSignature, Claim, check_time, is_signed_by, read_claim
from web.feed.feed_event import Link
from web.handling.context import IDENTITY, TASK, TRACE, Context, context_of
from web.handling.idempotency_header import hash_of
from web.handling.origin import linked_from
from web.handling.request_bodies import judge_json
from web.handling.responses import json_answer
from web.http.detached_work import finished
from web.http.problems import REASON, TOLD_IN_LOG, Problem, problem_of, refusal_told
from web.limits.rate_limits import count_stranger

log = logging.getLogger("darkroom.web")

PATH = "/tcb/admin"
MOST_CHANGED = 100  # documents by one update or remove
MOST_PARAMS = 8 * 1024 * 1024  # characters of params in one answer
Data = dict[str, Any]


async def answer(request: web.Request) -> web.Response:
    """200 with the result, or with the error."""
    told: Data = {"requestId": new_ulid()}
    try:
        call, call_id = await _understood(request)
        told["data"] = await _done(request, call, call_id)
    except Exception as error:
        problem = problem_of(error)
        if problem is None:
            log.exception("%s failed", PATH)
            problem = Problem(500, "The request failed inside the server; the log there says why.")
        problem = await refusal_told(request, problem)
        if problem.status in TOLD_IN_LOG:
            request[REASON] = problem.detail
        code = problem.code if isinstance(problem, Refused) else code_of(problem.status, problem.kind)
        told |= {"code": code, "message": problem.detail}
        drop_frames(error)
    return json_answer(told)


async def _understood(request: web.Request) -> tuple[Call, str]:
    """The call, and its unique name; sets the request's identity.  Raises Refused and many other errors."""
    context = context_of(request)
    try:
        if request.headers.get("Authorization", "").lower().startswith("bearer "):
            request[IDENTITY] = _bearer(request, context)
            return await judge_json(request, lambda body: call_of(body, context.settings)), new_ulid()
        claim, call = await _signed(request, context)
    except Refused:  # of a signed call
        raise
    except (BadSignature, Problem) as refused:
        await count_stranger(request)
        if isinstance(refused, Problem):
            raise
        request[REASON] = str(refused)
        raise Refused(str(refused), NOT_ALLOWED) from None
    return call, claim.signature


def _bearer(request: web.Request, context: Context) -> Identity:
    identity = identify(request, context)
    if identity.role != "service":
        raise BadSignature(
            "accessKey must be a token with role 'service': `darkroom token NAME --role service`."
        )
    return identity


async def _signed(request: web.Request, context: Context) -> tuple[Claim, Call]:
    given = request.headers
    claim = read_claim(given.get("Authorization", ""), given.get("X-Timestamp", ""))
    if not is_secret_id(claim.secret_id):
        raise BadSignature(
            "There is no such secretId; `darkroom key cloudbase NAME` prints one with its key."
        )
    check_time(claim, time.time())
    path, _, query = request.raw_path.partition("?")
    headers = {name.lower(): value for name, value in given.items()}

    def judge(body: Any) -> Call:
        secrets = [each for each in (context.secret, context.secret_before) if each is not None]
        held = [
            is_signed_by(
                secret_key(secret, claim.secret_id),
                claim,
                host=given.get("Host", ""),
                path=path,
                query=query,
                headers=headers,
                body=body,
            )
            for secret in secrets
        ]
        if not any(held):
            raise BadSignature(
                "The signature does not fit: check secretId and secretKey, that serviceUrl is written in lower case, "
                "and that a proxy between passes on path and Host unchanged."
            )
        of_id = claim.secret_id  # known from here on, also if the call is refused
        request[IDENTITY] = Identity(of_id, "service", None, (Proof(of_id, 0.0, of_id),))
        return call_of(body, context.settings)

    return claim, await judge_json(request, judge)


async def _done(request: web.Request, call: Call, call_id: str) -> Data:
    match call:
        case Add(order):
            return {"insertedIds": [await _added(request, order, call_id)]}
        case Get():
            return {"list": await _found(request, call)}
        case Count(collection, condition):
            found = await context_of(request).read(
                request, lambda tx: search.count(tx, collection, condition)
            )
            return {"total": found}
        case Update():
            return {"updated": await _updated(request, call, call_id)}
        case Remove():
            return {"deleted": await finished(_removed(request, call, call_id))}


# --- add ---


async def _added(request: web.Request, order: Order, call_id: str) -> str:
    """The id of the document's task, new or existing."""
    context, asked = context_of(request), order.submission
    await context.ensure_account(order.user)
    what = [asked.type, asked.params, asked.priority, asked.run_after, asked.webhook]
    key = Key(order.user, "POST", PATH, order.task_id or call_id, hash_of(what))
    with tracing.span("submit", "server", parent=request.headers.get("traceparent", "")) as span:
        request[TRACE] = span.trace_id
        new = NewTask(
            order.user,
            asked.type,
            asked.params,
            asked.priority,
            asked.run_after,
            task_id=order.task_id,
            checked=asked.checked,
            key=key,
            webhook=asked.webhook,
            trace=span.traceparent,
            proofs=request[IDENTITY].proofs,
        )
        try:
            submitted = await stored(context, new, context.submissions.begin(new))
        except (KeyReused, IntegrityError):
            if order.task_id is None or not await _is_there(request, order):
                raise
            request[TASK] = order.task_id
            return order.task_id
        view = submitted.view
        span.set_attributes(
            task_id=view["task_id"],
            type=view["type"],
            outcome="replayed" if submitted.is_replay else "stored",
        )
    request[TASK] = view["task_id"]
    return str(view["task_id"])


async def _is_there(request: web.Request, order: Order) -> bool:
    """Whether the task with this id is this order; False if there is none.  Raises Refused if it is another order."""
    wanted = Search("task_queue", Compare("_id", "=", order.task_id))
    found = await context_of(request).read(request, lambda tx: search.find(tx, wanted))
    if not found:
        return False
    (row,) = found
    given = (order.user, order.submission.type, order.submission.params)
    if (row["user_openid"], row["type"], decoded(row["params"])) != given:
        raise Refused(
            f"There is a task {order.task_id} already, with other contents; a new order needs a new _id.",
            NOT_POSSIBLE,
        )
    return True


# --- get ---


async def _found(request: web.Request, get: Get) -> list[str]:
    """Documents as text, made in the thread that reads the rows: a thousand of them take a while."""
    link = linked_from(request)

    def read(tx: Transaction) -> list[str]:
        if get.search.collection == "task_queue" and search.params_size(tx, get.search) > MOST_PARAMS:
            raise Refused(
                f"The tasks hold more than {MOST_PARAMS:,} characters of params; ask for fewer by limit()."
            )
        return [_text(get, row, link) for row in search.find(tx, get.search)]

    return await context_of(request).read(request, read)


def _text(get: Get, row: Row, link: Link) -> str:
    is_task = get.search.collection == "task_queue"
    document = task_document(row, link) if is_task else work_document(work_doc(row), link)
    return json.dumps(encode(get.projection(document)), ensure_ascii=False, separators=(",", ":"))


# --- update and remove ---


async def _updated(request: web.Request, update: Update, call_id: str) -> int:
    """How many tasks were cancelled or resubmitted; all of them, or none."""
    context = context_of(request)
    change = _cancel if update.status == "cancelled" else _put_back

    def step(tx: Transaction) -> tuple[int, list[Data]]:
        done = _noted(tx, request, call_id)
        if done:
            return done, []
        found = search.lock_tasks(tx, update.condition, MOST_CHANGED + 1)
        _refuse_crowd(found)
        moved = [change(tx, context, row["id"]) for row in found if row["status"] != update.status]
        for view in moved:
            _note(tx, request, call_id, view["task_id"])
        return len(moved), moved

    done, moved = await finished(context.write(request, step))
    for view in moved:
        if update.status == "cancelled":
            context.queue_positions.note_left(view)
        else:
            context.queue_positions.note_joined(view)
    return done


def _cancel(tx: Transaction, context: Context, task_id: str) -> Data:
    return user_actions.cancel(tx, task_id)


def _put_back(tx: Transaction, context: Context, task_id: str) -> Data:
    return user_actions.resubmit(tx, context.settings, task_id, obeys_limits=True)


async def _removed(request: web.Request, remove: Remove, call_id: str) -> int:
    """How many works were removed with their files; an open task is cancelled first."""
    context = context_of(request)

    def step(tx: Transaction) -> tuple[int, list[str]]:
        done = _noted(tx, request, call_id)
        if done:
            return done, []
        found = search.lock_works(tx, remove.condition, MOST_CHANGED + 1)
        _refuse_crowd(found)
        keys: list[str] = []
        for row in found:
            keys += works.delete(tx, row["id"], row["user_openid"])
            _note(tx, request, call_id, row["task_id"])
        return len(found), keys

    done, keys = await context.write(request, step)
    await delete_files(context, keys)
    return done


def _refuse_crowd(found: list[Row]) -> None:
    if len(found) > MOST_CHANGED:
        raise Refused(f"More than {MOST_CHANGED} documents are meant; name fewer at a time.")


def _noted(tx: Transaction, request: web.Request, call_id: str) -> int:
    """How many documents the same call has changed before."""
    return idempotency_keys.count(tx, request[IDENTITY].user, "POST", f"{PATH}#{call_id}")


def _note(tx: Transaction, request: web.Request, call_id: str, task_id: str) -> None:
    idempotency_keys.keep(tx, Key(request[IDENTITY].user, "POST", f"{PATH}#{call_id}", task_id, ""), task_id)
