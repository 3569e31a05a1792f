"""The descriptions of the operations, by the names that the table of addresses in `web.app.app` gives them."""

from __future__ import annotations

from supervisor.core.lifecycle import FINAL, OPEN
from web.openapi import ops_schemas, ops_task_schemas, schemas
from web.openapi.door_operations import DOOR_OPERATIONS
from web.openapi.operation import (
    AMOUNT,
    BAD_JSON,
    JSON,
    NO_USER,
    REFERENCE,
    RETRY_AFTER,
    USER,
    Answer,
    Operation,
    json_body,
    parameter,
    problem,
)
from web.openapi.ops_operations import OPS_OPERATIONS

TAGS = {
    "Pictures": "Photos go in before tasks that use them; finished pictures come out under signed links.",
    "Tasks": "A task is one order for AI work.  It is accepted in milliseconds and runs for as long as it must.",
    "Works": "A work is what the user sees of a task.  Its changes can be streamed live, or polled.",
    "Login": "For users without a token.",
    "Credits": "A task is paid when it is accepted and refunded when it ends without its pictures.",
    "Other SDKs": "Doors that speak as another service does, for its SDKs.",
    "Service": "For operation: needs no token, shows nothing about users.",
    "Operators": "What the page `/ops` shows and does.  Role `viewer` reads, `operator` also acts, `admin` also acts on"
    " users; all others get 403.",
}

REPLAYED = {"Idempotent-Replayed": "`true` where an earlier request with this key has made the task."}
WAITED = {"Preference-Applied": "`wait=N` where the wait was granted."}
_ID = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"}
_TASK_ID = parameter("path", "task_id", _ID, "A task's id.")
_WORK_ID = parameter("path", "work_id", _ID, "A work's id.")
_LIMIT = parameter(
    "query", "limit", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}, "Items on a page."
)
_CURSOR = parameter(
    "query",
    "cursor",
    {
        "type": "string",
        "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z~[A-Za-z0-9_-]{1,64}$",
    },
    "`next` of the page before.",
)
_STATUS = parameter(
    "query",
    "status",
    {"type": "string", "enum": sorted(str(each) for each in (*OPEN, *FINAL))},
    "Only tasks with this status.",
)
_TYPE = parameter("query", "type", {"type": "string"}, "Only tasks of this type.")
_WORKS_TYPE = parameter("query", "type", {"type": "string"}, "Only works of this type.")
_MOMENT = {"type": "string", "format": "date-time"}
_CREATED_FROM = parameter(
    "query", "created_from", _MOMENT, "Only works that were ordered at this time or later."
)
_CREATED_BEFORE = parameter(
    "query", "created_before", _MOMENT, "Only works that were ordered before this time."
)
_LINK_TOKEN = parameter("path", "token", {"type": "string"}, "As the link has it.")
_KEY = parameter(
    "header",
    "Idempotency-Key",
    {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,255}$"},
    "A string of your own for one request, quoted or not.  Sent again within 24 hours with the same body it names the"
    " same task, as it is now; with another body it is 422.",
)
_PREFER = parameter(
    "header",
    "Prefer",
    {"type": "string", "examples": ["wait=30"]},
    "`wait=N`, 1 to 60 seconds: answer 200 with the finished task if it ends in time.",
)
_TRACEPARENT = parameter(
    "header",
    "traceparent",
    {"type": "string", "examples": ["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"]},
    "W3C Trace Context: the task goes on with this trace, where the server sends traces somewhere; else it is ignored.",
)
_ESTIMATE = parameter(
    "query",
    "estimate",
    {"type": "boolean", "const": True},
    "Only return the order's cost and estimated start.  It is checked as an order; nothing is stored, and no"
    " account is opened.",
)
ACTED_FOR = parameter(
    "header",
    "X-User",
    {"type": "string", "minLength": 1, "maxLength": 128},
    "The user for whom a token of role `service` acts.  Other tokens may name their own user alone.",
)
_TICKET = parameter("query", "ticket", {"type": "string"}, "A feed ticket, where no header can be set.")
_SINCE_QUERY = parameter(
    "query", "last_event_id", {"type": "string"}, "As `Last-Event-ID`, where no header can be set."
)
_SINCE_HEADER = parameter(
    "header", "Last-Event-ID", {"type": "string"}, "The last event's id: go on after it."
)

_ROTATE = parameter(
    "query",
    "rotate",
    {"type": "integer", "minimum": 5, "maximum": 3600},
    "Seconds after which the client is cut off by something else: the stream ends before that, in good order, with"
    " `bye`.",
)

_NO_TASK = problem("There is no such task of this user.")
_NO_WORK = problem("There is no such work of this user.")
_BAD_QUERY = problem("A query parameter is wrong.")

# Not described as application/octet-stream, which works, too: of a form beside that openapi-python-client 0.29 writes a
# module that can't be imported.
_PICTURE = {"type": "string", "format": "binary"}
_PAGE = {200: Answer("The page.", {"type": "string"}, "text/html"), 304: Answer("Not changed.")}
_STREAM = """retry: 2140

id: 5f0c9a31b27d-41
event: init
data: {"id":41,"type":"init","docChanges":[],"docs":[]}

id: 5f0c9a31b27d-42
event: change
data: {"id":42,"docChanges":[{"id":42,"dataType":"add","queueType":"enqueue","docId":"01K…","doc":{…}}]}

:

event: bye
data: {}

"""

OPERATIONS: dict[str, Operation] = {
    "uploadImage": Operation(
        "Pictures",
        "Upload a photo.",
        {
            201: Answer("Stored.", schemas.UploadedImage),
            413: problem("More bytes, or more parts of a form, than are accepted."),
            415: problem("No picture in JPEG, PNG, WebP, AVIF, HEIC, GIF or BMP."),
            422: problem(
                "A picture that can't be used: damaged, too many pixels, too dear to decode; or a broken form."
            ),
            429: problem("Too many uploads of this user, or this address, are under way.", RETRY_AFTER),
            503: problem("Too many uploads of all are under way, or wait to be decoded.", RETRY_AFTER),
        },
        "It is decoded, turned upright, stripped of metadata and bounded in bytes and pixels.  Send a form with the"
        " field `image`, or the picture itself.  JPEG, PNG, WebP, AVIF, HEIC (where the extra `heic` is installed), GIF"
        " and BMP; of an animation, its first frame.  The bytes say which it is; the types that requests and parts name"
        " are not looked at.",
        body={
            "multipart/form-data": {
                "type": "object",
                "required": ["image"],
                "properties": {"image": _PICTURE},
            },
            "image/jpeg": _PICTURE,
            "image/png": _PICTURE,
            "image/webp": _PICTURE,
            "image/avif": _PICTURE,
            "image/heic": _PICTURE,
        },
    ),
    "uploadFile": Operation(
        "Pictures",
        "Upload a file of any kind that a type may take.",
        {
            201: Answer("Stored.", schemas.UploadedFile),
            413: problem("More bytes than are accepted of this kind, or more parts of a form."),
            415: problem("None of the kinds that are taken; HTML and SVG never are."),
            422: problem("A picture that can't be used, or a broken form."),
            429: problem("Too many uploads of this user, or this address, are under way.", RETRY_AFTER),
            503: problem("Too many uploads of all are under way, or wait to be decoded.", RETRY_AFTER),
        },
        "Pictures as `/v1/images` takes them; MP4, WebM, MOV; MP3, WAV, M4A, OGG, FLAC; GLB, PDF, JSON, text, ZIP."
        "  Send a form with the field `file`, or the file itself.  The bytes say what it is.",
        body={
            "multipart/form-data": {"type": "object", "required": ["file"], "properties": {"file": _PICTURE}},
            "video/mp4": _PICTURE,
            "audio/mpeg": _PICTURE,
            "model/gltf-binary": _PICTURE,
            "application/pdf": _PICTURE,
        },
    ),
    "submitTask": Operation(
        "Tasks",
        "Hand in an order.",
        {
            200: Answer(
                "With `Prefer: wait=N`: it has ended in time.  With `estimate=true`: what it would cost.",
                {"oneOf": [{"$ref": f"#/components/schemas/{each}"} for each in ("Task", "Estimate")]},
                headers=REPLAYED | WAITED,
            ),
            202: Answer("Stored, paid and in line.", schemas.AcceptedTask, headers=REPLAYED | WAITED),
            **BAD_JSON,
            402: problem("The balance does not cover the price."),
            422: problem(
                "The order is wrong, or holds more than 10,000 values; an image is not there; or the key was used for"
                " another body."
            ),
            429: problem("The user has as many open tasks as are allowed.", RETRY_AFTER),
            503: problem("The whole queue is full, or the process is about to stop.", RETRY_AFTER),
        },
        "The answer comes after the commit: what is answered 202 survives loss of power.",
        (_KEY, _PREFER, _TRACEPARENT, _ESTIMATE),
        {JSON: "Order"},
    ),
    "listTasks": Operation(
        "Tasks",
        "List tasks, newest first.",
        {200: Answer("A page.", schemas.TaskPage), 422: _BAD_QUERY},
        parameters=(_STATUS, _TYPE, _LIMIT, _CURSOR),
    ),
    "showTask": Operation(
        "Tasks",
        "Look at a task.",
        {200: Answer("As it is now.", schemas.Task), 404: _NO_TASK},
        parameters=(_TASK_ID,),
    ),
    "showTaskOrder": Operation(
        "Tasks",
        "Look at what a task was ordered as, to order the same again.",
        {
            200: Answer(
                "Its type, its params, and those of its uploads that are still kept.", schemas.TaskOrder
            ),
            404: _NO_TASK,
        },
        parameters=(_TASK_ID,),
    ),
    "showTaskEvents": Operation(
        "Tasks",
        "Look back at what happened to a task.",
        {200: Answer("Its steps, oldest first.", schemas.TaskHistory), 404: _NO_TASK},
        "Each claim with its worker, each failure with its reason, each return to the line with its time, and the"
        " credits that moved.  Steps older than `RETENTION__EVENT_DAYS` are forgotten.",
        (_TASK_ID,),
    ),
    "cancelTask": Operation(
        "Tasks",
        "Cancel an open task, with its refund.",
        {
            202: Answer("Cancelled.", schemas.Task, headers=REPLAYED),
            404: _NO_TASK,
            409: problem("It has finished already."),
            422: problem("The key can't be one."),
        },
        parameters=(_TASK_ID, _KEY),
    ),
    "retryTask": Operation(
        "Tasks",
        "Run a failed or cancelled task again; it is paid again.",
        {
            202: Answer("Pending again.", schemas.Task, headers=REPLAYED),
            402: problem("The balance does not cover the price."),
            404: _NO_TASK,
            409: problem("It has not failed or been cancelled, or its work was deleted."),
            422: problem("It can't be run any more: an image is gone, or its type; or the key can't be one."),
            429: problem("The user has as many open tasks as are allowed.", RETRY_AFTER),
            503: problem("The whole queue is full, or the process is about to stop.", RETRY_AFTER),
        },
        parameters=(_TASK_ID, _KEY),
    ),
    "followWorks": Operation(
        "Works",
        "Hear every change of the user's works as it is committed.",
        {
            200: Answer(
                "A stream without end: `init` or `reset` with all works, then `change` for each change, `bye` before"
                " the server stops, and a comment every 15 s.",
                {"description": "Events as in the HTML standard, section 9.2."},
                "text/event-stream",
                examples={"stream": {"summary": "A stream", "value": _STREAM}},
            ),
            422: _BAD_QUERY,
            429: problem("The user has as many streams open as are allowed.", RETRY_AFTER),
            503: problem("The process is about to stop.", RETRY_AFTER),
        },
        "In order, none missing, none twice.  Go on after an event by `Last-Event-ID`; an id that is unknown or no"
        " longer kept is answered with `reset`, never with silence.",
        (_SINCE_HEADER, _SINCE_QUERY, _TICKET, _ROTATE),
    ),
    "pollChanges": Operation(
        "Works",
        "The same changes, by asking for them.",
        {
            200: Answer("What came after `since`, or everything.", schemas.Changes),
            422: _BAD_QUERY,
            429: problem("The user waits in too many places.", RETRY_AFTER),
            503: problem("The process is about to stop.", RETRY_AFTER),
        },
        parameters=(
            parameter("query", "since", {"type": "string"}, "`next` of the call before."),
            parameter(
                "query",
                "wait",
                {"type": "integer", "minimum": 0, "maximum": 25, "default": 0},
                "Seconds to wait for something to come.",
            ),
        ),
    ),
    "listWorks": Operation(
        "Works",
        "List works, newest first.",
        {200: Answer("A page.", schemas.WorkPage), 422: _BAD_QUERY},
        parameters=(_WORKS_TYPE, _CREATED_FROM, _CREATED_BEFORE, _LIMIT, _CURSOR),
    ),
    "showWork": Operation(
        "Works",
        "Look at a work.",
        {200: Answer("As it is now.", schemas.Work), 404: _NO_WORK},
        parameters=(_WORK_ID,),
    ),
    "deleteWork": Operation(
        "Works",
        "Delete a work and its pictures; an open task is cancelled first, with its refund.",
        {204: Answer("Gone; the feed sends a `remove`."), 404: _NO_WORK},
        parameters=(_WORK_ID,),
    ),
    "shareWork": Operation(
        "Works",
        "Make a link that shows a finished work's pictures to everybody who has it.",
        {
            201: Answer(
                "The link.  It names no user; it ends at its time, and when the work is deleted.",
                schemas.Share,
            ),
            **BAD_JSON,
            404: _NO_WORK,
            409: problem("The work has no finished pictures."),
            422: problem("The time is none of those that can be chosen."),
        },
        "Revoking all tokens of the user ends the links that were made before, too.",
        parameters=(_WORK_ID,),
        body=json_body(
            ["ttl_seconds"], ttl_seconds={"type": "integer", "enum": [3600, 86_400, 604_800, 2_592_000]}
        ),
    ),
    "showShared": Operation(
        "Works",
        "The page of a shared work: its pictures and files, and nothing else.",
        {
            200: Answer("The page.", {"type": "string"}, "text/html"),
            404: Answer("The link is wrong, or was taken back.", {"type": "string"}, "text/html"),
            410: Answer("The link has expired, or the work was deleted.", {"type": "string"}, "text/html"),
            429: problem("Too many requests of this address.", RETRY_AFTER),
        },
        parameters=(_LINK_TOKEN,),
        needs_token=False,
    ),
    "fetchShared": Operation(
        "Works",
        "Fetch a picture or a file of a shared work.",
        {
            200: Answer("The picture.", _PICTURE, "image/*"),
            206: Answer("The part of it that was asked for.", _PICTURE, "image/*"),
            304: Answer("Not changed."),
            404: problem("The link is wrong, or the work has no such picture."),
            410: problem("The link has expired, or the work was deleted."),
            416: problem("The picture has no such part."),
            429: problem("Too many requests of this address.", RETRY_AFTER),
        },
        parameters=(
            _LINK_TOKEN,
            parameter("path", "n", {"type": "string", "pattern": "^[0-9]{1,3}$"}, "Which picture, from 1."),
            parameter("query", "small", {"type": "string"}, "Its preview."),
            parameter("query", "save", {"type": "string"}, "To be saved, not shown."),
        ),
        needs_token=False,
    ),
    "prepareArchive": Operation(
        "Works",
        "Ask for a link to all finished pictures and files in one ZIP file, or to those of a search.",
        {
            201: Answer("The link, good for one or more downloads that begin in time.", schemas.ArchiveLink),
            **BAD_JSON,
            404: problem("There is no finished work to be saved."),
            422: problem("A member is wrong."),
        },
        "At most the newest 1,000 works.",
        body=json_body(
            type={"type": "string", "maxLength": 100}, created_from=_MOMENT, created_before=_MOMENT
        ),
    ),
    "fetchArchive": Operation(
        "Works",
        "Fetch all pictures and files in one ZIP file.",
        {
            200: Answer(
                "The file; it is made while it is sent, so its size is not said.", _PICTURE, "application/zip"
            ),
            401: problem("The token that asked for the link was revoked."),
            403: problem("The link was altered or has expired."),
            429: problem("Too many requests, or too many of these files at once.", RETRY_AFTER),
        },
        parameters=(_LINK_TOKEN,),
        needs_token=False,
    ),
    "issueFeedTicket": Operation(
        "Works",
        "Leave to open a stream where no header can be set, such as a browser's EventSource.",
        {
            201: Answer(
                "`?ticket=` opens a stream within a minute, and reopens it for an hour.", schemas.FeedTicket
            )
        },
    ),
    "issueToken": Operation(
        "Login",
        "A service asks for a token of one of its users.",
        {
            201: Answer("Role `user`, for a page, an app or an SDK of that user.", schemas.IssuedToken),
            **BAD_JSON,
            422: problem("The user or the time is wrong."),
        },
        "Role `service`, `operator` or `admin`; all others get 403.  Revoking the token that asks, or all of its"
        " holder, revokes the token that it was given, too.",
        body=json_body(
            ["user"],
            user={
                "type": "string",
                "minLength": 1,
                "maxLength": 128,
                "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f\\u2028\\u2029]*$",
            },
            ttl_seconds={"type": "integer", "minimum": 1, "maximum": 86_400, "default": 3600},
        ),
    ),
    "logInWithWeChat": Operation(
        "Login",
        "Exchange a mini-program's login code for a token.",
        {
            200: Answer("A token for the code's user.", schemas.Login),
            400: problem("The body is not JSON."),
            415: problem("The body does not say that it is JSON."),
            401: problem("The code is invalid, used or expired; call `wx.login()` again."),
            403: problem("WeChat has blocked the user, or an admin of this service has (`user_blocked`)."),
            404: problem("No mini-program is set up here."),
            422: problem("The body has no code, or something else."),
            429: problem("This address, or this user, logs in too often.", RETRY_AFTER),
            502: problem("WeChat can't be reached, or refuses this server."),
            503: problem("WeChat is busy.", RETRY_AFTER),
            504: problem("WeChat did not answer in time."),
        },
        "A code is good for one exchange; after any error, get a new one.",
        body=json_body(["code"], code={"type": "string", "description": "What `wx.login()` gave."}),
        needs_token=False,
    ),
    "listTypes": Operation(
        "Tasks",
        "What may be ordered here: what each type takes, makes and costs.",
        {200: Answer("Every type, in the order in which they are declared.", schemas.TypeList)},
        "Needs no token.  `inputs` and `count` are [fewest, most]; `parameters` is the JSON Schema (2020-12) of"
        " `params.parameters`, `{}` where they may be anything; `scenes` is what `sceneId` may be, empty where it may"
        " be any text.",
        needs_token=False,
    ),
    "showCredits": Operation(
        "Credits",
        "The user's balance and the newest entries of the ledger.",
        {200: Answer("As it is now.", schemas.Credits)},
    ),
    "showCreditsOfUser": Operation(
        "Credits",
        "A service looks at a user's account.",
        {200: Answer("As it is now; an empty account for an unknown user.", schemas.Credits), 404: NO_USER},
        "Role `service` or `operator`; all others get 403.",
        (USER,),
    ),
    "grantCredits": Operation(
        "Credits",
        "A service gives a user credits, once for each reference.",
        {
            200: Answer("It was made before; nothing is changed.", schemas.Grant),
            201: Answer("Made.", schemas.Grant),
            **BAD_JSON,
            404: NO_USER,
            409: problem("The reference stands for another user, or another amount."),
            422: problem("The amount or the reference is wrong."),
        },
        "Role `service`, `operator` or `admin`; all others get 403.  `reference` names the reason, such as an order"
        " of your shop: sent again, it grants nothing more.",
        (USER,),
        json_body(["amount", "reference"], amount=AMOUNT, reference=REFERENCE),
    ),
    "reportOnRemoteJob": Operation(
        "Service",
        "An AI service reports on a remote job.",
        {
            200: Answer(
                "Stored; or a repeat, or a job that is over, which changes nothing.", {"type": "object"}
            ),
            403: problem("The token is not one of ours."),
            413: problem("The report is larger than 1 MiB."),
            503: problem("The database can't be used just now; send it again.", RETRY_AFTER),
        },
        "The address is given to the service with its job; nobody else has it.",
        parameters=(parameter("path", "token", {"type": "string"}, "As the address has it."),),
        body={"*/*": {}},
        needs_token=False,
    ),
    "fetchPicture": Operation(
        "Pictures",
        "Fetch a picture by a signed link.",
        {
            200: Answer("The picture.", _PICTURE, "image/*"),
            206: Answer("The part of it that was asked for.", _PICTURE, "image/*"),
            304: Answer("Not changed."),
            403: problem("The link was altered or has expired."),
            404: problem("The picture is gone."),
            416: problem("The picture has no such part."),
        },
        parameters=(
            parameter(
                "path",
                "key",
                {"type": "string", "pattern": "^[A-Za-z0-9_-][A-Za-z0-9_./-]{0,200}$"},
                "As the link has it; it holds slashes.",
            ),
            parameter("query", "exp", {"type": "string"}, "As the link has it."),
            parameter("query", "sig", {"type": "string"}, "As the link has it."),
        ),
        needs_token=False,
    ),
    "answerCloudBase": Operation(
        "Other SDKs",
        "Answer a database call of CloudBase's server SDKs, wx-server-sdk and @cloudbase/node-sdk.",
        {
            200: Answer(
                "Always, as they need it: `data`, or `code` and `message`, which they throw.",
                {
                    "type": "object",
                    "required": ["requestId"],
                    "properties": {
                        "requestId": {"type": "string"},
                        "data": {"type": "object"},
                        "code": {"type": "string"},
                        "message": {"type": "string"},
                    },
                },
            )
        },
        "Signed with TC3-HMAC-SHA256 and a key that `darkroom key cloudbase NAME` prints, or with a token of role"
        " `service` as `accessKey`.  Collections `task_queue` and `works`; which calls are answered is in"
        " docs/from-cloud-functions.md.",
        body={
            JSON: {
                "type": "object",
                "required": ["action"],
                "properties": {
                    "action": {"type": "string"},
                    "collectionName": {"type": "string", "enum": ["task_queue", "works"]},
                },
            }
        },
        needs_token=False,
    ),
    **DOOR_OPERATIONS,
    "healthz": Operation(
        "Service", "Whether the process is alive.", {200: Answer("It is.", schemas.Health)}, needs_token=False
    ),
    "readyz": Operation(
        "Service",
        "Whether the process may be sent requests.",
        {
            200: Answer("It may.", schemas.Ready),
            503: problem("It drains, or its database is away or not migrated.", RETRY_AFTER),
        },
        needs_token=False,
    ),
    "metrics": Operation(
        "Service",
        "Everything Prometheus may know.",
        {200: Answer("The text format 0.0.4.", {"type": "string"}, "text/plain")},
        needs_token=False,
    ),
    "openapi": Operation(
        "Service", "This description.", {200: Answer("OpenAPI 3.1.", {"type": "object"})}, needs_token=False
    ),
    "enter": Operation(
        "Service",
        "The link that `darkroom up` prints: lets a browser on the server's own host in, by a cookie.",
        {303: Answer("To the console; with the cookie where the key is that of this start.")},
        parameters=(parameter("query", "key", {"type": "string"}, "What the link holds."),),
        needs_token=False,
    ),
    "console": Operation(
        "Service",
        "The console: a page to order pictures and watch them being made.",
        _PAGE,
        needs_token=False,
    ),
    "operate": Operation(
        "Service",
        "The operators' page; what it shows it asks for with an operator's token.",
        _PAGE,
        needs_token=False,
    ),
    "docs": Operation("Service", "This description as a page.", _PAGE, needs_token=False),
}
_MOVED = Answer("The task as it stands now.", ops_task_schemas.OpsMoved)
_NO_SUCH_TASK = problem("There is no such task.")
OPERATIONS |= {
    **OPS_OPERATIONS,
    "showOverview": Operation(
        "Operators",
        "How everything stands: troubles, queue, running and stuck tasks, workers, providers, an hour of samples.",
        {200: Answer("As it is now.", ops_schemas.OpsOverview)},
    ),
    "findTasks": Operation(
        "Operators",
        "Find tasks of any user, newest first.",
        {200: Answer("A page.", ops_task_schemas.OpsFoundTasks), 422: _BAD_QUERY},
        "With `code`, `text`, `provider`, `from` or `to`: tasks that have ended (or have the given `status`), as a"
        " filter of many tasks finds them, at most fifty.",
        parameters=(
            parameter("query", "user", {"type": "string"}, "Only this user's."),
            _STATUS,
            _TYPE,
            _CURSOR,
            parameter(
                "query",
                "stuck",
                {"type": "boolean", "enum": [True]},
                "Only those that the next sweep would rescue, at most fifty; beside it `status` alone.",
            ),
            parameter("query", "code", {"type": "string"}, "Only those with this error code."),
            parameter("query", "text", {"type": "string"}, "Only those whose error says this."),
            parameter("query", "provider", {"type": "string"}, "Only those that asked this service."),
            parameter("query", "from", {"type": "string"}, "Only those that ended from then on."),
            parameter("query", "to", {"type": "string"}, "… and not after that."),
        ),
    ),
    "examineTask": Operation(
        "Operators",
        "Everything that is known of a task: its row, history, remote jobs, and what operators did.",
        {200: Answer("As it is now.", ops_task_schemas.OpsExaminedTask), 404: _NO_SUCH_TASK},
        parameters=(_TASK_ID,),
    ),
    "cancelAnyTask": Operation(
        "Operators",
        "Cancel any user's open task, with its refund.",
        {202: _MOVED, 404: _NO_SUCH_TASK, 409: problem("It has finished.")},
        parameters=(_TASK_ID,),
    ),
    "retryAnyTask": Operation(
        "Operators",
        "Run a failed or cancelled task again; its user pays again.",
        {
            202: _MOVED,
            402: problem("The user's balance does not cover the price."),
            404: _NO_SUCH_TASK,
            409: problem("It has not failed or been cancelled, or its work was deleted."),
            422: problem("It can't be run any more: an image is gone, or its type."),
        },
        parameters=(_TASK_ID,),
    ),
    "releaseTask": Operation(
        "Operators",
        "Let a task go on now: a running one is put back for another worker, a waiting one is due at once.",
        {
            202: _MOVED,
            404: _NO_SUCH_TASK,
            409: problem("There is nothing to let go of, or it may be billed twice."),
        },
        parameters=(_TASK_ID,),
    ),
    "drainWorker": Operation(
        "Operators",
        "Let a worker finish what it has and end; its supervisor starts another.",
        {
            202: Answer("It will at its next heartbeat.", ops_task_schemas.OpsDraining),
            404: problem("No such worker lives."),
        },
        parameters=(parameter("path", "worker_id", {"type": "string"}, "A worker's id."),),
    ),
    "resendWebhook": Operation(
        "Operators",
        "Send a webhook again, under the same `webhook-id`.",
        {
            202: Answer("It is due now.", ops_task_schemas.OpsResent),
            404: problem("There is no such webhook."),
        },
        "From the beginning of its schedule, whatever became of it before; an address that had answered 410 counts as"
        " living again.",
        (parameter("path", "webhook_id", {"type": "string"}, "A delivery's id: `msg_…`."),),
    ),
    "pause": Operation(
        "Operators",
        "Pause a type, whose tasks are not started, or a provider, which is sent nothing new.",
        {
            201: Answer("It is paused.", ops_task_schemas.OpsPaused),
            400: problem("The body is not JSON."),
            415: problem("The body does not say that it is JSON."),
            422: problem("There is no such type or provider."),
        },
        "What runs goes on, and so do remote jobs that the service has accepted.",
        body={
            JSON: {
                "type": "object",
                "required": ["kind", "name"],
                "properties": {
                    "kind": {"type": "string", "enum": ["type", "provider"]},
                    "name": {"type": "string"},
                    "reason": {"type": "string", "maxLength": 200},
                },
            }
        },
    ),
    "resume": Operation(
        "Operators",
        "Let a paused type or provider go on.",
        {204: Answer("It goes on."), 404: problem("It is not paused.")},
        parameters=(
            parameter("path", "kind", {"type": "string", "enum": ["type", "provider"]}, "Which of the two."),
            parameter("path", "name", {"type": "string"}, "Its name."),
        ),
    ),
    "sweepNow": Operation(
        "Operators",
        "Rescue and prune now instead of at the next minute.",
        {200: Answer("What it did.", ops_task_schemas.OpsSwept)},
    ),
}
