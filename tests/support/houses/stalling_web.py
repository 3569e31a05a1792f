"""`darkroom web` that stores orders of doors and does not answer them while the file STALLED is in its working folder.

A task that is held sends its head at once, so that an answer can be cut in the middle.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tests.support.houses.web_server import until
from web import __main__ as program
from web.doors import held_answers, repeated_orders

STALLED = "stalled"


def main() -> int:
    """As the program itself."""
    stored = repeated_orders.stored

    async def stored_and_stalled(*given: Any) -> Any:
        submitted = await stored(*given)
        await until(lambda: not Path(STALLED).exists(), "orders are answered again")
        return submitted

    repeated_orders.stored = stored_and_stalled
    held_answers.HEAD_SECONDS = 0.05
    return program.main()


if __name__ == "__main__":
    sys.exit(main())
