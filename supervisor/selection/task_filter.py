"""Which tasks an action on many concerns: one filter, read alike from HTTP, the page and the command line.  Pure.

Conditions that are named must all hold.  `from` and `to` are the time of the end for tasks that have ended, and of the
order for tasks that are open.  An action must be given at least one condition, and none without a value, so that no
slip (such as a shell's variable that is not set) concerns more tasks than are meant.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any, Literal, get_args

from supervisor.core.lifecycle import OPEN, RETRYABLE
from supervisor.selection.unescaped_plus import advice_on_unescaped_plus

Action = Literal["retry", "cancel", "release"]
ACTIONS: tuple[Action, ...] = get_args(Action)
MEMBERS = ("type", "code", "provider", "user", "text", "status", "from", "to")
MOST_CHARACTERS = 200

_OPEN = tuple(sorted(str(each) for each in OPEN))
_ENDED = ("cancelled", "completed", "failed")
_MAY_BE: dict[Action, tuple[str, ...]] = {
    "retry": tuple(sorted(str(each) for each in RETRYABLE)),
    "cancel": _OPEN,
    "release": _OPEN,
}
_UNSAID: dict[Action, tuple[str, ...]] = {"retry": ("failed",), "cancel": _OPEN, "release": _OPEN}


class BadFilter(ValueError):
    """A member of the filter is wrong.  member: its name; str(): a sentence for its writer."""

    def __init__(self, member: str, sentence: str) -> None:
        super().__init__(sentence)
        self.member = member


@dataclasses.dataclass(frozen=True)
class TaskFilter:
    """The conditions; None for none.  statuses: all open, or all ended.  since, until: UTC, milliseconds, included.

    code: of the error.  text: a part of an error's words, the service's own among them, in any case.
    """

    statuses: tuple[str, ...]
    type: str | None = None
    code: str | None = None
    provider: str | None = None
    user: str | None = None
    text: str | None = None
    since: str | None = None
    until: str | None = None

    @property
    def is_of_ended(self) -> bool:
        return self.statuses[0] in _ENDED

    def words(self) -> dict[str, str]:
        """What `read_filter` makes this filter of."""
        named = {
            "type": self.type,
            "code": self.code,
            "provider": self.provider,
            "user": self.user,
            "text": self.text,
            "from": self.since,
            "to": self.until,
            "status": self.statuses[0] if len(self.statuses) == 1 else None,
        }
        return {name: value for name, value in named.items() if value is not None}

    def up_to(self, moment: str) -> TaskFilter:
        """The same, and nothing from after a moment: what is tried again and fails again is not met twice.

        Raises BadFilter if the filter begins after that moment.
        """
        if self.since is not None and self.since > moment:
            raise BadFilter("from", f"from is {self.since}, but that is in the future: it is {moment} now.")
        return dataclasses.replace(self, until=moment if self.until is None else min(self.until, moment))


def read_action(value: Any) -> Action:
    """The action.  Raises BadFilter."""
    for action in ACTIONS:
        if value == action:
            return action
    raise BadFilter("action", f"action must be one of {', '.join(ACTIONS)}.")


def read_filter(words: Mapping[str, Any], action: Action | None = None) -> TaskFilter:
    """The filter in these words.  action: None to look for tasks of any status.  Raises BadFilter."""
    if unknown := sorted(set(words) - set(MEMBERS)):
        raise BadFilter(
            unknown[0], f"There is no condition {unknown[0]!a:.40}; there are {', '.join(MEMBERS)}."
        )
    empty = [name for name in MEMBERS if name in words and words[name] in (None, "")]
    if action is not None and empty:
        raise BadFilter(empty[0], f"{empty[0]} is empty: give it a value, or leave it out.")
    given = {name: _text(name, words[name]) for name in MEMBERS if name in words and name not in empty}
    if action is not None and not set(given) - {"status"}:
        raise BadFilter(
            "", f"Name at least one condition: {', '.join(each for each in MEMBERS if each != 'status')}."
        )
    since, until = (_moment(name, given[name]) if name in given else None for name in ("from", "to"))
    if since is not None and until is not None and since > until:
        raise BadFilter("to", "to must not be before from.")
    return TaskFilter(
        _statuses(given.get("status"), action),
        given.get("type"),
        given.get("code"),
        given.get("provider"),
        given.get("user"),
        given.get("text"),
        since,
        until,
    )


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or len(value) > MOST_CHARACTERS or not value.isprintable():
        raise BadFilter(name, f"{name} must be one line of at most {MOST_CHARACTERS} characters.")
    return value


def _statuses(status: str | None, action: Action | None) -> tuple[str, ...]:
    if action is None:
        known = (*_ENDED, *_OPEN)
        if status is not None and status not in known:
            raise BadFilter("status", f"status must be one of {', '.join(known)}.")
        return (status,) if status is not None else _ENDED
    if status is None:
        return _UNSAID[action]
    if status not in _MAY_BE[action]:
        raise BadFilter("status", f"{action} concerns tasks that are {' or '.join(_MAY_BE[action])}.")
    return (status,)


def _moment(name: str, text: str) -> str:
    """UTC with milliseconds, as the database writes times."""
    try:
        moment = datetime.datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        moment = moment.astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        raise BadFilter(
            name,
            f"{name} must be a day such as 2026-12-01, or a time such as 2026-12-01T09:00:00Z."
            + advice_on_unescaped_plus(text),
        ) from None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
