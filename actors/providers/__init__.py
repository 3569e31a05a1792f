"""Adapters of AI services."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from supervisor.faults import SettingFault

if TYPE_CHECKING:
    from actors.providers.base import Provider
    from actors.worker import Worker


def open_provider(name: str, worker: Worker) -> Provider:
    """The provider of this name, ready to use; nothing is called yet.  Raises SettingFault."""
    setting = worker.settings.providers[name]
    if setting.kind == "studio":
        from actors.providers.studio.provider import StudioProvider

        return StudioProvider(worker.images)
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
    raise SettingFault(f"PROVIDERS__{name}__KIND is {setting.kind}, which this version does not speak.")
