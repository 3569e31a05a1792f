"""How long the steps of a type take, from the counted run times: the weights that no declaration gives."""

from __future__ import annotations

import json

from supervisor.database.interface.database import Transaction

RUN_SECONDS = "darkroom_step_run_seconds"


def mean_seconds(tx: Transaction, type_: str) -> dict[str, float]:
    """{step: mean seconds of its finished runs}; steps that never finished are missing.

    Observations that are not folded yet (`counters.fold`) are left out: they change a mean of many by little.
    """
    rows = tx.all(
        """SELECT labels, sum(CASE WHEN bucket = 'sum' THEN value ELSE 0 END) AS seconds,
            sum(CASE WHEN bucket = 'sum' THEN 0 ELSE value END) AS runs
            FROM metric WHERE name = :name GROUP BY labels""",
        name=RUN_SECONDS,
    )
    found = {}
    for row in rows:
        labels = json.loads(row["labels"])
        if labels.get("type") == type_ and labels.get("outcome") == "completed" and row["runs"]:
            found[labels["step"]] = row["seconds"] / row["runs"]
    return found
