"""A part takes no memory that it has no use for."""

from __future__ import annotations

import multiprocessing
import os
import platform
import subprocess
import sys

import pytest
from dramatiq import canteen, cli

from supervisor.processes import launcher

HEAPS = """
import ctypes, sys, threading
from supervisor.processes import fork_server
if "few" in sys.argv:
    fork_server._keep_few_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fdopen.restype = ctypes.c_void_p
all_are_there = threading.Barrier(8)
def use():
    all_are_there.wait(60)
    libc.malloc(1000)
    all_are_there.wait(60)
threads = [threading.Thread(target=use) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.malloc_info(0, ctypes.c_void_p(libc.fdopen(1, b"w")))
libc.fflush(None)
"""


def _heaps(*words: str) -> int:
    set_outside = ("MALLOC_ARENA_MAX", "MALLOC_ARENA_TEST", "GLIBC_TUNABLES")
    environ = {name: value for name, value in os.environ.items() if name not in set_outside}
    said = subprocess.run(
        [sys.executable, "-c", HEAPS, *words],
        capture_output=True,
        text=True,
        check=True,
        timeout=90,
        env=environ,
    ).stdout
    return said.count("<heap nr=")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such heaps")
def test_the_threads_of_a_part_share_one_heap() -> None:
    assert _heaps() > 1, "what would be without it"
    assert _heaps("few") == 1


def test_the_memory_for_names_of_processes_is_small_and_works_as_dramatiqs_own() -> None:
    assert hasattr(cli, "Canteen"), "what the launcher replaces"
    assert [name for name, *_ in launcher._Canteen._fields_] == [
        name for name, *_ in canteen.Canteen._fields_
    ]
    shared = multiprocessing.Value(launcher._Canteen)
    assert sys.getsizeof(bytes(shared.get_obj())) < 10_000
    with canteen.canteen_try_init(shared) as acquired:
        assert acquired
        canteen.canteen_add(shared, "a.module:function")
    assert canteen.canteen_get(shared) == ["a.module:function"]
