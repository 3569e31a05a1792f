"""The quota of bytes that one user or address may have in upload at once, so that none can use all of them.  Pure.

A quota is not a fixed number but depends on the free bytes.  A user may hold as many bytes as then remain free for all
others; an address may hold three times that (many people behind one connection, or a service that uploads for its
users).  So a single user gets half of all bytes, and n users with full quotas leave 1/(n + 1) free for the next one.
Source: A. K. Choudhury and E. L. Hahne, Dynamic queue length thresholds for shared-memory packet switches (1998).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

OF_A_USER = 1
OF_MANY = 3


@dataclass(frozen=True, slots=True)
class Holder:
    """A holder of bytes, and its share as a multiple of the free bytes.  name: unique among users and addresses."""

    name: str
    times_the_rest: int


@dataclass
class UploadQuota:
    """most_bytes: of all uploads together that are being received, decoded or stored."""

    most_bytes: int
    held_bytes: int = 0
    _held: Counter[str] = field(default_factory=Counter)
    _uploads: Counter[str] = field(default_factory=Counter)

    def begin(self, holders: tuple[Holder, ...]) -> Share:
        """The share of one upload, still empty."""
        self._uploads.update(holder.name for holder in holders)
        return Share(self, holders)

    def full(self, holders: tuple[Holder, ...], more_bytes: int) -> Holder | None:
        """The first of these holders that may not have so many more bytes; None if all may."""
        left = self.most_bytes - self.held_bytes - more_bytes
        for holder in holders:
            if self._held[holder.name] + more_bytes > holder.times_the_rest * left:
                return holder
        return None

    def uploads_of(self, holder: Holder) -> int:
        """How many uploads of this holder are under way."""
        return self._uploads[holder.name]

    def add(self, holders: tuple[Holder, ...], count: int) -> None:
        """Count bytes for every one of these holders."""
        self.held_bytes += count
        for holder in holders:
            self._held[holder.name] += count

    def end(self, holders: tuple[Holder, ...], count: int) -> None:
        """Return the bytes of an upload; drop holders without bytes."""
        self.held_bytes -= count
        for holder in holders:
            self._held[holder.name] -= count
            self._uploads[holder.name] -= 1
            if not self._uploads[holder.name]:
                del self._held[holder.name], self._uploads[holder.name]


@dataclass
class Share:
    """What one upload holds."""

    shares: UploadQuota
    holders: tuple[Holder, ...]
    bytes: int = 0

    def take(self, count: int) -> Holder | None:
        """Hold so many more bytes; or return the holder that may not, and take nothing."""
        full = self.shares.full(self.holders, count)
        if full is None:
            self.shares.add(self.holders, count)
            self.bytes += count
        return full

    def end(self) -> None:
        """Free the share at the end of the upload."""
        self.shares.end(self.holders, self.bytes)
        self.bytes = 0
