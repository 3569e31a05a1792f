"""Python's garbage collector, kept out of a program's start and end.

Imported modules live as long as the program.  By default the collector scans them again and again during the imports,
and once more when the interpreter ends: together a third of the CPU time of a start and an end.
"""

from __future__ import annotations

import atexit
import gc

NEW_OBJECTS = (
    # objects between two collections of the youngest generation; Python's default, 700, causes hundreds of them at a
    # start
    50_000
)


def spare_the_imports() -> None:
    """Collect seldom from now on, and never at the end of the program.  Call it before the large imports."""
    gc.set_threshold(NEW_OBJECTS, *gc.get_threshold()[1:])
    atexit.register(gc.freeze)
