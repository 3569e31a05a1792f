"""What a provider says of remote jobs that makes everything itself, at once."""

from __future__ import annotations

from actors.providers.base import Accepted, Done, Failed, Job, Lost, Running


class LocalProvider:
    """Nothing of it is remote, and it holds nothing."""

    async def poll(self, remote: Accepted, job: Job) -> Running | Done | Failed:
        """Nothing is remote."""
        return Failed(Lost("There are no remote jobs."))

    async def cancel(self, remote: Accepted) -> bool:
        """Nothing is remote."""
        return True

    async def close(self) -> None:
        """Nothing is held."""
