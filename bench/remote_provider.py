"""The adapter of `tests.support.fakes.remote_service`, which also shows how little an adapter of one's own needs."""

from __future__ import annotations

import base64
import hmac
import json
import os
import signal
from typing import Any

import aiohttp

from actors.providers.base import (
    Accepted,
    AtCapacity,
    ContentRejected,
    Done,
    Failed,
    InvalidInput,
    Job,
    Lost,
    MadeImage,
    NotGenuine,
    Progress,
    ProviderDown,
    ProviderError,
    RateLimited,
    Report,
    Running,
    Transient,
    UnknownOutcome,
    Unreachable,
)
from supervisor.store.tasks import remote_wait
from tests.support.fakes.remote_service import signature

CLASSES: dict[str, type[ProviderError]] = {
    each.__name__: each
    for each in (AtCapacity, ContentRejected, InvalidInput, Lost, ProviderDown, RateLimited, Transient)
}


def _die(*_: Any, **__: Any) -> None:
    """As `kill -9` does it."""
    os.kill(os.getpid(), signal.SIGKILL)


class RemoteProvider:
    """options.url: the service's.  options.poll_seconds: how soon it may be asked, 0.5 by default.

    options.die_at: `hand_off` kills the worker that hands off its task's first attempt, once the id is stored.
    """

    paid = True
    hands_in = True

    def __init__(self, name: str, setting: Any) -> None:
        self.may_bill_twice = setting.may_bill_twice
        self._name = name
        self._url = setting.options["url"]
        self._die_at = setting.options.get("die_at", "")
        self._poll_seconds = float(setting.options.get("poll_seconds", 0.5))
        self._session: aiohttp.ClientSession | None = None

    async def submit(self, job: Job, progress: Progress) -> Done | Accepted:
        """Hand the job in."""
        order = {
            "reference": job.reference,
            "task": job.task_id,
            "charge": int(job.reference.split(".")[1]),
            "pictures": job.pictures,
            "callback_url": job.callback_url,
            "provider": self._name,
        }
        if self._die_at == "hand_off" and job.reference.split(".")[2] == "1":
            remote_wait.hand_off = _die  # type: ignore[assignment]
        status, headers, document = await self._ask(
            "POST", f"{self._url}/jobs", order, job.ai_timeout_seconds
        )
        if status == 202:
            kept = {"kept": job.reference}
            return Accepted(document["id"], self._poll_seconds, kept, bool(document.get("will_report")))
        wait = float(headers.get("Retry-After", 1))
        match status:
            case 401:
                raise ProviderDown("The service refuses the key.", wait_seconds=wait)
            case 409:
                raise AtCapacity("The service is full.", wait_seconds=wait)
            case 429:
                raise RateLimited("The service is asked too often.", wait_seconds=wait)
            case 400:
                raise InvalidInput("The service can't use this picture.")
            case 422:
                raise ContentRejected("The service does not show such things.")
            case _:
                raise Transient(f"The service says {status}.")

    async def poll(self, remote: Accepted, job: Job) -> Running | Done | Failed:
        """Ask once."""
        assert remote.details == {"kept": job.reference}, "the reference of the hand-over comes back"
        status, _, document = await self._ask("GET", f"{self._url}/jobs/{remote.remote_id}", None, 20)
        if status == 404:
            return Failed(Lost("The service does not know the job."))
        if status != 200:
            raise Transient(f"The service says {status}.")
        return self._read(document, job)

    async def parse_callback(self, remote: Accepted, job: Job, report: Report) -> Running | Done | Failed:
        """The document of a poll, signed."""
        if not hmac.compare_digest(report.headers.get("x-signature", ""), signature(report.body)):
            raise NotGenuine("Its signature is wrong.")
        return self._read(json.loads(report.body), job)

    async def cancel(self, remote: Accepted) -> bool:
        """Over, unknown or cancelled is all the same."""
        status, _, _ = await self._ask("DELETE", f"{self._url}/jobs/{remote.remote_id}", None, 10)
        if status not in (200, 404, 409):
            raise Transient(f"The service says {status}.")
        return True

    async def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()

    def _read(self, document: dict[str, Any], job: Job) -> Running | Done | Failed:
        match document["status"]:
            case "running":
                return Running(document["progress"], "painting", self._poll_seconds)
            case "failed":
                return Failed(CLASSES[document["error"]](f"The job failed: {document['error']}."))
            case "cancelled":
                return Failed(Transient("The job was cancelled at the service."))
        made = []
        for n, data in document["pictures"].items():
            path = job.folder / f"{n}.png"
            path.write_bytes(base64.b64decode(data))
            made.append(MadeImage(int(n), path, 1, 1))
        return Done(tuple(made))

    async def _ask(
        self, method: str, url: str, document: Any, seconds: float
    ) -> tuple[int, dict[str, str], Any]:
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        timeout = aiohttp.ClientTimeout(total=seconds)
        try:
            async with self._session.request(method, url, json=document, timeout=timeout) as answer:
                return answer.status, dict(answer.headers), await answer.json()
        except aiohttp.ClientConnectorError:
            raise Unreachable("The service can't be reached.") from None
        except (aiohttp.ClientError, TimeoutError) as error:
            if method == "POST":
                raise UnknownOutcome(f"The service did not answer ({type(error).__name__}).") from None
            raise Transient("The service did not answer.") from None
