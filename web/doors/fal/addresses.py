"""The meaning of fal's own addresses here.  Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from supervisor.core.ids import is_task_id
from web.http.problems import Problem

QUEUE_HOST, RUN_HOST, REST_HOSTS = "queue.fal.run", "fal.run", ("rest.fal.ai", "rest.alpha.fal.ai")
_REQUEST = re.compile(
    r"/(?P<app>[^?]+?)/requests/(?P<task_id>[^/]+)(?P<what>/status|/status/stream|/cancel)?/?"
)


@dataclass(frozen=True)
class Target:
    """One of fal's addresses.  what: "submit", "run", "stream", "initiate", or of a request "result", "/status" …

    app: the model; task_id: of a request; query: of the address.
    """

    what: str
    app: str = ""
    task_id: str = ""
    query: tuple[tuple[str, str], ...] = ()


def target_of(method: str, url: str) -> Target:
    """What a request to one of fal's own addresses means.  Raises a Problem, 400: nothing else is ever asked for."""
    try:
        split = urlsplit(url)
        host, path, query = split.hostname or "", split.path, tuple(parse_qsl(split.query))
    except ValueError:
        raise _no_target() from None
    if host == QUEUE_HOST:
        return queue_target(method, path, query)
    if host == RUN_HOST and method == "POST":
        return run_target(path, query)
    if host in REST_HOSTS and (method, path) == ("POST", "/storage/upload/initiate"):
        return Target("initiate", query=query)
    raise _no_target()


def queue_target(method: str, path: str, query: tuple[tuple[str, str], ...]) -> Target:
    """The same of a path below the queue's host.  Raises a Problem, 404 or 405."""
    found = _REQUEST.fullmatch(path)
    if found is None:
        if method != "POST":
            raise Problem(404, "There is nothing at this address.", kind="not_found")
        return Target("submit", path.strip("/"), query=query)
    what = found["what"] or "result"
    if method != ("PUT" if what == "/cancel" else "GET"):
        raise Problem(405, f"{method} is not possible here.", kind="method_not_allowed")
    if not is_task_id(found["task_id"]):
        raise Problem(404, "There is no such request.", kind="not_found")
    return Target(what, found["app"], found["task_id"], query)


def run_target(path: str, query: tuple[tuple[str, str], ...]) -> Target:
    """The same of a path below the host of direct calls."""
    app = path.strip("/")
    if app.endswith("/stream"):
        return Target("stream", app.removesuffix("/stream"), query=query)
    return Target("run", app, query=query)


def _no_target() -> Problem:
    return Problem(
        400, "x-fal-target-url must be an address of fal's queue, run or storage.", kind="bad_target"
    )
