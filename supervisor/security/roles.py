"""The roles of callers, and what each role may do.  Pure.

`user` uses the system for themselves; `service` acts for its users; `viewer` also reads the operators' view; `operator`
also acts there; `admin` also grants credits, blocks users and revokes tokens there.  The last three form a ladder: each
may do everything that the one before it may.
"""

from __future__ import annotations

from typing import Literal

Role = Literal["user", "service", "viewer", "operator", "admin"]
ROLES: tuple[Role, ...] = ("user", "service", "viewer", "operator", "admin")

_LADDER: tuple[Role, ...] = ("viewer", "operator", "admin")


def may(role: Role, needed: Role) -> bool:
    """Whether a caller with this role may do what needs that step of the ladder.  needed: viewer, operator or admin."""
    return role in _LADDER and _LADDER.index(role) >= _LADDER.index(needed)


def serves(role: Role) -> bool:
    """Whether the role may grant credits and request tokens for users."""
    return role == "service" or may(role, "operator")


def is_bound(role: Role) -> bool:
    """Whether the limits of one user bind the role: quotas, shares of uploads, the order of the queue."""
    return role in ("user", "viewer")
