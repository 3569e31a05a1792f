"""A request ready to send: method, address, headers and an encoded body.  Pure.

Values that come from a task can fill in the path and the query of the address, quoted, but never its host: where a
request goes is the operator's decision alone.  An address from the service (`${kept.NAME}`) is used only with the
service's own scheme, host and port, since the request carries its key.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote, urlencode, urlsplit

from actors.providers.base import InvalidInput, ProviderError
from actors.providers.common.template import (
    MISSING,
    BadTemplate,
    InputPicture,
    Lookup,
    Placeholder,
    Template,
    as_text,
    parse,
)

Encoding = Literal["json", "multipart"]
_HOST = re.compile(r"https?://[^/?#\s$]+", re.IGNORECASE)
_GIVEN_BY_SERVICE = re.compile(r"\$\{\s*kept\.\w+\s*\}[^$]*")
_PLAIN_ADDRESS = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+([/?][^\s\\]*)?")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


@dataclass(frozen=True)
class Field:
    """A part of a multipart body.  filename: only of files."""

    name: str
    value: str | bytes
    type: str | None = None
    filename: str | None = None


@dataclass(frozen=True)
class Outgoing:
    """A rendered request.  body: encoded JSON; fields: of a multipart body; at most one of them."""

    method: str
    address: str
    headers: dict[str, str]
    body: bytes | None = None
    fields: tuple[Field, ...] | None = None


@dataclass(frozen=True)
class RequestTemplate:
    """The template of `submit`, `poll` or `cancel`.

    home: an address from the service must have the scheme, host and port of this one.
    """

    method: str
    address: Template
    headers: Template
    query: Template
    body: Template | None
    encoding: Encoding
    home: str = ""

    @property
    def placeholders(self) -> frozenset[Placeholder]:
        """Every placeholder of the whole request."""
        everything = [self.address, self.headers, self.query, *([self.body] if self.body else [])]
        return frozenset().union(*(template.placeholders for template in everything))

    def render(self, lookup: Lookup) -> Outgoing:
        """The request with every placeholder filled in.  Raises InvalidInput for impossible values."""
        address = self._address(lookup)
        query = {name: as_text(value) for name, value in self.query.render(lookup).items()}
        if query:
            address += ("&" if "?" in address else "?") + urlencode(query)
        headers = {
            name: _header_value(name, value) for name, value in self.headers.render(lookup).items() if value
        }
        body = self.body.render(lookup) if self.body is not None else MISSING
        if body is MISSING:
            return Outgoing(self.method, address, headers)
        if self.encoding == "multipart":
            return Outgoing(self.method, address, headers, fields=tuple(_fields(body)))
        named = {name.lower() for name in headers}
        kind = {} if "content-type" in named else {"Content-Type": "application/json"}
        return Outgoing(self.method, address, headers | kind, body=as_json(body))

    def _address(self, lookup: Lookup) -> str:
        if not self.home:
            return str(self.address.render(lookup, quote=_path_segment))
        address = str(self.address.render(lookup))
        if not _PLAIN_ADDRESS.fullmatch(address) or origin(address) != origin(self.home):
            raise ProviderError(
                "The AI service names an address that is not its own; it was not asked there."
            )
        return address


def request_template(
    method: str,
    address: str,
    headers: dict[str, Any],
    query: dict[str, Any],
    body: Any,
    encoding: Encoding,
    *,
    constants: Mapping[str, str] | None = None,
    home: str = "",
) -> RequestTemplate:
    """home: an address of the service; if it is given, the request's address may come from the service.

    Raises BadTemplate.
    """
    given_by_service = bool(home) and _GIVEN_BY_SERVICE.fullmatch(address) is not None
    if not given_by_service and not _HOST.match(address):
        raise BadTemplate(f"{address!r} must begin with http:// or https:// and a host without placeholders")
    for name in headers:
        if not _HEADER_NAME.fullmatch(name):
            raise BadTemplate(f"{name!r} is no name of a header")
    if encoding == "multipart" and not isinstance(body, dict):
        raise BadTemplate("a multipart body must be a table of its fields")
    return RequestTemplate(
        method=method,
        address=parse(address, constants),
        headers=parse(headers, constants),
        query=parse(query, constants),
        body=None if body is None else parse(body, constants),
        encoding=encoding,
        home=home if given_by_service else "",
    )


def origin(address: str) -> tuple[str, str, int | None]:
    """(scheme, host, port) of an address; an invalid port counts as none."""
    try:
        parts = urlsplit(address)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return "", "", None
    return parts.scheme, (parts.hostname or ""), port


def as_json(value: Any) -> bytes:
    """JSON with pictures in base64."""

    def encode(other: Any) -> Any:
        if isinstance(other, InputPicture):
            return base64.b64encode(other.data).decode()
        raise TypeError(f"{type(other).__name__} has no place in JSON")

    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=encode).encode()


def _fields(body: dict[str, Any]) -> list[Field]:
    """Fields in order; a list is its name repeated, an object is JSON."""
    fields: list[Field] = []
    for name, value in body.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, InputPicture):
                fields.append(Field(name, each.data, each.type, each.name))
            elif isinstance(each, dict):
                fields.append(Field(name, as_json(each).decode(), "application/json"))
            else:
                fields.append(Field(name, as_text(each)))
    return fields


def _path_segment(text: str) -> str:
    if text.strip(".") == "" and text:
        raise InvalidInput("A value of this order can not stand in the service's address.")
    return quote(text, safe="")


def _header_value(name: str, value: Any) -> str:
    text = as_text(value)
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", text):
        raise InvalidInput(f"A value of this order can not stand in the header {name}.")
    return text
