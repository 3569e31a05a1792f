"""The parts of its process that an adapter uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from config.settings import Settings
from supervisor.objects.object_store import FileStore
from supervisor.pictures.process_pool import ImageProcesses
from supervisor.security.file_links import LinkSigner
from supervisor.security.secret import read_or_make_secret


class ProviderHost(Protocol):
    """The process: a worker, or the command that tests a provider."""

    @property
    def settings(self) -> Settings: ...
    @property
    def images(self) -> ImageProcesses: ...
    @property
    def files(self) -> FileStore: ...


@dataclass(frozen=True)
class ProviderContext:
    """images: the children that decode pictures.  links: sign the addresses of our files.

    base_url: our address for services, empty if there is none; most_pixels: of one picture.
    translation_prefixes: of NAT64 in our own network.
    """

    images: ImageProcesses
    files: FileStore
    links: LinkSigner
    base_url: str = ""
    most_pixels: int = 0
    translation_prefixes: tuple[str, ...] = ()

    def address_of(self, key: str) -> str:
        """A signed link for a service to fetch one of our files."""
        return self.base_url.rstrip("/") + self.links.link(key)


def provider_context_of(house: ProviderHost) -> ProviderContext:
    """The parts of this process for adapters."""
    settings = house.settings
    return ProviderContext(
        images=house.images,
        files=house.files,
        links=LinkSigner(read_or_make_secret(settings), settings.file_link_seconds),
        base_url=settings.url,
        most_pixels=settings.limits.image_pixels,
        translation_prefixes=settings.translation_prefixes,
    )
