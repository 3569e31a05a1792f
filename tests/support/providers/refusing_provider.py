"""A third-party AI service for tests that answers every request with the same refusal."""

from __future__ import annotations

from typing import Any

from actors.providers.base import ContentRejected, Done, Job, Progress, ProviderDown
from tests.support.providers.instant_provider import InstantProvider


class RefusingProvider(InstantProvider):
    """options.says: `rejected`, for content it does not like, or `down`, as with a key that is not valid any more."""

    paid = True

    def __init__(self, name: str, settings: Any) -> None:
        super().__init__(name, settings)
        self._is_down = settings.options["says"] == "down"

    async def submit(self, job: Job, progress: Progress) -> Done:
        """Raises ProviderDown or ContentRejected."""
        if self._is_down:
            raise ProviderDown("The key is not valid.")
        raise ContentRejected("This is not to our taste.")
