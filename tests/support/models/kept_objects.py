"""How many objects of a class one test has made and still holds, whatever other tests of the process have left."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest


class KeptObjects:
    """Called, it counts those that are not freed yet.  made: how many there were in all."""

    def __init__(self) -> None:
        self._made: list[weakref.ref[Any]] = []

    def note(self, made: object) -> None:
        if all(each() is not made for each in self._made):
            self._made.append(weakref.ref(made))

    @property
    def made(self) -> int:
        return len(self._made)

    def __call__(self) -> int:
        return sum(each() is not None for each in self._made)


def kept_of(class_: type, monkeypatch: pytest.MonkeyPatch) -> KeptObjects:
    """Counts the objects of this class, and of those below it, that are made from now on in this test.

    A search among all objects of the process would find those of earlier tests, and would take a tenth of a second.
    """
    kept = KeptObjects()
    for each in _with_all_below(class_):
        if "__init__" in vars(each):
            monkeypatch.setattr(each, "__init__", _noting(kept, vars(each)["__init__"]))
    return kept


def _with_all_below(class_: type) -> Iterator[type]:
    yield class_
    for each in class_.__subclasses__():
        yield from _with_all_below(each)


def _noting(kept: KeptObjects, make: Callable[..., None]) -> Callable[..., None]:
    def make_and_note(self: object, *args: Any, **more: Any) -> None:
        kept.note(self)
        make(self, *args, **more)

    return make_and_note
