"""Recognises a running AI server by its descriptions of itself, and makes its settings.  Pure.

`QUESTIONS` are requested from its address; `recognise` reads the answers and returns the TOML of a provider and of a
type.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

# Path → the server that answers there.  None of these requests orders anything.
QUESTIONS = (
    "/config",  # Gradio
    "/gradio_api/info",
    "/object_info/KSampler",  # ComfyUI
    "/health-check",  # cog
    "/openapi.json",  # cog, LitServe, and most others
    "/info",  # LitServe
    "/docs.json",  # BentoML
    "/sdapi/v1/sd-models",  # A1111, Forge
    "/v2",  # Triton
    "/v1/models",  # OpenAI-likes
)
Answers = Mapping[str, Any]  # {path: the JSON of a good answer}


@dataclass(frozen=True)
class Known:
    """what: for people.  lines: TOML of the provider, without its head.  advice: what a person must still
    do by hand.

    pictures: the fewest and most pictures of an order.
    """

    what: str
    lines: tuple[str, ...]
    advice: tuple[str, ...] = ()
    pictures: tuple[int, int] = (1, 1)
    options: Mapping[str, Any] = field(default_factory=dict)


def recognise(url: str, answers: Answers) -> Known | None:
    """The server that gave these answers; None for an unknown one."""
    for known in _KINDS:
        found = known(url, answers)
        if found is not None:
            return found
    return None


def settings_text(name: str, type_: str, known: Known) -> str:
    """TOML of a provider and of a type that uses it."""
    fewest, most = known.pictures
    head = [f"# {known.what}.", *(f"# {each}" for each in known.advice)]
    task = [f"[tasks.{type_}]", f'provider = "{name}"', f"inputs = {{ images = [{fewest}, {most}] }}"]
    provider = [f"[providers.{name}]", *known.lines]
    options = [
        f"[providers.{name}.options]",
        *(f"{key} = {_toml(value)}" for key, value in known.options.items()),
    ]
    parts = [head, task, provider, *([options] if known.options else [])]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _gradio(url: str, answers: Answers) -> Known | None:
    config, info = answers.get("/config"), answers.get("/gradio_api/info")
    if not isinstance(config, Mapping) or "dependencies" not in config:
        return None
    named = info.get("named_endpoints") if isinstance(info, Mapping) else None
    endpoints = (
        {str(name).strip("/"): each for name, each in named.items()} if isinstance(named, Mapping) else {}
    )
    shown = [name for name, each in endpoints.items() if _returns_pictures(each)] or list(endpoints)
    if not shown:
        return None
    endpoint = shown[0]
    wanted, photos = _gradio_input(endpoints[endpoint])
    advice = [f"Its endpoints that give pictures: {', '.join(shown)}."] if len(shown) > 1 else []
    return Known(
        f"A Gradio app, version {config.get('version', '?')}",
        ('kind = "gradio"', f"url = {_toml(url)}"),
        tuple(advice),
        (min(photos, 1), max(photos, 1)) if photos else (0, 1),
        {"endpoint": endpoint, "input": wanted},
    )


def _returns_pictures(endpoint: Any) -> bool:
    returns = endpoint.get("returns") if isinstance(endpoint, Mapping) else None
    kinds = {each.get("component") for each in returns or [] if isinstance(each, Mapping)}
    return bool(kinds & {"Image", "Gallery", "ImageEditor", "ImageSlider"})


def _gradio_input(endpoint: Mapping[str, Any]) -> tuple[dict[str, str], int]:
    """(the values of its parameters, how many of them are photos)."""
    wanted: dict[str, str] = {}
    photos = 0
    for each in endpoint.get("parameters") or []:
        name, component = str(each.get("parameter_name")), each.get("component")
        if component in ("Image", "ImageEditor"):
            wanted[name] = f"${{input.{photos}.file}}"
            photos += 1
        elif component == "Textbox" and "${params.prompt}" not in wanted.values():
            wanted[name] = "${params.prompt}"
        elif re.search("seed", name, re.IGNORECASE) and component in ("Number", "Slider"):
            wanted[name] = "${seed}"
    return wanted, photos


def _comfyui(url: str, answers: Answers) -> Known | None:
    if not isinstance(answers.get("/object_info/KSampler"), Mapping):
        return None
    return Known(
        "ComfyUI",
        ('kind = "comfyui"', f"url = {_toml(url)}"),
        (
            'Export your workflow with "Export (API)" and name the file here.',
            'Write "${seed}" for its seed, "${params.prompt}" in its text, "${input.0.file}" in its LoadImage node.',
        ),
        (0, 1),
        {"workflow": "workflow_api.json"},
    )


def _cog(url: str, answers: Answers) -> Known | None:
    health = answers.get("/health-check")
    if not isinstance(health, Mapping) or "status" not in health or "setup" not in health:
        return None
    schema = answers.get("/openapi.json")
    found = _at(schema, "components", "schemas", "Input", "properties")
    given = found if isinstance(found, Mapping) else {}
    wanted: dict[str, str] = {}
    photos = 0
    for name, each in sorted(given.items(), key=lambda item: _order_of(item[1])):
        if isinstance(each, Mapping) and each.get("format") == "uri":
            wanted[str(name)] = f"${{input.{photos}.data_uri}}"
            photos += 1
        elif name in ("prompt", "text"):
            wanted[str(name)] = "${params.prompt}"
        elif name == "seed":
            wanted["seed"] = "${seed}"
    advice = (
        []
        if given
        else ["It was built without a schema, so it does not say what it takes: see its predict.py."]
    )
    return Known(
        f"A cog server ({_at(health, 'version', 'coglet') or '?'}), {health['status']}",
        ('kind = "replicate"', f"url = {_toml(url)}", "allow_private_addresses = true"),
        tuple(advice),
        (min(photos, 1), max(photos, 1)),
        {"dialect": "cog", "input": wanted or {"image": "${input.0.data_uri}"}},
    )


def _litserve(url: str, answers: Answers) -> Known | None:
    server = _at(answers.get("/info"), "server")
    if not isinstance(server, Mapping) or "workers_per_device" not in server:
        return None
    paths = [path for path in server.get("stream") or {} if isinstance(path, str)] or ["/predict"]
    return Known(
        "A LitServe server",
        ('preset = "litserve"', f"url = {_toml(url)}", f"submit = {{ url = {_toml(paths[0])} }}"),
        (
            "It does not say what it takes: set submit.body as its decode_request wants it, and result as it answers.",
        ),
    )


def _bentoml(url: str, answers: Answers) -> Known | None:
    document = answers.get("/docs.json")
    described = str(_at(document, "info", "description") or "")
    if "BentoML" not in described:
        return None
    paths = _at(document, "paths") or {}
    tasks = sorted({path.split("/")[1] for path in paths if path.endswith("/submit")})
    calls = [path for path, each in paths.items() if _is_call(path, each) and path.split("/")[1] not in tasks]
    version = re.search(r"BentoML-(\d[\d.]*)", described)
    what = f"A BentoML service, version {version[1] if version else '?'}"
    if not calls and tasks:
        lines: tuple[str, ...] = (
            'preset = "bentoml-task"',
            f"url = {_toml(url)}",
            f"model = {_toml(tasks[0])}",
        )
        path = f"/{tasks[0]}/submit"
    elif calls:
        lines, path = ('preset = "bentoml"', f"url = {_toml(url)}"), calls[0]
    else:
        return None
    wanted, photos = _form_of(document, path)
    body = (
        f"submit = {{ url = {_toml(path)}, body = {_toml(wanted)} }}"
        if calls
        else f"submit.body = {_toml(wanted)}"
    )
    others = [*calls[1:], *(f"/{each} (a task)" for each in (tasks if calls else tasks[1:]))]
    advice = (f"It has others too: {', '.join(others)}.",) if others else ()
    return Known(what, (*lines, body), advice, (min(photos, 1), max(photos, 1)))


def _is_call(path: str, each: Any) -> bool:
    tags = _at(each, "post", "tags")
    return isinstance(tags, list) and "Service APIs" in tags and path.count("/") == 1


def _form_of(document: Any, path: str) -> tuple[dict[str, str], int]:
    """The values of a form's fields, and how many of them are photos."""
    content = _at(document, "paths", path, "post", "requestBody", "content")
    schemas = [_at(each, "schema") for each in content.values()] if isinstance(content, Mapping) else []
    wanted: dict[str, str] = {}
    photos = 0
    for schema in schemas:
        reference = schema.get("$ref") if isinstance(schema, Mapping) else None
        resolved = _at(document, *reference.lstrip("#/").split("/")) if isinstance(reference, str) else schema
        for name, each in (_at(resolved, "properties") or {}).items():
            if isinstance(each, Mapping) and each.get("format") in ("image", "binary") and name not in wanted:
                wanted[name] = f"${{input.{photos}.bytes}}"
                photos += 1
            elif name in ("prompt", "text"):
                wanted[name] = "${params.prompt}"
            elif name == "seed":
                wanted["seed"] = "${seed}"
    return wanted, photos


def _a1111(url: str, answers: Answers) -> Known | None:
    models = answers.get("/sdapi/v1/sd-models")
    if not isinstance(models, list):
        return None
    return Known("Stable Diffusion web UI or Forge", ('preset = "a1111"', f"url = {_toml(url)}"), (), (0, 1))


def _triton(url: str, answers: Answers) -> Known | None:
    about = answers.get("/v2")
    if not isinstance(about, Mapping) or "extensions" not in about:
        return None
    lines = ('preset = "triton"', f"url = {_toml(url)}", 'model = ""')
    return Known(
        f"Triton, version {about.get('version', '?')}", lines, ("Set `model`, and submit.body.",), (0, 1)
    )


def _openai(url: str, answers: Answers) -> Known | None:
    listed = _at(answers.get("/v1/models"), "data")
    if not isinstance(listed, list):
        return None
    names = [str(each["id"]) for each in listed if isinstance(each, Mapping) and "id" in each]
    lines = (
        'kind = "openai"',
        f"url = {_toml(url.rstrip('/') + '/v1')}",
        f"model = {_toml(names[0] if names else '')}",
    )
    advice = (f"Its models: {', '.join(names[:20])}.",) if names else ()
    return Known(
        "A server that speaks OpenAI's API", (*lines, "allow_private_addresses = true"), advice, (0, 4)
    )


_KINDS: tuple[Callable[[str, Answers], Known | None], ...] = (
    _gradio,
    _comfyui,
    _cog,
    _litserve,
    _bentoml,
    _a1111,
    _triton,
    _openai,
)


def _at(document: Any, *names: str) -> Any:
    for name in names:
        document = document.get(name) if isinstance(document, Mapping) else None
    return document


def _order_of(schema: Any) -> int:
    order = schema.get("x-order") if isinstance(schema, Mapping) else None
    return order if isinstance(order, int) else 99


def _toml(value: Any) -> str:
    """A value in TOML; values other than tables are written as in JSON."""
    if isinstance(value, Mapping):
        return (
            "{ " + ", ".join(f"{_key(key)} = {_toml(each)}" for key, each in value.items()) + " }"
            if value
            else "{}"
        )
    return json.dumps(value, ensure_ascii=False)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)
