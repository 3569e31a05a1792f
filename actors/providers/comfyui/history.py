"""ComfyUI's answers about a prompt: its place in the queue, and its end in the history.  Pure.

The queue is always read first: a prompt moves from the queue into the history.  A prompt in neither is lost: it was
never there, it was deleted from the queue, or the server was restarted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from actors.providers.base import Failed, Lost, ProviderError, Transient, Unreadable
from actors.providers.common.answers import MOST_DETAIL_CHARACTERS, is_out_of_memory, plain_words

RUNNING = 0
_SHOWN_TYPES = ("output", "temp")
_PICTURE_NAMES = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".gif", ".bmp", ".heic", ".heif")
_UNREADABLE = "ComfyUI's answer about the job can't be understood."


def place_in_queue(document: Any, prompt_id: str) -> int | None:
    """RUNNING, or its place in the queue from 1; None if it is not in the queue.  Raises Unreadable."""
    queue = _readable(document, "queue_running", "queue_pending")
    if prompt_id in _ids(queue.get("queue_running")):
        return RUNNING
    pending = sorted(_entries(queue.get("queue_pending")), key=lambda entry: entry[0])
    ids = [entry[1] for entry in pending]
    return ids.index(prompt_id) + 1 if prompt_id in ids else None


def end_of(
    document: Any,
    prompt_id: str,
    outputs: Collection[str],
    hide: Callable[[str], str] = str,
    *,
    of_any_kind: bool = False,
) -> list[str] | Failed:
    """The paths of a finished prompt's files: possible pictures first, then by their nodes.

    A node that saves a film, a model or a sound lists it among `images` too, or in a list of its own (`gifs`, `audio`,
    `3d`); only its bytes show its kind.  outputs: ids of the nodes that count, empty = all.  A preview (`temp`) is lost
    when the server stops, so it counts only if its node is named.  hide: removes secrets from a text.  of_any_kind:
    entries of other lists count too.  Raises Unreadable.
    """
    entry = history_of(document, prompt_id)
    if entry is None:
        return Failed(Lost("ComfyUI does not know the job any more; it may have been started anew."))
    status = _mapping(entry.get("status"))
    if status.get("status_str") == "error":
        return Failed(_error(status.get("messages"), hide))
    shown = _SHOWN_TYPES if outputs else ("output",)
    counting = [
        _mapping(output)
        for node, output in sorted(_mapping(entry.get("outputs")).items(), key=_node_order)
        if not outputs or node in outputs
    ]
    files = [
        file
        for output in counting
        for listed in (output.values() if of_any_kind else [output.get("images")])
        for file in _list(listed)
        if isinstance(file, Mapping) and file.get("type") in shown and file.get("filename")
    ]
    if not files:
        return Failed(ProviderError(_without_a_picture(entry, outputs)))
    files.sort(key=_likely_order)
    return [
        "/view?" + urlencode({key: file.get(key) or "" for key in ("filename", "subfolder", "type")})
        for file in files
    ]


def values_of(node: Mapping[str, Any], name: str) -> list[Any] | None:
    """The values that an input of a node may take, as `/object_info` lists them; None if it lists none."""
    inputs = _mapping(node.get("input"))
    for part in ("required", "optional"):
        declared = _mapping(inputs.get(part)).get(name)
        if isinstance(declared, list) and declared and isinstance(declared[0], list):
            return declared[0]
    return None


def uploads_in(document: Any, prefix: str) -> list[str]:
    """The names with this prefix in a prompt's graph, in queue or history: the pictures that were uploaded for it."""
    found, left = set[str](), [document]
    while left:
        value = left.pop()
        if isinstance(value, str) and value.startswith(prefix):
            found.add(value)
        elif isinstance(value, Mapping):
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)
    return sorted(found)


def history_of(document: Any, prompt_id: str) -> Mapping[str, Any] | None:
    """The history's entry of a prompt; None without one.  Raises Unreadable."""
    entry = _readable(document).get(prompt_id)
    if entry is not None and not isinstance(entry, Mapping):
        raise Unreadable(_UNREADABLE)
    return entry


def _readable(document: Any, *names: str) -> Mapping[str, Any]:
    if not isinstance(document, Mapping) or any(name not in document for name in names):
        raise Unreadable(_UNREADABLE)
    return document


def _without_a_picture(entry: Mapping[str, Any], outputs: Collection[str]) -> str:
    """The reason, if the history shows it: there are only previews, which count only if their node is named."""
    shown = [
        node
        for node, output in _mapping(entry.get("outputs")).items()
        if any(_mapping(file).get("type") == "temp" for file in _list(_mapping(output).get("images")))
    ]
    ended = "ComfyUI's workflow has ended without a picture"
    if shown and not outputs:
        return (
            f"{ended}: node {shown[0]} only shows one, as a PreviewImage does. Save it with a SaveImage node, or set "
            f'`options.outputs = ["{shown[0]}"]`.'
        )
    if outputs:
        return f"{ended} of node {', '.join(sorted(outputs))}, which `options.outputs` names."
    return f"{ended}: no node has saved one, as SaveImage does; a PreviewImage counts where `options.outputs` names it."


def _error(messages: Any, hide: Callable[[str], str]) -> ProviderError:
    events = {
        str(message[0]): _mapping(message[1])
        for message in _list(messages)
        if isinstance(message, list) and len(message) == 2
    }
    if "execution_interrupted" in events:
        return ProviderError("The job was stopped in ComfyUI.")
    said = events.get("execution_error", {})
    kind, node = str(said.get("exception_type", "an error")), str(said.get("node_type", "?"))
    words = plain_words(str(said.get("exception_message") or ""), hide).rstrip(".")
    sentence = f"ComfyUI's node {node[:60]} has failed ({kind[:80]}{': ' + words if words else ''})."
    is_full = "OutOfMemory" in kind or is_out_of_memory(f"{kind}: {words}")
    error = Transient(sentence) if is_full else ProviderError(sentence)
    traceback = "".join(str(line) for line in _list(said.get("traceback")))
    error.detail = plain_words(
        f"node {said.get('node_id')}: {sentence} {traceback}", hide, MOST_DETAIL_CHARACTERS
    )
    return error


def _node_order(item: tuple[str, Any]) -> tuple[int, str]:
    return (int(item[0]) if item[0].isdecimal() else 0, item[0])


def _likely_order(file: Mapping[str, Any]) -> tuple[bool, bool]:
    """Saved files before previews, names of pictures before others."""
    name = str(file.get("filename") or "").lower()
    return file.get("type") != "output", not name.endswith(_PICTURE_NAMES)


def _mapping(value: Any) -> Mapping[str, Any]:
    """An object; an empty one for null and other values."""
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _entries(value: Any) -> Iterator[tuple[float, str]]:
    for each in _list(value):
        if isinstance(each, list) and len(each) > 1 and isinstance(each[0], int | float):
            yield float(each[0]), str(each[1])


def _ids(value: Any) -> set[str]:
    return {entry[1] for entry in _entries(value)}
