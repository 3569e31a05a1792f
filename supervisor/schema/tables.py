"""Every table as a peewee model: the schema as it is today, which the numbered migrations have made step by step.

A test compares this page with what they make on both databases.  Each new migration changes both.  Triggers,
guards and CHECK constraints are not here.  Plain reads and writes are built with these models
(`supervisor.schema.statements`); statements that lock, decide or join many rows are SQL in `supervisor.store`.

Conditions of partial indexes have names.  A planner uses such an index only if the statement contains the condition
word for word, even if another condition implies it: hence `{HELD} AND status = 'processing'` in the store.
"""

from __future__ import annotations

from typing import ClassVar

from peewee import CompositeKey

from supervisor.schema.columns import (
    EPOCH,
    NOW,
    ULID,
    Big,
    Both,
    Bytes,
    Id,
    Integer,
    Interval,
    Json,
    Number,
    Serial,
    Table,
    Text,
    Time,
)

SQLITE, POSTGRESQL = "sqlite", "postgresql"

# Tasks.  No program of today sets dispatched_at.
OPEN = "status IN ('pending','processing','ai_processing')"  # not over
HELD = "status IN ('processing','ai_processing') AND worker_id IS NOT NULL"  # in the hands of a worker
REMOTE = "status = 'ai_processing'"  # at a remote service
READY = "status = 'pending' AND ready = 1 AND dispatched_at IS NULL"  # to be picked
UNADMITTED = "status = 'pending' AND admitted_charge <> charge"  # ordered, and not admitted yet
UNRIPE = "status = 'pending' AND ready = 0 AND admitted_charge = charge"  # admitted, and not due yet
FRESH = "status = 'pending' AND attempt = 0 AND charge = 1 AND run_after IS NULL"  # waiting since their submission
AGAIN = "status = 'pending' AND (attempt > 0 OR charge > 1 OR run_after IS NOT NULL)"  # all others that wait
BETWEEN_STEPS = "status = 'pending' AND step > first_step"  # it counts as running
RUNNING = f"{OPEN} AND (status <> 'pending' OR step > first_step)"  # what counts for a user's limit
# Remote jobs that hold a place at their service.
UNSETTLED = "state IN ('submitting','waiting')"
# Webhooks.
OWED = "state IN ('waiting','sending')"
GIVEN_UP = "state IN ('failed','gone')"


class TaskQueue(Table):
    """A task: an order for AI work.  README explains the columns that producers may use."""

    id = Id(default=ULID, primary_key=True)
    user_openid = Id()
    type = Id()
    params = Json()
    priority = Integer(default="0")
    run_after = Time(null=True)
    status = Id(default="'pending'")
    stage = Text(default="'queued'")
    progress = Integer(default="0")
    work_id = Id(null=True)
    images = Json(null=True)
    error = Json(null=True)
    charge = Integer(default="1")
    admitted_charge = Integer(default="0")
    picture_count = Integer(default="1")
    missing = Integer(default="0")
    attempt = Integer(default="0")
    failures = Integer(default="0")
    deaths = Integer(default="0")
    max_attempts = Integer(default="3")
    lease = Integer(default="0")
    worker_id = Id(null=True)
    ready = Integer(default="0")
    turn = Integer(default="0")
    dispatch = Integer(default="1")
    dispatched_at = Time(null=True)
    next_poll_at = Time(null=True)
    remote_deadline_at = Time(null=True)
    expires_at = Time(null=True)
    created_at = Time(default=Both(NOW.sqlite, None))
    updated_at = Time(default=Both(NOW.sqlite, None))
    processing_started_at = Time(null=True)
    deadline_at = Time(null=True)
    finished_at = Time(null=True)
    asked_at = Time(null=True)
    asked_since = Time(null=True)
    questions = Integer(default="0")
    answered_at = Time(null=True)
    begun_lease = Integer(default="0")
    outputs = Json(null=True)
    step = Integer(default="0")
    first_step = Integer(default="0")
    last_step = Integer(default="0")
    steps = Json(null=True)
    lane = Id(default="''")
    kept = Integer(default="0")

    class Meta:
        uniques: ClassVar = {"a_work_belongs_to_one_task": "(work_id)"}
        named_indexes: ClassVar = {
            "task_queue_pick": f"(type, lane, priority DESC, turn, created_at, id) WHERE {READY}",
            "task_queue_unadmitted": f"(user_openid, id) WHERE {UNADMITTED}",
            "task_queue_unripe": f"(run_after) WHERE {UNRIPE}",
            "task_queue_dispatched": (
                "(dispatched_at) WHERE status IN ('pending','ai_processing') AND dispatched_at IS NOT NULL"
            ),
            "task_queue_next_poll": f"(next_poll_at) WHERE {REMOTE}",
            "task_queue_held": f"(worker_id) WHERE {HELD}",
            "task_queue_open": f"(user_openid, priority, turn) WHERE {OPEN}",
            "task_queue_active": Both(f"(status, type) WHERE {OPEN}", f"(type, status) WHERE {OPEN}"),
            "task_queue_expiry": f"(expires_at) WHERE {OPEN} AND expires_at IS NOT NULL",
            "task_queue_user": "(user_openid, created_at DESC, id DESC)",
            "task_queue_finished": "(type, finished_at) WHERE finished_at IS NOT NULL",
            "task_queue_fresh": f"(type, created_at) WHERE {FRESH}",
            "task_queue_again": f"(type, created_at) WHERE {AGAIN}",
            "task_queue_overdue": f"(remote_deadline_at) WHERE {REMOTE} AND remote_deadline_at IS NOT NULL",
            "task_queue_between_steps": f"(type) WHERE {BETWEEN_STEPS}",
            "task_queue_running": f"(user_openid) WHERE {RUNNING}",
            "task_queue_deadly": f"(deaths) WHERE {OPEN} AND deaths > 0",
        }


class Account(Table):
    """A user: their credits, and the state of their feed.  seq: the number of their newest change; epoch: changes when
    a backup is restored; blocked_at: NULL unless an admin has blocked them."""

    user_openid = Id(primary_key=True)
    balance = Integer(default="0")
    seq = Big(default="0")
    epoch = Text(default=EPOCH)
    created_at = Time(default=NOW)
    blocked_at = Time(null=True)
    blocked_reason = Text(null=True)

    class Meta:
        without_rowid = True
        named_indexes: ClassVar = {
            "account_blocked": "(blocked_at) WHERE blocked_at IS NOT NULL",
        }


class Works(Table):
    """What a user sees of a task."""

    id = Id(primary_key=True)
    user_openid = Id()
    task_id = Id()
    type = Id()
    status = Id()
    stage = Text()
    progress = Integer()
    images = Json(default="'[]'")
    error = Json(null=True)
    created_at = Time(default=NOW)
    updated_at = Time(default=NOW)
    outputs = Json(null=True)

    class Meta:
        uniques: ClassVar = {"a_task_has_one_work": "(task_id)"}
        named_indexes: ClassVar = {
            "works_user": "(user_openid, created_at DESC, id DESC)",
            "works_type": "(user_openid, type, created_at DESC, id DESC)",
        }


class CreditEntry(Table):
    """An entry of the ledger.  amount: signed; base, per, units: the parts of a debit."""

    id = Serial()
    user_openid = Id()
    task_id = Id(null=True)
    charge = Integer(null=True)
    kind = Id()
    amount = Integer()
    reference = Id(null=True)
    created_at = Time(default=NOW)
    base = Integer(null=True)
    per = Id(null=True)
    units = Number(null=True)

    class Meta:
        uniques: ClassVar = {"a_task_is_debited_and_refunded_once_a_charge": "(task_id, charge, kind)"}
        named_indexes: ClassVar = {
            "credit_entry_signup": "UNIQUE (user_openid) WHERE reference = 'signup'",
            "credit_entry_reference": "UNIQUE (reference) WHERE reference IS NOT NULL AND reference <> 'signup'",
            "credit_entry_user": "(user_openid, id)",
        }


class ProviderCost(Table):
    """The cost of a request, as the service reported it.  amount: a decimal number, exact."""

    id = Serial()
    reference = Id()
    task_id = Id()
    type = Id()
    charge = Integer()
    lease = Integer()
    attempt = Integer()
    provider = Id()
    amount = Id()
    unit = Id()
    created_at = Time(default=NOW)
    step = Integer(default="0")

    class Meta:
        uniques: ClassVar = {"a_request_costs_once": "(reference)"}
        named_indexes: ClassVar = {
            "provider_cost_time": "(created_at)",
            "provider_cost_task": "(task_id)",
        }


class WorkChange(Table):
    """The change log.  seq: of the user's changes, without a gap."""

    log_id = Serial()
    user_openid = Id()
    seq = Big()
    data_type = Text()
    queue_type = Text()
    doc_id = Id()
    doc = Json()
    updated_fields = Json(null=True)
    created_at = Time(default=NOW)

    class Meta:
        uniques: ClassVar = {"a_seq_of_a_user_is_one_change": "(user_openid, seq)"}
        named_indexes: ClassVar = {
            "work_change_age": "(created_at)",
        }


class Worker(Table):
    """A worker process.  busy: its threads at work; beat: rises while it lives."""

    id = Id(primary_key=True)
    host = Text()
    pid = Integer()
    slots = Integer()
    busy = Integer(default="0")
    state = Id(default="'live'")
    beat = Big(default="0")
    started_at = Time(default=NOW)
    seen_at = Time(default=NOW)
    takes_claims = Integer(default="0")
    offers = Text(default="'{}'")  # {name: amount} as JSON
    types = Text(null=True)  # JSON list of the only ones that it takes; NULL for all

    class Meta:
        named_indexes: ClassVar = {
            "worker_present": "(state) WHERE state IN ('live','draining','dead')",
        }


class Image(Table):
    """An upload.  used_at: when the sweep last found it in use; expired_at: when the sweep found it unused."""

    id = Id(primary_key=True)
    user_openid = Id()
    key = Id()
    width = Integer()
    height = Integer()
    bytes = Big()
    sha256 = Text()
    created_at = Time(default=NOW)
    used_at = Time(null=True)
    expired_at = Time(null=True)
    media_type = Id(null=True)
    name = Id(null=True)

    class Meta:
        uniques: ClassVar = {"image_key_key": "(key)"}
        named_indexes: ClassVar = {
            "image_user": "(user_openid, id)",
            "image_aging": "(coalesce(used_at, created_at)) WHERE expired_at IS NULL",
            "image_expired": "(expired_at) WHERE expired_at IS NOT NULL",
        }


class ResultFile(Table):
    """A file that an attempt has made durable.  n: its place among those of the charge."""

    task_id = Id()
    charge = Integer()
    params_hash = Id()
    n = Integer()
    key = Text()
    sha256 = Text()
    width = Integer()
    height = Integer()
    created_at = Time(default=NOW)
    thumbnail = Json(null=True)
    about = Json(null=True)
    step = Integer(default="0")

    class Meta:
        primary_key = CompositeKey("task_id", "charge", "params_hash", "n")
        named_indexes: ClassVar = {
            "result_file_key": "(key)",
        }


class TaskStep(Table):
    """A finished step of a charge, with its results.  resumed: whether an earlier charge has made them.  lost: whether
    their files are gone, or those of a step that they were made from."""

    task_id = Id()
    charge = Integer()
    step = Integer()
    name = Id()
    params_hash = Id()
    images = Json()
    outputs = Json(null=True)
    missing = Integer()
    kept_credits = Integer()
    run_seconds = Number(null=True)
    resumed = Integer(default="0")
    finished_at = Time(default=NOW)
    lost = Integer(default="0")

    class Meta:
        primary_key = CompositeKey("task_id", "charge", "step")


class RemoteJob(Table):
    """Evidence of a paid request.  reference: its name towards the service."""

    id = Serial()
    task_id = Id()
    charge = Integer()
    lease = Integer()
    provider = Id()
    reference = Id()
    remote_id = Text(null=True)
    state = Id()
    cancel_wanted = Integer(default="0")
    created_at = Time(default=NOW)
    updated_at = Time(default=NOW)
    pictures = Json(default="'[]'")
    details = Json(default="'{}'")
    reports = Integer(default="0")
    cancel_due_at = Time(null=True)
    cancels = Integer(default="0")
    doubt = Text(default="''")
    doubts = Integer(default="0")
    doubted_at = Time(null=True)
    step = Integer(default="0")
    without_pictures = Integer(default="0")
    verdict = Json(null=True)

    class Meta:
        uniques: ClassVar = {"a_request_has_a_reference_of_its_own": "(reference)"}
        named_indexes: ClassVar = {
            "remote_job_task": "(task_id, charge)",
            "remote_job_open": f"(provider, state) WHERE {UNSETTLED}",
            "remote_job_cancel": "(cancel_due_at) WHERE cancel_wanted = 1 AND state = 'waiting'",
        }


class SweepRun(Table):
    """A minute's sweep."""

    minute = Id(primary_key=True)
    started_at = Time(default=NOW)
    finished_at = Time(null=True)
    counts = Json(default="'{}'")


class Dispatcher(Table):
    """Which dispatcher works, in one row.  well_since: since when it has ticked without a gap."""

    id = Integer(primary_key=True)
    holder = Text(null=True)
    term = Big(default="0")
    beat = Big(default="0")
    ticked_at = Time(null=True)
    well_since = Time(null=True)
    claims_term = Integer(default="0")
    beat_seconds = Number(default="0.25")
    paced_term = Big(default="0")


class FairClock(Table):
    """The turn that was picked last, of each priority."""

    priority = Integer(primary_key=True)
    turn = Integer()


class Wake(Table):
    """Two counters in one row: a woken process reads them to see whether anything concerns it."""

    id = Integer(primary_key=True)
    dispatch = Integer()
    feed = Integer()

    class Meta:
        only = SQLITE


class Rule(Table):
    """What triggers need of the settings, in one row.  shift: how far tests have moved the database's clock."""

    id = Integer(primary_key=True)
    signup_grant = Integer(default="0")
    shift = Interval(default=Both("'+0 seconds'", "'00:00:00'"))
    triggers = Text(default="''", only=POSTGRESQL)


class Metric(Table):
    """Counters and histograms of what workers did."""

    name = Id()
    labels = Id(default="'{}'")
    bucket = Id(default="''")
    value = Number(default="0")

    class Meta:
        primary_key = CompositeKey("name", "labels", "bucket")
        without_rowid = True


class IdempotencyKey(Table):
    """A request that may be sent again, and the task that it made."""

    user_openid = Id()
    method = Id()
    path = Id()
    key = Id()
    body_hash = Id()
    task_id = Id()
    created_at = Time(default=NOW)

    class Meta:
        primary_key = CompositeKey("user_openid", "method", "path", "key")
        without_rowid = True
        named_indexes: ClassVar = {
            "idempotency_key_age": "(created_at)",
        }


class ProviderState(Table):
    """What all hosts must agree on about an AI service: its breaker, and its bucket of requests."""

    name = Id(primary_key=True)
    breaker = Text(default="'closed'")
    until = Time(null=True)
    probe_lease = Integer(null=True)
    tokens = Number(default="0")
    refilled_at = Time(default=NOW)
    openings = Integer(default="0")
    troubles = Integer(default="0")
    moved_at = Time(null=True)
    opened_at = Time(null=True)
    reason = Id(default="''")

    class Meta:
        without_rowid = True


class RemoteReport(Table):
    """What a service has reported on a request of ours, as it came."""

    id = Serial(is_given_always=False)
    task_id = Id()
    charge = Integer()
    lease = Integer()
    reference = Id()
    headers = Json()
    body = Bytes()
    sha256 = Text()
    created_at = Time(default=NOW)
    read_at = Time(null=True)
    step = Integer(default="0")

    class Meta:
        uniques: ClassVar = {"a_report_is_stored_once": "(reference, sha256)"}
        named_indexes: ClassVar = {
            "remote_report_unread": "(task_id, charge) WHERE read_at IS NULL",
            "remote_report_age": "(created_at)",
        }


class ImageUse(Table):
    """Which tasks name which uploads."""

    image_id = Id()
    task_id = Id()

    class Meta:
        primary_key = CompositeKey("image_id", "task_id")
        without_rowid = True


class DoomedFile(Table):
    """A file that no row names any more, until it is deleted."""

    key = Id(primary_key=True)
    doomed_at = Time(default=NOW)

    class Meta:
        without_rowid = True


class FileWalk(Table):
    """How far the search for files without a row has come, in one row."""

    id = Integer(primary_key=True)
    store_id = Text()
    after_key = Id(default="''")
    begun_at = Time(null=True)


class TaskEvent(Table):
    """What happened to a task."""

    id = Serial()
    task_id = Id()
    event = Id()
    attempt = Integer()
    lease = Integer()
    worker_id = Id(null=True)
    run_after = Time(null=True)
    error = Json(null=True)
    at = Time(default=NOW)
    step = Integer(default="0")

    class Meta:
        named_indexes: ClassVar = {
            "task_event_task": Both("(task_id)", "(task_id, id)"),
        }


class CutOrder(Table):
    """An order of a door that was cut off before its answer was written, until one repeat takes it over."""

    task_id = Id(primary_key=True)
    user_openid = Id()
    door = Id()
    body_hash = Id()
    cut_at = Time()

    class Meta:
        named_indexes: ClassVar = {
            "cut_order_body": "(body_hash)",
            "cut_order_age": "(cut_at)",
        }


class UnansweredOrder(Table):
    """An order of a door without a key that is stored and not answered.  holder: the process that owes the answer."""

    body_hash = Id()
    task_id = Id()
    user_openid = Id()
    door = Id()
    holder = Id()

    class Meta:
        primary_key = CompositeKey("body_hash", "task_id")
        without_rowid = True


class Webhook(Table):
    """The address that receives a webhook when a task has ended."""

    task_id = Id(primary_key=True)
    url = Text()
    door = Text(null=True)


class WebhookDelivery(Table):
    """A webhook that is to be sent.  dispatch: the number of its newest hint; claimed: the number of the hint that a
    worker took up last."""

    id = Id(primary_key=True)
    task_id = Id()
    charge = Integer()
    user_openid = Id()
    url = Text()
    type = Text()
    data = Json()
    state = Text()
    due_at = Time()
    dispatch = Integer(default="0")
    claimed = Integer(default="0")
    attempts = Integer(default="0")
    last_status = Integer(null=True)
    last_error = Text(null=True)
    created_at = Time(default=NOW)
    ended_at = Time(null=True)
    door = Text(null=True)

    class Meta:
        named_indexes: ClassVar = {
            "webhook_delivery_due": f"(due_at) WHERE {OWED}",
            "webhook_delivery_sending": "(due_at) WHERE state = 'sending'",
            "webhook_delivery_failed": f"(created_at) WHERE {GIVEN_UP}",
            "webhook_delivery_made": "(created_at)",
            "webhook_delivery_ended": "(ended_at) WHERE ended_at IS NOT NULL",
            "webhook_delivery_task": "(task_id)",
            "webhook_delivery_owed": f"(created_at) WHERE {OWED}",
            "webhook_delivery_of_user": f"(user_openid, due_at) WHERE {OWED}",
        }


class WebhookGone(Table):
    """An address that wants no more."""

    user_openid = Id()
    url = Text()
    since = Time(default=NOW)

    class Meta:
        primary_key = CompositeKey("user_openid", "url")


class Pause(Table):
    """A type or a provider that an operator has paused."""

    kind = Id()
    name = Id()
    operator = Text()
    reason = Text(default="''")
    at = Time(default=NOW)

    class Meta:
        primary_key = CompositeKey("kind", "name")
        without_rowid = True


class Audit(Table):
    """An operator's action: who, in which role, on what, and the state before and after."""

    id = Serial()
    at = Time(default=NOW)
    operator = Text()
    action = Text()
    kind = Id()
    target = Id()
    before = Json(null=True)
    after = Json(null=True)
    role = Id(null=True)
    bulk_id = Id(null=True)

    class Meta:
        named_indexes: ClassVar = {
            "audit_target": "(kind, target)",
            "audit_alone": "(id) WHERE bulk_id IS NULL",
        }


class BulkAction(Table):
    """An action on many tasks, and how far it has come.  place: of the last task that was examined.

    failures: how often its runner has failed since its last part; failure: the sentence of the last failure.
    """

    id = Id(primary_key=True)
    action = Id()
    filter = Json()
    operator = Text()
    role = Id()
    state = Id(default="'running'")
    matched = Integer()
    done = Integer(default="0")
    refused = Integer(default="0")
    passed = Integer(default="0")
    credits = Integer(default="0")
    reasons = Json(default="'{}'")
    place = Json(null=True)
    step = Integer(default="0")
    created_at = Time(default=NOW)
    updated_at = Time(default=NOW)
    finished_at = Time(null=True)
    failures = Integer(default="0")
    failure = Text(null=True)

    class Meta:
        named_indexes: ClassVar = {
            "bulk_action_running": "(id) WHERE state = 'running'",
        }


class MinuteHistory(Table):
    """A minute of the last week.  The sums (`waits` and the columns after it) only grow; entry_id: the newest entry of
    the ledger that they include."""

    minute = Id(primary_key=True)
    pending = Integer()
    running = Integer()
    stuck = Integer()
    oldest_seconds = Number()
    waits = Number()
    wait_seconds = Number()
    completed = Number()
    failed = Number()
    credits = Big()
    entry_id = Big()
    costs = Json()
    program = Id()


class AttemptLog(Table):
    """The last log lines of an attempt that did not succeed."""

    task_id = Id()
    lease = Integer()
    attempt = Integer()
    worker_id = Id(null=True)
    lines = Json()
    at = Time(default=NOW)

    class Meta:
        primary_key = CompositeKey("task_id", "lease")
        named_indexes: ClassVar = {
            "attempt_log_age": "(at)",
        }


class RefusedOrder(Table):
    """An order by Dramatiq that was refused."""

    id = Serial()
    message_id = Id(null=True)
    user_openid = Text(null=True)
    type = Text(null=True)
    reason = Text()
    at = Time(default=NOW)


class TaskCount(Table):
    """How many open tasks there are, kept by triggers."""

    type = Id()
    status = Id()
    n = Integer()

    class Meta:
        primary_key = CompositeKey("type", "status")
        without_rowid = True


class WebhookAttempt(Table):
    """An attempt to deliver a webhook."""

    delivery_id = Id()
    dispatch = Integer()
    attempt = Integer()
    started_at = Time()
    ended_at = Time(null=True)
    status = Integer(null=True)
    error = Text(null=True)
    next_at = Time(null=True)

    class Meta:
        primary_key = CompositeKey("delivery_id", "dispatch")


class TaskTrace(Table):
    """The trace that a task belongs to."""

    task_id = Id(primary_key=True)
    context = Text()


class TokenRevocation(Table):
    """Tokens that were taken back: those of a user up to a moment, or one by its id.  Seconds since 1970."""

    name = Id()
    kind = Id()
    not_before = Number()
    expires_at = Number(null=True)
    revoked_at = Time(default=NOW)

    class Meta:
        primary_key = CompositeKey("name", "kind")
        named_indexes: ClassVar = {
            "token_revocation_end": "(expires_at) WHERE expires_at IS NOT NULL",
        }


class UserNotice(Table):
    """What was refused to a user, or done too often, since when and how many times."""

    kind = Id()
    user_openid = Id()
    times = Integer()
    first_at = Time(default=NOW)
    last_at = Time(default=NOW)

    class Meta:
        primary_key = CompositeKey("kind", "user_openid")


class CommitMark(Table):
    """The newest transaction that each connection has committed."""

    writer = Big(primary_key=True)
    number = Big()
    marked_at = Time(default="clock_timestamp()")

    class Meta:
        only = POSTGRESQL


class MetricDelta(Table):
    """Amounts to be added to `metric`; many processes append them at once."""

    name = Id()
    labels = Id(default="'{}'")
    bucket = Id(default="''")
    value = Number(default="0")

    class Meta:
        only = POSTGRESQL


class TaskCountDelta(Table):
    """Amounts to be added to `task_count`; many processes append them at once."""

    type = Id()
    status = Id()
    n = Integer()

    class Meta:
        only = POSTGRESQL
