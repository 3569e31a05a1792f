"""The adapter for a service that reports by itself."""

from __future__ import annotations

import dataclasses
import time

from actors.providers.base import (
    Accepted,
    Done,
    Failed,
    Job,
    ProviderError,
    Report,
    ResultLost,
    Running,
    Unreadable,
)
from actors.providers.common.answers import Answer
from actors.providers.common.client import document_of
from actors.providers.http.provider import HttpProvider
from actors.providers.http.remote_jobs import Verdict, judge

TOO_LARGE = (
    "The AI service's report is larger than 1 MiB: it must send addresses of pictures, or `poll.url` must say where it "
    "can be asked."
)
_ASK_AT_ONCE = Running(poll_after_seconds=0)


class ReportingHttpProvider(HttpProvider):
    """One service in one process."""

    async def parse_callback(self, remote: Accepted, job: Job, report: Report) -> Running | Done | Failed:
        """The content of the report, if the settings say how to read it; else a request to poll."""
        service = self.service.remote
        if report.is_too_large and service is not None and service.ask is None:
            return Failed(ResultLost(TOO_LARGE))
        if service is None or service.reports is None or report.is_too_large:
            return _ASK_AT_ONCE
        rules = self.service.rules
        if service.report_result:
            rules = dataclasses.replace(rules, result=service.report_result)
        answer = Answer(200, report.headers, report.body, document_of(report.body))
        said = judge(answer, service.reports, rules, now=time.time())
        if isinstance(said, Running):
            return said
        can_be_asked = isinstance(said, Verdict) and service.ask is not None and bool(remote.remote_id)
        try:
            ended = await self.end(said, answer, rules, remote, job)
        except Unreadable as error:  # a second reading would give the same result
            ended = Failed(ProviderError(error.message))
        if isinstance(ended, Failed) and can_be_asked:
            return _ASK_AT_ONCE  # done, but its pictures can't be fetched from the report
        return ended
