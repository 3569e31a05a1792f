"""A Gradio app's description: the place of its API, the number of an endpoint, and the endpoint's inputs.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actors.providers.base import ProviderDown, Unreadable


@dataclass(frozen=True)
class Layout:
    """api: the path before `/queue/join`.  number: of the endpoint.  parameters: its inputs from /info."""

    api: str
    number: int
    parameters: tuple[Mapping[str, Any], ...] = ()


def layout_of(config: Any, endpoint: str) -> Layout:
    """From the app's /config.  endpoint: its api_name.  Raises Unreadable; ProviderDown if there is no such
    endpoint."""
    if not isinstance(config, Mapping) or not isinstance(config.get("dependencies"), list):
        raise Unreadable("The AI service's /config is none of a Gradio app.")
    names = {
        str(each.get("api_name")): each.get("id", number)
        for number, each in enumerate(config["dependencies"])
        if isinstance(each, Mapping) and each.get("api_name")
    }
    if endpoint not in names:
        known = ", ".join(sorted(names)) or "none"
        raise ProviderDown(f"The Gradio app has no endpoint {endpoint!r}; it has {known}.")
    return Layout(str(config.get("api_prefix") or ""), int(names[endpoint]))


def parameters_of(info: Any, endpoint: str) -> tuple[Mapping[str, Any], ...]:
    """The endpoint's inputs, in order, by the app's /info.  Raises Unreadable."""
    named = info.get("named_endpoints") if isinstance(info, Mapping) else None
    found = named.get(f"/{endpoint}") if isinstance(named, Mapping) else None
    parameters = found.get("parameters") if isinstance(found, Mapping) else None
    if not isinstance(parameters, list):
        raise Unreadable(f"The Gradio app does not say what its endpoint {endpoint!r} takes.")
    return tuple(each for each in parameters if isinstance(each, Mapping))


def in_order(given: Mapping[str, Any], parameters: Sequence[Mapping[str, Any]], endpoint: str) -> list[Any]:
    """The endpoint's data: for each input the given value, else its default, else null.

    Raises ProviderDown for an unknown name: the settings are wrong, so every order would fail.
    """
    names = [str(each.get("parameter_name")) for each in parameters]
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise ProviderDown(
            f"The Gradio endpoint {endpoint!r} takes no {unknown[0]!r}; it takes {', '.join(names) or 'nothing'}."
        )
    return [
        given.get(name, each.get("parameter_default")) for name, each in zip(names, parameters, strict=True)
    ]
