"""The command line and environment that `ps` shows of a forked process: its own instead of its parent's.

The kernel reads both from the process's memory, and a process may set their addresses: `prctl(PR_SET_MM,
PR_SET_MM_MAP)`, on Linux only and without any privilege (prctl(2)).
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

# linux/prctl.h
_PR_SET_NAME, _PR_SET_MM, _PR_SET_MM_MAP = 15, 35, 14
_SAME_PROGRAM = 0xFFFFFFFF  # -1: the executable file stays
_LONGEST_NAME = 15  # bytes

# The kernel reads these texts as long as the process lives.
_shown: list[ctypes.Array[ctypes.c_char]] = []


class _Memory(ctypes.Structure):
    """`struct prctl_mm_map`."""

    _fields_ = (
        *((name, ctypes.c_uint64) for name in (
            "start_code", "end_code", "start_data", "end_data", "start_brk", "brk", "start_stack",
            "arg_start", "arg_end", "env_start", "env_end", "auxv",
        )),
        ("auxv_size", ctypes.c_uint32),
        ("exe_fd", ctypes.c_uint32),
    )  # fmt: skip


def set_process_title(argv: Sequence[str], environ: Mapping[str, str]) -> None:
    """From now on `ps` and /proc show these for this process.  Raises OSError where the system does not allow it."""
    if sys.platform != "linux":
        raise OSError("only Linux lets a process set where its command line is")
    libc = ctypes.CDLL(None, use_errno=True)
    libc.sbrk.restype, libc.sbrk.argtypes = ctypes.c_void_p, (ctypes.c_ssize_t,)
    command = b"".join(os.fsencode(each) + b"\0" for each in argv)
    variables = b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in environ.items())
    text = ctypes.create_string_buffer(command + variables, len(command) + len(variables))
    begin = ctypes.addressof(text)
    middle, end = begin + len(command), begin + len(text)
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()

    def field(number: int) -> int:  # as proc(5) counts them; the first two precede the bracket
        return int(fields[number - 3])

    memory = _Memory(
        field(26), field(27), field(45), field(46), field(47), libc.sbrk(0), field(28),
        begin, middle, middle, end, 0, 0, _SAME_PROGRAM,
    )  # fmt: skip
    if libc.prctl(_PR_SET_MM, _PR_SET_MM_MAP, ctypes.byref(memory), ctypes.sizeof(memory), 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    _shown.append(text)
    libc.prctl(_PR_SET_NAME, os.path.basename(os.fsencode(argv[0]))[:_LONGEST_NAME], 0, 0, 0)
