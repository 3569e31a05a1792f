"""Pictures of a task or work: stored with the keys of their files, shown with links that are signed when they are sent.

Pure.  A stored image is `{"key", "width", "height"}`, and has a `thumbnail` of the same members where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

Link = Callable[[str], str]
Image = Mapping[str, Any]


def shown_images(images: Iterable[Image], link: Link) -> list[dict[str, Any]]:
    """[{"url", "width", "height", "thumbnail": {"url", "width", "height"} or None}]"""
    return [{**_shown(each, link), "thumbnail": _shown_thumbnail(each, link)} for each in images]


def keys_of(images: Iterable[Image]) -> Iterator[str]:
    """The keys of all files that the images name."""
    for each in images:
        yield each["key"]
        if each.get("thumbnail"):
            yield each["thumbnail"]["key"]


def _shown(image: Image, link: Link) -> dict[str, Any]:
    return {"url": link(image["key"]), "width": image["width"], "height": image["height"]}


def _shown_thumbnail(image: Image, link: Link) -> dict[str, Any] | None:
    thumbnail = image.get("thumbnail")  # pictures from before there were thumbnails have none
    return _shown(thumbnail, link) if thumbnail else None
