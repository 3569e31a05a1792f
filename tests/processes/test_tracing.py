"""One trace from POST to completion where a collector is configured; no tracing where none is."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.core.errors import SettingFault
from supervisor.core.ids import new_ulid
from supervisor.telemetry.opentelemetry_spans import SeldomWarnings
from supervisor.telemetry.tracing import collector
from tests.support.fakes.fake_ai_service import FakeAiService, Reply, http_type, picture_reply
from tests.support.fakes.remote_service import Plan, RemoteService, remote_type
from tests.support.running_system import RunningSystem, running_system
from tests.support.servers.trace_receiver import Sent, TraceReceiver
from tests.support.servers.webhook_receiver import WebhookReceiver
from tests.support.waiting import eventually

USER = "o-nobodys-business-4711"
PROMPT = "a-prompt-that-stays-here"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
REFUSED = {"prompt": "refuse this"}

OF_A_TASK = {"submit", "wait", "attempt", "provider request", "store", "record", "webhook"}


@contextlib.contextmanager
def traced_system(collector_url: str, log: Path, **settings: str) -> Iterator[RunningSystem]:
    """A running system that traces to this collector; other processes started meanwhile do not."""
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector_url)
            patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
            system = stack.enter_context(running_system(log=log, WORKER_PROCESSES="1", **settings))
        yield system


class TracedHouse:
    """A running system, its AI services and its collector.  log: where it writes, as JSON."""

    def __init__(
        self,
        system: RunningSystem,
        service: FakeAiService,
        remote: RemoteService,
        collected: TraceReceiver,
        log: Path,
    ) -> None:
        self.service, self.system, self.remote = service, system, remote
        self.collected, self.log = collected, log
        self.image = system.upload_sample(USER)

    def order(
        self, type_: str = "made", *, traceparent: str = "", prompt: str = PROMPT, webhook: str = ""
    ) -> str:
        """A task of USER; its id."""
        return self.system.order(
            type_,
            user=USER,
            more={"webhook": webhook} if webhook else {},
            headers={"traceparent": traceparent} if traceparent else {},
            images=[self.image],
            prompt=prompt,
        )

    def trace_of(self, task_id: str, names: set[str]) -> dict[str, Sent]:
        """{name: span} of the task's trace, once a span of each of these names has arrived."""

        def arrived() -> bool:
            return names <= {span.name for span in self.collected.of_task(task_id)}

        eventually(f"the spans {sorted(names)} of {task_id} have arrived", arrived)
        spans = self.collected.of_task(task_id)
        assert len({span.trace_id for span in spans}) == 1
        return {span.name: span for span in spans}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TracedHouse]:
    def reply(asked: object) -> Reply:
        is_refused = REFUSED["prompt"] in json.dumps(getattr(asked, "document", None))
        return Reply(400, document={"error": "no"}) if is_refused else picture_reply()

    log = tmp_path_factory.mktemp("house") / "log"
    with (
        TraceReceiver() as collected,
        FakeAiService(reply) as service,
        RemoteService() as remote,
        traced_system(
            collected.url,
            log,
            LOG_LEVEL="info",
            LOG_FORMAT="json",
            WEBHOOKS__ALLOW_PRIVATE_ADDRESSES="true",
            **http_type(service, "made", ALLOW_PRIVATE_ADDRESSES="true"),
            **remote_type(remote, "paint"),
            **http_type(
                service,
                "told",
                ALLOW_PRIVATE_ADDRESSES="true",
                SUBMIT__HEADERS=json.dumps({"X-Task": "${task_id}", "traceparent": "${traceparent}"}),
            ),
        ) as system,
    ):
        yield TracedHouse(system, service, remote, collected, log)


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as served:
        yield served


def test_one_post_gives_one_connected_trace_that_continues_the_callers(
    house: TracedHouse, receiver: WebhookReceiver
) -> None:
    task_id = house.order(traceparent=f"00-{TRACE}-{CALLER}-01", webhook=receiver.hook)
    spans = house.trace_of(task_id, OF_A_TASK)
    assert set(spans) == OF_A_TASK
    assert {span.trace_id for span in spans.values()} == {TRACE}
    submit, attempt = spans["submit"], spans["attempt"]
    assert submit.parent == CALLER
    assert {spans[name].parent for name in ("wait", "attempt", "webhook")} == {submit.span_id}
    assert {spans[name].parent for name in ("provider request", "store", "record")} == {attempt.span_id}
    assert submit.part == "web" and attempt.part == "worker"
    assert not [span.name for span in spans.values() if span.error]
    worker = house.system.all(
        "SELECT worker_id FROM task_event WHERE task_id = ? AND event = 'claimed'", task_id
    )
    assert attempt.attributes == {
        "darkroom.task_id": task_id,
        "darkroom.type": "made",
        "darkroom.attempt": 1,
        "darkroom.lease": 1,
        "darkroom.worker": worker[0]["worker_id"],
        "darkroom.outcome": "completed",
    }
    assert spans["provider request"].attributes["darkroom.provider"] == "made"
    assert spans["webhook"].attributes["darkroom.status"] == 204


def test_neither_the_service_nor_the_receiver_gets_the_trace(
    house: TracedHouse, receiver: WebhookReceiver
) -> None:
    task_id = house.order(traceparent=f"00-{new_trace()}-{CALLER}-01", webhook=receiver.hook)
    house.trace_of(task_id, OF_A_TASK)
    (asked,) = [each for each in house.service.asked if each.headers["X-Task"] == task_id]
    names = {name.lower() for name in asked.headers} | set(receiver.heard[0].headers)
    assert not names & {"traceparent", "tracestate", "baggage"}


def test_a_service_gets_the_trace_where_its_settings_say_so(house: TracedHouse) -> None:
    task_id = house.order("told", traceparent=f"00-{new_trace()}-{CALLER}-01")
    request = house.trace_of(task_id, {"provider request", "record"})["provider request"]
    (asked,) = [each for each in house.service.asked if each.headers["X-Task"] == task_id]
    assert asked.headers["traceparent"] == f"00-{request.trace_id}-{request.span_id}-01"


def test_a_task_that_fails_marks_its_spans_with_the_error_code(house: TracedHouse) -> None:
    task_id = house.order(**REFUSED)
    spans = house.trace_of(task_id, {"submit", "wait", "attempt", "provider request", "record"})
    code = house.system.error_code(task_id)
    assert code and {spans["attempt"].error, spans["provider request"].error} == {code}
    assert spans["attempt"].attributes["error.type"] == code
    assert spans["attempt"].attributes["darkroom.outcome"] == "failed"
    assert spans["submit"].parent == ""  # the request carried no trace, so it begins here


def test_a_remote_job_is_a_span_from_its_hand_in_to_its_end(house: TracedHouse) -> None:
    trace = new_trace()
    task_id = house.order("paint", traceparent=f"00-{trace}-{CALLER}-01")
    spans = house.trace_of(task_id, {"submit", "wait", "attempt", "provider request", "record", "remote job"})
    job, attempt = spans["remote job"], spans["attempt"]
    assert job.parent == spans["submit"].span_id and job.trace_id == trace
    assert job.attributes["darkroom.provider"] == "paint" and not job.error
    assert attempt.attributes["darkroom.outcome"] == "handed_off"
    assert spans["provider request"].attributes["darkroom.outcome"] == "accepted"
    # The job's start is the database's moment, the attempt's end this process's own.
    assert attempt.started < job.started + 10**9 and attempt.ended <= job.ended


def test_a_remote_job_that_fails_marks_its_span(house: TracedHouse) -> None:
    house.remote.plan = lambda order: Plan(error="ContentRejected")
    task_id = house.order("paint")
    job = house.trace_of(task_id, {"remote job"})["remote job"]
    assert house.system.ends(task_id) == "failed" and job.error == house.system.error_code(task_id)


def test_a_request_that_is_refused_marks_its_span(house: TracedHouse) -> None:
    trace = new_trace()
    with pytest.raises(urllib.error.HTTPError):
        house.image, known = new_ulid(), house.image
        try:
            house.order(traceparent=f"00-{trace}-{CALLER}-01")
        finally:
            house.image = known
    (submit,) = eventually("its span has arrived", lambda: house.collected.of_trace(trace))
    assert submit.name == "submit" and submit.error == "image_not_found"


def test_a_task_by_sql_begins_its_own_trace_at_its_first_claim(house: TracedHouse) -> None:
    task_id = new_ulid()
    params = json.dumps({"images": [house.image], "prompt": PROMPT})
    house.system.sql(
        "INSERT INTO task_queue (id, user_openid, type, params) VALUES (?, ?, 'made', ?)",
        task_id,
        USER,
        params,
    )
    spans = house.trace_of(task_id, OF_A_TASK - {"submit", "webhook"})
    assert spans["wait"].parent == ""
    assert spans["attempt"].parent == spans["wait"].span_id
    assert spans["wait"].started <= spans["wait"].ended <= spans["attempt"].ended
    params_stored = house.system.task(task_id)["params"]
    assert spans["wait"].trace_id not in params_stored and json.loads(params_stored) == json.loads(params)


def test_a_trace_that_the_caller_does_not_sample_is_not_sent(house: TracedHouse) -> None:
    unsampled = new_trace()
    silent = house.order(traceparent=f"00-{unsampled}-{CALLER}-00")
    assert house.system.ends(silent) == "completed"
    house.trace_of(house.order(), {"record"})
    assert house.collected.of_trace(unsampled) == [] == house.collected.of_task(silent)


def test_the_lines_of_a_task_name_its_trace(house: TracedHouse) -> None:
    trace = new_trace()
    task_id = house.order(traceparent=f"00-{trace}-{CALLER}-01")
    assert house.system.ends(task_id) == "completed"

    def said() -> set[str]:
        lines = [json.loads(line) for line in house.log.read_text().splitlines() if task_id in line]
        return {line["event"].split()[0] for line in lines if line.get("trace_id") == trace}

    wanted = {"POST", "attempt_ended"}
    eventually("each of its lines is written", lambda: wanted <= said())


def test_nothing_of_a_user_leaves_with_the_spans(house: TracedHouse, receiver: WebhookReceiver) -> None:
    house.trace_of(house.order(webhook=receiver.hook), OF_A_TASK)
    house.trace_of(house.order(**REFUSED), {"record"})
    sent = b"".join(house.collected.bodies)
    secret = (house.system.data_dir / "secret").read_text().strip()
    for private in (
        USER,
        PROMPT,
        REFUSED["prompt"],
        house.image,
        secret,
        "sk-tell-nobody",
        receiver.url,
        "127.0.0.1",
    ):
        assert private.encode() not in sent, private


def test_a_collector_that_hangs_delays_neither_a_task_nor_the_end(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hangs:  # it takes connections and never answers
        where = f"http://127.0.0.1:{hangs.getsockname()[1]}"
        with (
            FakeAiService() as service,
            traced_system(
                where, tmp_path / "log", **http_type(service, "made", ALLOW_PRIVATE_ADDRESSES="true")
            ) as system,
        ):
            assert {system.ends(system.order("made")) for _ in range(5)} == {"completed"}
    said = (tmp_path / "log").read_text()
    assert "Traceback" not in said and "is killed" not in said  # unsent spans are given up in time


def new_trace() -> str:
    """An id that no other test uses."""
    return os.urandom(16).hex()


# --- set-ups ---

WITHOUT_THE_EXTRA = (
    "import sys; sys.modules['opentelemetry'] = None; from supervisor.cli.main import main; main()"
)
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


def darkroom(folder: Path, code: str, *argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *argv],
        env=os.environ
        | {"DARKROOM_CONFIG": "", "DARKROOM_DATA_DIR": str(folder), "DARKROOM_PORT": "0"}
        | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("command", ["up", "web", "doctor"])
def test_an_extra_that_is_missing_is_one_sentence_at_the_start(tmp_path: Path, command: str) -> None:
    done = darkroom(tmp_path, WITHOUT_THE_EXTRA, command, **ENDPOINT)
    assert (
        "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed" in done.stdout + done.stderr
    )
    assert "pip install 'darkroom-queue[otel]'" in done.stdout + done.stderr
    assert done.returncode == (1 if command == "doctor" else 2) and "Traceback" not in done.stderr


def test_without_a_collector_the_extra_is_neither_needed_nor_imported(tmp_path: Path) -> None:
    code = (
        "import sys, supervisor.telemetry.tracing, web.api.tasks, actors.attempts.attempt; "
        "supervisor.telemetry.tracing.begin_tracing('web'); "
        "assert supervisor.telemetry.tracing.span('x') is supervisor.telemetry.spans.NO_SPAN; "
        "ours = ('supervisor.telemetry.opentelemetry_spans', 'opentelemetry.sdk.trace', 'opentelemetry.exporter'); "
        "print([name for name in sys.modules if name.startswith(ours)])"  # redis looks at others by itself
    )
    done = darkroom(tmp_path, code)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_warning_of_the_exporter_is_one_sentence_a_minute() -> None:
    now, seldom = [100.0], SeldomWarnings(lambda: now[0])

    def said(level: int, *args: object) -> str | None:
        record = logging.LogRecord("x", level, "", 1, "it failed: %s", args, None)
        return record.getMessage() if seldom.filter(record) else None

    rest = "; what it misses is lost, and tasks go on without it"
    refused = said(logging.ERROR, ConnectionError("http://collector/?key=1"))
    assert refused == f"the collector of traces takes none (ConnectionError){rest}"
    assert (said(logging.WARNING, "spans"), said(logging.ERROR, 401)) == (None, None)
    now[0] += 61
    assert said(logging.INFO, "spans") is None
    assert said(logging.ERROR, 401) == f"the collector of traces takes none (it answers 401){rest}"


def test_variables_that_the_sdk_refuses_are_one_sentence_and_a_header_is_never_shown(tmp_path: Path) -> None:
    wrong = {"OTEL_BSP_MAX_QUEUE_SIZE": "-1", "OTEL_EXPORTER_OTLP_HEADERS": "a-key-without-its-name"}
    done = darkroom(tmp_path, "from supervisor.cli.main import main; main()", "web", **ENDPOINT, **wrong)
    assert (
        done.returncode == 2
        and "darkroom web: OpenTelemetry can't work with its OTEL_ variables" in done.stderr
    )
    assert "OTEL_EXPORTER_OTLP_HEADERS is not NAME=VALUE" in done.stderr
    assert "a-key-without-its-name" not in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "is not an address such as"),
        (
            ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "is 'grpc', but traces are sent as http/protobuf only",
        ),
    ],
)
def test_a_collector_that_can_not_be_meant_is_refused(environ: dict[str, str], sentence: str) -> None:
    with pytest.raises(SettingFault, match=sentence):
        collector(environ)


@pytest.mark.parametrize(
    "environ", [{}, ENDPOINT | {"OTEL_SDK_DISABLED": "true"}, ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}]
)
def test_with_opentelemetry_switched_off_nothing_is_traced(environ: dict[str, str]) -> None:
    assert collector(environ) == ""
