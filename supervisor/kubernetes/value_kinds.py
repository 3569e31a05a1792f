"""The kinds of text in the file of values, each with a description for people.

Each kind accepts what a Kubernetes API server accepts.  The published schemas are wider: for most of these values they
say only that they are text.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_WORD = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_PATH = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
_REGISTRY = (
    r"([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*(:[0-9]{1,5})?"
)
_IMAGE = re.compile(
    rf"({_REGISTRY}/)?{_PATH}(/{_PATH})*(:(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}))?(?P<digest>@sha256:[0-9a-f]{{64}})?"
)
_CPU = re.compile("([1-9][0-9]{0,5})(m?)")
_MEMORY = re.compile("([1-9][0-9]{0,6})(Mi|Gi)")
MOST_CPU, FEWEST_MEBIBYTES, MOST_GIBIBYTES = 512, 64, 4096
LONGEST_NAME, LONGEST_IMAGE, LONGEST_TEXT = 253, 255, 2000


@dataclasses.dataclass(frozen=True)
class _Kind:
    """What a text must be.  words: the end of the sentence that refuses another text."""

    words: str
    holds: Callable[[str], bool]

    def __call__(self, given: str) -> str:
        if not self.holds(given):
            raise PydanticCustomError("not_of_its_kind", "it may be another text")
        return given


def _kind(words: str, holds: Callable[[str], bool]) -> Any:
    return Annotated[str, AfterValidator(_Kind(words, holds)), Field(description=words)]


def _matching(words: str, pattern: str, longest: int = LONGEST_NAME) -> Any:
    whole = re.compile(pattern)
    return _kind(words, lambda given: len(given) <= longest and whole.fullmatch(given) is not None)


def _or_empty(kind: Any) -> Any:
    of = next(
        each.func
        for each in kind.__metadata__
        if isinstance(each, AfterValidator) and isinstance(each.func, _Kind)
    )
    return _kind(f"empty, or {of.words}", lambda given: not given or of.holds(given))


def _is_image(given: str) -> bool:
    """An image with a version or a digest, so that every node runs the same program."""
    found = _IMAGE.fullmatch(given)
    names_one = found is not None and (found["digest"] or found["tag"] not in (None, "latest"))
    return bool(names_one) and len(given.partition("@")[0]) <= LONGEST_IMAGE


def _is_cpu(given: str) -> bool:
    found = _CPU.fullmatch(given)
    return found is not None and int(found[1]) <= MOST_CPU * (1000 if found[2] else 1)


def _is_memory(given: str) -> bool:
    found = _MEMORY.fullmatch(given)
    mebibytes = int(found[1]) * (1024 if found[2] == "Gi" else 1) if found else 0
    return FEWEST_MEBIBYTES <= mebibytes <= MOST_GIBIBYTES * 1024


def _is_network(given: str) -> bool:
    address, slash, bits = given.partition("/")
    try:
        network = ipaddress.ip_network(given)
    except ValueError:
        return False
    return bool(slash) and bits.isascii() and bits.isdigit() and str(network).partition("/")[0] == address


def _is_address(given: str, *, with_path: bool = False) -> bool:
    """http://HOST or https://HOST, perhaps with a port; no password, and nothing after it unless `with_path`."""
    if not re.fullmatch(r"https?://[!-~]+", given) or len(given) > LONGEST_TEXT:
        return False
    try:
        parts = urlsplit(given)
        host, port = parts.hostname or "", parts.port
        if parts.netloc.startswith("["):
            ipaddress.IPv6Address(host)
        elif not re.fullmatch(_DOMAIN, host):
            return False
    except ValueError:
        return False
    bracketed = f"[{host}]" if ":" in host else host
    expected = bracketed if port is None else f"{bracketed}:{port}"
    plain = parts.netloc.lower() == expected and port != 0 and not (parts.query or parts.fragment)
    return plain and (with_path or not parts.path)


DNS_LABEL = "small letters, digits and -, up to 63 characters, the first and the last no -"
DNS_NAME = "small letters, digits, - and ., such as darkroom-tls"

Name = _matching(
    "small letters, digits and -, up to 40 characters, the first a letter and the last no -",
    r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?",
)
Namespace = _matching(f"the name of a namespace ({DNS_LABEL})", _LABEL)
NamespaceOrNone = _or_empty(Namespace)
ObjectName = _matching(f"the name of an object ({DNS_NAME})", _DOMAIN)
ObjectNameOrNone = _or_empty(ObjectName)
HostOrNone = _or_empty(
    _matching(
        "the name of a host without http:// and port, such as darkroom.example.com", rf"(\*\.)?{_DOMAIN}"
    )
)
Image = _kind(
    "an image in small letters with a version (registry.example.com/darkroom:0.2.0, not latest) or a digest "
    "(…@sha256:…), so that a rollout brings the same program to each node",
    _is_image,
)
Cpu = _kind(f"CPUs in quotes, such as 250m or 2, from 1m to {MOST_CPU}", _is_cpu)
Memory = _kind(f"memory such as 512Mi or 2Gi, from {FEWEST_MEBIBYTES}Mi to {MOST_GIBIBYTES}Gi", _is_memory)
CidrOrNone = _or_empty(
    _kind("a network in its shortest form, such as 10.20.0.0/24, 10.20.0.7/32 or fd00::/64", _is_network)
)
Address = _kind(
    "http:// or https://, a host, and perhaps a port, such as https://darkroom.example.com", _is_address
)
PrometheusOrNone = _or_empty(
    _kind(
        "the address that KEDA asks, such as http://prometheus.monitoring:9090",
        lambda given: _is_address(given, with_path=True),
    )
)
FileName = _matching(
    "the name of a file beside the values, without a folder: letters, digits, _, - and .",
    r"(?!\.\.)[A-Za-z0-9_.-]+",
)
FileNameOrNone = _or_empty(FileName)
Offer = _matching("a small letter and up to 31 more small letters, digits and _", "[a-z][a-z0-9_]{0,31}")
Device = _matching(
    "a resource of a node with its domain, such as nvidia.com/gpu", rf"(?!requests\.){_DOMAIN}/{_WORD}", 317
)
LabelKey = _matching(
    "the key of a label, such as disk or nvidia.com/gpu.present", rf"({_DOMAIN}/)?{_WORD}", 317
)
LabelKeyOrNone = _or_empty(LabelKey)
LabelValue = _or_empty(
    _matching(
        "letters, digits, _, - and ., up to 63 characters, the first and the last a letter or digit",
        _WORD,
        63,
    )
)
Variable = _matching(
    "the name of a setting, which begins with DARKROOM_ and holds letters, digits, _, - and .",
    r"DARKROOM_[A-Za-z0-9_.-]+",
    LONGEST_TEXT,
)
