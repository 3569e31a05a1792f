"""Python's garbage collector, kept out of a program's start and end.

What a program imports lives as long as it does.  By default the collector looks through it again and again while it is
being imported, and once more as the interpreter is taken down: together a third of the CPU time of a start and an end.
"""

from __future__ import annotations

import atexit
import gc

NEW_OBJECTS = (
    50_000  # between two looks at the young ones; Python's own 700 make hundreds of looks of one start
)


def spare_the_imports() -> None:
    """From now on collect seldom, and at the end of the program nothing.  Call it before the imports that cost."""
    gc.set_threshold(NEW_OBJECTS, *gc.get_threshold()[1:])
    atexit.register(gc.freeze)
