"""Four types on one fake service: pictures from words, a film from a picture, JSON, and one of 30 fields."""

from __future__ import annotations

import functools
import json
from typing import Any

from tests.support.fakes.fake_ai_service import Asked, FakeAiService, Reply, picture_reply
from tests.support.films import film
from tests.support.pictures import picture

POSTER = {
    "title": {"en": "Poster", "zh": "海报"},
    "inputs": {},
    "count": [1, 2],
    "price": {"base": 1, "per": "picture", "credits": 2, "by": [{"where": {"quality": "hd"}, "times": 2}]},
    "parameters": {
        "properties": {"quality": {"enum": ["sd", "hd"], "default": "sd", "title": "Quality"}},
        "additionalProperties": False,
    },
}
FILM = {
    "title": {"en": "Film", "zh": "视频"},
    "inputs": {"images": [1, 1], "audio": [0, 1]},
    "count": [1, 1],
    "outputs": ["videos", "json"],
    "price": {"per": "second", "credits": 3, "seconds": "parameters.seconds"},
    "parameters": {
        "properties": {
            "seconds": {"type": "number", "minimum": 1, "maximum": 10, "default": 2, "title": "Seconds"}
        },
        "additionalProperties": False,
    },
}
CAPTION = {
    "title": {"en": "Caption", "zh": "说明"},
    "inputs": {"images": [0, 1]},
    "count": [1, 1],
    "outputs": ["json"],
    "price": {"per": "task", "credits": 1},
}
_KINDS: tuple[dict[str, Any], ...] = (
    {"type": "integer", "minimum": 0, "maximum": 9, "default": 3},
    {"type": "string", "maxLength": 20},
    {"enum": ["a", "b", "c"], "default": "a"},
    {"type": "boolean", "default": False},
    {"type": "number", "minimum": 0, "maximum": 1},
)
FORM = {
    "title": {"en": "Form", "zh": "表单"},
    "inputs": {},
    "count": [1, 1],
    "outputs": ["json"],
    "price": {"per": "task", "credits": 0},
    "parameters": {
        "properties": {f"field_{n:02}": _KINDS[n % len(_KINDS)] for n in range(30)},
        "required": ["field_01"],
        "additionalProperties": False,
    },
}
TYPES = {"poster": POSTER, "film": FILM, "caption": CAPTION, "form": FORM}

# An order of each, what it costs, and one that is wrong with the pointer that says where.  PICTURE: an upload's id.
PICTURE = "PICTURE"
GOOD: dict[str, tuple[dict[str, Any], int]] = {
    "poster": ({"prompt": "a fair", "count": 2, "parameters": {"quality": "hd"}}, 9),
    "film": ({"images": [PICTURE], "parameters": {"seconds": 1.5}}, 5),
    "caption": ({"prompt": "what is it"}, 1),
    "form": ({"parameters": {"field_01": "words", "field_04": 0.5}}, 0),
}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "poster": ({"prompt": "a fair", "parameters": {"quality": "uhd"}}, "/parameters/quality"),
    "film": ({"parameters": {"seconds": 2}}, "/images"),
    "caption": ({"videos": ["01NOTTAKEN"]}, "/videos"),
    "form": ({"parameters": {"field_01": "words", "field_29": 2}}, "/parameters/field_29"),
}

# Answers to `caption`, by its prompt.
HARD_DATA: dict[str, Any] = {
    "hard": {
        "zero\0": "a\0b",
        "half of a pair": "\ud83d",
        "large": [1e20, 1e308, 10**30, -(10**30), 2**63],
        "deep": functools.reduce(lambda inner, _: [inner], range(90), 1),
    },
    "too deep": functools.reduce(lambda inner, _: [inner], range(300), 1),
    "too large": 10**400,
}


def four_types(service: FakeAiService) -> dict[str, str]:
    """Settings, without DARKROOM_.  The service is told how to answer."""
    service.pictures["fair.mp4"] = film()
    service.reply = lambda asked: _reply(service, asked)
    settings = {
        f"TASKS__{name}": json.dumps({**declared, "provider": name}) for name, declared in TYPES.items()
    }
    body = {"prompt": "${params.prompt}", "parameters": "${params.parameters}"}
    for name in TYPES:
        provider = {
            "kind": "http",
            "url": service.url,
            "allow_private_addresses": True,
            "submit": {
                "url": f"/{name}",
                "body": body | ({"image": "${input.0.data_uri}"} if name == "film" else {}),
            },
            "result": ["$.images[*]"],
            "files": ["$.video"] if name == "film" else [],
            "data": "$.answer" if "json" in TYPES[name].get("outputs", []) else "",
            "cost": "$.cost",
            "cost_unit": "USD",
        }
        settings[f"PROVIDERS__{name}"] = json.dumps(provider)
    return settings


def _reply(service: FakeAiService, asked: Asked) -> Reply:
    match asked.path:
        case "/poster":
            one = picture_reply(picture("red")).document["image"]
            return Reply(document={"images": [one, one], "cost": 0.04})
        case "/film":
            assert asked.document["image"].startswith("data:image/")
            address = f"{service.url}/pictures/fair.mp4"
            return Reply(
                document={"video": {"url": address}, "answer": asked.document["parameters"], "cost": 0.25}
            )
        case "/caption":
            said = HARD_DATA.get(asked.document["prompt"], {"caption": "A fair in May", "score": 0.5})
            return Reply(document={"answer": said, "cost": 0.001})
        case _:
            return Reply(document={"answer": asked.document["parameters"]})
