"""The time from a change to the last of thousands of streams, and the cost of a stream, beside two plain servers.

In the same run, in turns: `darkroom web` (tokens, database, change log, resume), bare aiohttp and sse-starlette
(bench.feed_servers).  Two shapes: all streams belong to one user and receive 20 changes, one after the other; and the
same number of streams over 500 users, where one commit changes something for each.  For Darkroom the clock starts when
the commit is done, for the others when the publication is sent.  `cpu` is what the server's process used for a change,
all streams together: it says the same on a busy host.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

from bench.fanout_subjects import SUBJECTS, Subject, subject_of
from bench.stream_crowd import Crowd, allow_many_sockets

ROUNDS = 2
STREAMS = (2000, 5000)
USERS = 500
CHANGES = 20
WARM_UP = 2
PAUSE_SECONDS = 0.05
_TICKS = os.sysconf("SC_CLK_TCK")


def run(rounds: int = ROUNDS, streams: tuple[int, ...] = STREAMS) -> dict[str, str]:
    """{what: figures}."""
    allow_many_sockets()
    found: dict[str, str] = {}
    for count in streams:
        for users in (1, USERS):
            seen: dict[str, list[_Seen]] = {kind: [] for kind in SUBJECTS}
            for _ in range(rounds):
                for kind, each in seen.items():
                    each.append(_measure(kind, count, users))
            for kind, each in seen.items():
                found[f"{count} streams of {users} user(s), {kind}"] = _figures(each)
            ratios = [ours.p50 / bare.p50 for ours, bare in zip(seen["darkroom"], seen["bare"], strict=True)]
            found[f"{count} streams of {users} user(s), darkroom / bare"] = (
                f"{statistics.median(ratios):.2f} (last delivery p50, median of {rounds} rounds)"
            )
    return found


class _Seen:
    """Of one round.  last_ms: to the last delivery, for each change; cpu_ms: of the server, for a change."""

    def __init__(self, last_ms: list[float], cpu_ms: float, kib_a_stream: float) -> None:
        self.last_ms, self.cpu_ms, self.kib_a_stream = last_ms, cpu_ms, kib_a_stream

    @property
    def p50(self) -> float:
        return statistics.median(self.last_ms)


def _figures(rounds: list[_Seen]) -> str:
    last = [each for seen in rounds for each in seen.last_ms]
    p99 = statistics.quantiles(last, n=100, method="inclusive")[98]
    cpu = statistics.median(seen.cpu_ms for seen in rounds)
    kib = statistics.median(seen.kib_a_stream for seen in rounds)
    return (
        f"last delivery p50 {statistics.median(last):.0f}  p99 {p99:.0f} ms  cpu {cpu:.0f} ms  "
        f"{kib:.1f} KiB a stream"
    )


def _measure(kind: str, streams: int, users: int) -> _Seen:
    with subject_of(kind, users) as subject:
        headers = [subject.headers[n % users] for n in range(streams)]
        with Crowd(
            subject.url, subject.headers[:1]
        ) as one:  # objects that are made once exist before memory is measured
            one.wait_for_changes(subject.publish(), 1)
        before = _rss_kib(subject.pid)
        with Crowd(subject.url, headers) as crowd:
            return _watch(subject, crowd, streams, before)


def _watch(subject: Subject, crowd: Crowd, streams: int, rss_before: float) -> _Seen:
    for _ in range(WARM_UP):
        crowd.wait_for_changes(subject.publish(), streams)
    used, last = _cpu_ms(subject.pid), []
    for _ in range(CHANGES):
        time.sleep(PAUSE_SECONDS)
        last.append(max(crowd.wait_for_changes(subject.publish(), streams)))
    cpu = (_cpu_ms(subject.pid) - used) / CHANGES
    return _Seen(last, cpu, (_rss_kib(subject.pid) - rss_before) / streams)


def _rss_kib(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return float(text.partition("VmRSS:")[2].split()[0])


def _cpu_ms(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / _TICKS
