"""Libraries without the optional packages that they import wherever these are installed.

structlog imports rich for tracebacks that we write plainly.  redis imports OpenTelemetry for figures that nothing
switches on.  PyJWT and redis import cryptography for signatures that we do not make.  peewee imports the clients of
PostgreSQL even for a SQLite file.  Together they are 15 MiB of each process.

A library that is imported in a lean process stays without them.  The packages themselves can be imported as ever, and
our own code does so where it needs them.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType

_OF_POSTGRES = ("psycopg", "psycopg2", "psycopg2cffi")
_NOT_NEEDED = {
    "jwt": ("cryptography",),
    "peewee": _OF_POSTGRES,
    "playhouse.postgres_ext": _OF_POSTGRES,
    "redis": ("cryptography", "opentelemetry"),
    "structlog": ("rich",),
}


def import_lean() -> None:
    """From now on, for the rest of this process and whatever it forks."""
    if not any(isinstance(finder, _LeanFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _LeanFinder())


class _LeanFinder(importlib.abc.MetaPathFinder):
    """Finds the libraries of `_NOT_NEEDED` as the other finders do, and hides packages while they are executed."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in _NOT_NEEDED or not _may_be_lean(name):
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _LeanLoader(spec.loader, _NOT_NEEDED[name])
                return spec
        return None


class _LeanLoader(importlib.abc.Loader):
    """Another loader, and the packages that are hidden while it executes its module."""

    def __init__(self, loader: importlib.abc.Loader, hidden: tuple[str, ...]) -> None:
        self._loader, self._hidden = loader, hidden

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader  # the module shows its real loader
        module.__loader__ = self._loader
        with _absent(self._hidden):
            self._loader.exec_module(module)


@contextlib.contextmanager
def _absent(packages: tuple[str, ...]) -> Iterator[None]:
    """Packages that are not imported yet can't be, until the block ends."""
    hidden = [package for package in packages if package not in sys.modules]
    for package in hidden:
        sys.modules[package] = None  # type: ignore[assignment]  # how Python says that there is none
    try:
        yield
    finally:
        for package in hidden:
            del sys.modules[package]


def _may_be_lean(library: str) -> bool:
    """Providers of kind `python` are other people's code, which may want PyJWT and peewee with all that they import."""
    if library in ("redis", "structlog"):
        return True
    has_strange_code, is_sqlite = _of_settings()
    return not has_strange_code and (is_sqlite or library == "jwt")


@functools.cache
def _of_settings() -> tuple[bool, bool]:
    """Whether providers are other people's code, and whether the database is a SQLite file."""
    from config.load_settings import SettingsError, load_settings

    try:
        settings = load_settings()
    except SettingsError:  # the program reports them itself
        return True, False
    has_strange_code = any(provider.kind == "python" for provider in settings.providers.values())
    return has_strange_code, settings.database_url.startswith("sqlite:")
