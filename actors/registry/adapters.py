"""The adapter for each AI service: checked at the start, opened at the first use.

To add a kind: 1. name it in `Kind` of `config/provider.py`; 2. write a folder beside `actors/providers/http/` that
keeps the protocol of `actors/providers/base.py`; 3. give it a case in `_adapter` below; 4. if its settings can be read
without a call, as those of HTTP services, name it in `SPOKEN_OVER_HTTP`, so that they are checked at the start.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from actors.providers.warm.model import ModelSettings, is_model
from actors.providers.warm.options import read_options
from supervisor.core.errors import SettingFault

if TYPE_CHECKING:
    from actors.providers.base import Provider
    from actors.providers.provider_context import ProviderContext, ProviderHost
    from config.provider import Provider as ProviderSettings
    from config.settings import Settings

SPOKEN_OVER_HTTP = ("http", "comfyui", "openai", "replicate", "gradio")


def check_providers(settings: Settings) -> None:
    """Refuse providers that are unusable for their types.  Raises SettingFault; opens nothing."""
    for name in sorted(settings.providers_in_use):
        check_provider(name, settings)


def check_provider(name: str, settings: Settings) -> None:
    """Refuse this one if it can't be used.  Raises SettingFault; opens nothing."""
    setting = settings.providers[name]
    if setting.kind in SPOKEN_OVER_HTTP:
        read, _ = _adapter(setting)
        read(name, setting, settings)
    elif setting.kind == "python":
        read_options(name, setting.options)


def open_provider(name: str, house: ProviderHost) -> Provider:
    """The provider of this name, ready to use; nothing is called yet.  Raises SettingFault."""
    setting = house.settings.providers[name]
    if setting.kind == "studio":
        from actors.providers.studio.provider import StudioProvider

        return StudioProvider(
            house.images,
            size=house.settings.image_processes,
            most_pixels=house.settings.limits.image_pixels,
        )
    if setting.kind == "python":
        return _own_class(name, setting)
    from actors.providers.provider_context import provider_context_of

    return open_over_http(name, house.settings, provider_context_of(house))


def open_over_http(name: str, settings: Settings, context: ProviderContext) -> Provider:
    """The adapter of an HTTP service.  Raises SettingFault."""
    setting = settings.providers[name]
    read, adapter = _adapter(setting)
    return adapter(read(name, setting, settings), context)


def _adapter(setting: ProviderSettings) -> tuple[Callable[..., Any], Callable[..., Provider]]:
    """(the reader of its settings, the maker of its adapter); only the used ones are imported."""
    reports = setting.mode == "callback"
    match setting.kind:
        case "http":
            from actors.providers.http.provider import HttpProvider
            from actors.providers.http.reporting import ReportingHttpProvider
            from actors.providers.http.service import read_service

            return read_service, ReportingHttpProvider if reports else HttpProvider
        case "gradio":
            from actors.providers.gradio.provider import GradioProvider
            from actors.providers.gradio.service import read_service as read_gradio

            return read_gradio, GradioProvider
        case "comfyui":
            from actors.providers.comfyui.provider import ComfyProvider
            from actors.providers.comfyui.service import read_service as read_comfy

            return read_comfy, ComfyProvider
        case "openai":
            from actors.providers.openai.provider import OpenAiProvider
            from actors.providers.openai.service import read_service as read_openai

            return read_openai, OpenAiProvider
        case "replicate":
            from actors.providers.replicate import reporting
            from actors.providers.replicate.cog import CogProvider
            from actors.providers.replicate.provider import ReplicateProvider
            from actors.providers.replicate.service import read_service as read_replicate

            if setting.options.get("dialect") == "cog":
                return read_replicate, reporting.ReportingCogProvider if reports else CogProvider
            return read_replicate, reporting.ReportingReplicateProvider if reports else ReplicateProvider
    raise AssertionError(setting.kind)


def _own_class(name: str, setting: ProviderSettings) -> Provider:
    """A user's own adapter, or model."""
    module, _, class_name = str(setting.options.get("class", "")).partition(":")
    try:
        found = getattr(importlib.import_module(module), class_name)
        if is_model(found):
            return _model(name, setting)
        provider: Provider = found(name, setting)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingFault(
            f"PROVIDERS__{name}__OPTIONS must name a class as module:Class, and {module}:{class_name} is none: "
            f"{error}."
        ) from error
    return provider


def _model(name: str, setting: ProviderSettings) -> Provider:
    """A model of the user's own, in children that are started when they are needed."""
    from actors.providers.warm.processes import Loading, WarmProcesses
    from actors.providers.warm.provider import WarmProvider, environment_for

    options = read_options(name, setting.options)
    secrets = {each: secret.get_secret_value() for each, secret in setting.secrets.items()}
    told = ModelSettings(dict(setting.options), secrets, setting.model, setting.url)
    loading = Loading(str(setting.options["class"]), name, told, options.load_seconds)
    return WarmProvider(
        WarmProcesses(
            options.processes,
            loading,
            environment_for(setting.env),
            idle_seconds=options.idle_seconds,
            memory_mib=options.memory_mib,
        )
    )
