"""Adapters for Replicate and for cog servers that report by themselves."""

from __future__ import annotations

from actors.providers.base import (
    Accepted,
    Done,
    Failed,
    Job,
    NotGenuine,
    ProviderError,
    Report,
    ResultLost,
    Running,
    Unreadable,
)
from actors.providers.common.answers import Answer
from actors.providers.common.client import document_of
from actors.providers.replicate.cog import CogProvider
from actors.providers.replicate.provider import ReplicateProvider
from actors.providers.replicate.signature import is_signed

TOO_LARGE = (
    "The AI service's report is larger than 1 MiB, and it keeps no results: start cog with --upload-url, make smaller "
    'pictures, or take `mode = "sync"`.'
)


class ReportingReplicateProvider(ReplicateProvider):
    """One service in one process."""

    async def parse_callback(self, remote: Accepted, job: Job, report: Report) -> Running | Done | Failed:
        if report.is_too_large:  # it is polled instead
            return Running(poll_after_seconds=0)
        if self.service.webhook_key and not is_signed(report.headers, report.body, self.service.webhook_key):
            raise NotGenuine("The report's signature is not the AI service's.")
        document = document_of(report.body)
        known = document.get("id") if isinstance(document, dict) else None
        if known is None or (remote.remote_id and known != remote.remote_id):
            raise NotGenuine("The report is about another job.")
        return await self.said(Answer(200, report.headers, report.body, document), remote, job)


class ReportingCogProvider(CogProvider, ReportingReplicateProvider):
    """One server in one process."""

    async def parse_callback(self, remote: Accepted, job: Job, report: Report) -> Running | Done | Failed:
        """The only message of a server that can't be polled: an unreadable result is lost for ever."""
        if report.is_too_large:
            return Failed(ResultLost(TOO_LARGE))
        try:
            return await super().parse_callback(remote, job, report)
        except Unreadable as error:
            return Failed(ProviderError(error.message))
