"""docs/http-reference.md says what the API does: its table is that of the description."""

from __future__ import annotations

import re
from pathlib import Path

from web.app.app import ADDRESSES
from web.openapi.operations import OPERATIONS

PAGE = Path(__file__).parents[3] / "docs" / "http-reference.md"
_ROW = re.compile(r"^\| `([A-Z]+) (/\S*)` \| [^|]+ \|([^|]*)\|([^|]*)\|$", re.MULTILINE)


def test_the_page_lists_every_address_with_its_parameters_and_answers() -> None:
    written = {
        (method, path): (set(re.findall(r"`([^`]+)`", parameters)), [int(each) for each in answers.split()])
        for method, path, parameters, answers in _ROW.findall(PAGE.read_text(encoding="utf-8"))
    }
    described = {
        (address.method, address.path): (
            {str(each["name"]) for each in operation.parameters if each["in"] != "path"},
            sorted(operation.answers),
        )
        for address in ADDRESSES
        if address.operation
        for operation in (OPERATIONS[address.operation],)
    }
    assert written == described
