"""Adapters of AI services opened for a test, and orders for them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Self

from actors.files.scratch import Scratch
from actors.providers.base import Accepted, Done, Failed, Job, MadeImage, Provider, ProviderError, Running
from actors.providers.provider_context import ProviderContext
from actors.registry.adapters import check_providers, open_over_http
from config.settings import Settings
from supervisor.objects.local_files import LocalFiles
from supervisor.pictures.process_pool import ImageProcesses
from supervisor.security.file_links import LinkSigner

SAMPLES = Path(__file__).parents[3] / "examples" / "samples"
PORTRAIT, GARMENT = SAMPLES / "portrait.png", SAMPLES / "garment.png"
MOST_POLLS = 50


class Adapters:
    """Opens providers, each alone on its settings.  Use it as a context.  url: Darkroom's own address.

    progress: what was reported, [(percent, stage)].
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = LocalFiles(folder / "files")
        self.progress: list[tuple[int, str]] = []
        self._images = ImageProcesses(1)
        self._opened: list[Provider] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for provider in self._opened:
            await provider.close()
        await self._images.close()

    def settings(self, provider: dict[str, Any], url: str = "") -> Settings:
        """Settings with this provider as `ai`, used and checked.  Raises SettingFault."""
        settings = Settings(
            data_dir=self.folder,
            url=url,
            providers={"ai": provider},  # type: ignore[dict-item]
            tasks={"photography": {"provider": "ai"}},  # type: ignore[dict-item]
        )
        check_providers(settings)
        return settings

    def open(self, provider: dict[str, Any], url: str = "") -> Any:
        """The adapter.  Typed loosely, since each has its own abilities."""
        settings = self.settings(provider, url)
        context = ProviderContext(
            images=self._images,
            files=self.files,
            links=LinkSigner("secret", 3600),
            base_url=url,
            most_pixels=settings.limits.image_pixels,
        )
        opened = open_over_http("ai", settings, context)
        self._opened.append(opened)
        return opened

    def job(self, **changes: Any) -> Job:
        """An order of one picture from the sample portrait and garment."""
        folder = self.folder / "job"
        folder.mkdir(exist_ok=True)
        given: dict[str, Any] = {
            "task_id": "t-1",
            "type": "photography",
            "params": {"images": ["i-1", "i-2"], "prompt": "by the sea"},
            "inputs": (PORTRAIT, GARMENT),
            "pictures": (0,),
            "count": 1,
            "seed": 7,
            "scratch": Scratch(folder),
            "ai_timeout_seconds": 20.0,
            "input_keys": ("uploads/i-1.png", "uploads/i-2.png"),
            "reference": "t-1.1.1.0",
        }
        return Job(**(given | changes))

    def report(self, percent: int, stage: str) -> None:
        self.progress.append((percent, stage))

    async def submit(self, provider: Any, job: Job | None = None) -> Done | Accepted | ProviderError:
        """What a submission ends with; an error is returned, so that a test can look at its class."""
        try:
            answer: Done | Accepted = await provider.submit(job or self.job(), self.report)
            return answer
        except ProviderError as error:
            return error

    async def poll(
        self, provider: Any, remote: Accepted, job: Job | None = None
    ) -> Running | Done | Failed | ProviderError:
        """One question about a remote job, as a worker asks it: the inputs are not at hand."""
        try:
            answer: Running | Done | Failed = await provider.poll(
                remote, job or self.job(inputs=(), input_keys=())
            )
            return answer
        except ProviderError as error:
            return error

    async def ended(self, provider: Any, job: Job | None = None) -> Done | Failed | ProviderError:
        """A job from its submission to its end, polled at once, again and again."""
        said = await self.submit(provider, job)
        if not isinstance(said, Accepted):
            return said
        later = self.job(inputs=(), input_keys=()) if job is None else job
        for _ in range(MOST_POLLS):
            polled = await self.poll(provider, said, later)
            if not isinstance(polled, Running):
                return polled
            await asyncio.sleep(0)
        raise AssertionError("The job does not end.")


def images_of(said: Any) -> tuple[MadeImage, ...]:
    """The pictures of a job that is done."""
    assert isinstance(said, Done), said
    return said.images


def error_of(said: Any) -> ProviderError:
    """The error of one that is not."""
    error = said.error if isinstance(said, Failed) else said
    assert isinstance(error, ProviderError), said
    return error


def colour_of(image: MadeImage) -> str:
    """The name of the strongest colour of a picture."""
    from PIL import Image

    red, green, blue = Image.open(image.path).convert("RGB").getpixel((5, 5))  # type: ignore[misc]
    return max((red, "red"), (green, "green"), (blue, "blue"))[1]
