"""Adapters of AI services."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from supervisor.faults import SettingFault

if TYPE_CHECKING:
    from actors.providers.base import Provider
    from actors.worker import Worker
    from config.settings import Settings

KINDS = ("studio", "http", "python")


def check_providers(settings: Settings) -> None:
    """Refuse providers that can't be used by the types that name them.  Raises SettingFault; opens nothing."""
    for name in sorted({task_type.provider for task_type in settings.tasks.values()}):
        setting = settings.providers[name]
        if setting.kind not in KINDS:
            raise _unspoken(name, setting.kind)
        if setting.kind == "http":
            from actors.providers.http.service import read_service

            read_service(name, setting, settings)


def open_provider(name: str, worker: Worker) -> Provider:
    """The provider of this name, ready to use; nothing is called yet.  Raises SettingFault."""
    setting = worker.settings.providers[name]
    if setting.kind == "studio":
        from actors.providers.studio.provider import StudioProvider

        return StudioProvider(worker.images)
    if setting.kind == "http":
        return _open_http(name, worker)
    if setting.kind == "python":
        module, _, class_name = str(setting.options.get("class", "")).partition(":")
        try:
            provider: Provider = getattr(importlib.import_module(module), class_name)(name, setting)
        except (ImportError, AttributeError, ValueError) as error:
            raise SettingFault(
                f"PROVIDERS__{name}__OPTIONS must name a class as module:Class, and {module}:{class_name} is none: "
                f"{error}."
            ) from error
        return provider
    raise _unspoken(name, setting.kind)


def _open_http(name: str, worker: Worker) -> Provider:
    from actors.providers.http.provider import HttpProvider
    from actors.providers.http.service import read_service
    from supervisor.links import LinkSigner
    from supervisor.secret import read_or_make_secret

    settings = worker.settings
    return HttpProvider(
        read_service(name, settings.providers[name], settings),
        images=worker.images,
        files=worker.files,
        links=LinkSigner(read_or_make_secret(settings), settings.file_link_seconds),
        base_url=settings.url,
        most_pixels=settings.limits.image_pixels,
    )


def _unspoken(name: str, kind: str) -> SettingFault:
    return SettingFault(
        f"DARKROOM_PROVIDERS__{name}__KIND is {kind!r}, but this version speaks {', '.join(KINDS)}."
    )
