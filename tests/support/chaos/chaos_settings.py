"""The wish for one chaos, and the settings of its house."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from tests.support.chaos.orders import PRICES, TYPES

LEASE_SECONDS = 15.0  # the default


@dataclasses.dataclass(frozen=True)
class Wish:
    """What one run is to be."""

    seed: int
    seconds: float
    tasks: int
    max_attempts: int
    poison: int
    absences: bool = False
    clock: Path | None = None  # the file that the host's clock goes by, where it is to be stepped


def settings_of(wish: Wish) -> dict[str, str]:
    """What a run changes of the defaults: its own types, credits and limits that 1,000 tasks fit in."""
    settings = {
        "CREDITS__SIGNUP_GRANT": "1000000",
        "LIMITS__OPEN_TASKS_PER_USER": "0",
        "FEED_RETENTION_SECONDS": "86400",
        "LOG_LEVEL": "info",
    }
    for name, class_name in (("short", "ShortWork"), ("poison", "Poison")):
        settings |= {
            f"PROVIDERS__{name}__KIND": "python",
            f"PROVIDERS__{name}__OPTIONS__class": f"bench.chaos.provider:{class_name}",
            f"PROVIDERS__{name}__MAY_BILL_TWICE": "true",
        }
    for type_ in (*TYPES, "poison"):
        settings |= {
            f"TASKS__{type_}__PROVIDER": "poison" if type_ == "poison" else "short",
            f"TASKS__{type_}__TIME_LIMIT_SECONDS": "60",
            f"TASKS__{type_}__AI_TIMEOUT_SECONDS": "30",
        }
    if wish.absences:
        # As long as the shortest absence allows: a photo takes half a minute on a busy machine.
        settings |= {"STUCK_GRACE_SECONDS": "5"}
        for type_ in (*TYPES, "poison", "photography", "fitting"):
            settings |= {
                f"TASKS__{type_}__TIME_LIMIT_SECONDS": "34",
                f"TASKS__{type_}__AI_TIMEOUT_SECONDS": "28",
            }
    for type_ in (*TYPES, "poison", "photography", "fitting"):
        settings[f"TASKS__{type_}__MAX_ATTEMPTS"] = str(wish.max_attempts)
    for type_, (base, each) in PRICES.items():
        settings[f"TASKS__{type_}__PRICE"] = json.dumps({"base": base, "per": "picture", "credits": each})
    return settings | {"TASKS__sticker__MAX_RUNNING": "12"}
