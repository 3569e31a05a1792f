"""Reported costs of services, in both databases: stored once a request, never changed, added up exactly."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from decimal import Decimal

import pytest

from metrics.catalogue import families_of_the_database
from metrics.label_sets import by_label_set
from supervisor.core.claim import Claim
from supervisor.store.counters import counters
from supervisor.store.ledger import provider_costs
from supervisor.store.ledger.provider_costs import ProviderCost
from supervisor.store.operators import task_details
from tests.conftest import Store

LONG_AGO = "2020-01-01T00:00:00.000Z"


def _cost(
    claim: Claim, amount: str, part: int = 0, *, provider: str = "ai", unit: str = "USD"
) -> ProviderCost:
    reference = f"{claim.task_id}.{claim.charge}.{claim.lease}.{part}"
    return ProviderCost(
        reference, claim.task_id, claim.type, claim.charge, claim.lease, claim.attempt, provider, amount, unit
    )


def test_a_request_costs_once_and_its_text_stays_as_it_was(
    store: Store, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task()
    for amount in ("0.10", "0.20"):
        store.write(lambda tx, amount=amount: provider_costs.add(tx, _cost(claim, amount)))  # type: ignore[misc]
    [kept] = store.database.read(lambda tx: provider_costs.of_task(tx, claim.task_id))
    assert (kept["cost"], kept["unit"], kept["attempt"], kept["lease"]) == ("0.10", "USD", 1, claim.lease)
    tallies = store.database.read(counters.read_all)
    assert tallies[provider_costs.COUNTER, '{"provider":"ai","unit":"USD"}'] == {"": 100_000_000}


@pytest.mark.parametrize("statement", ["UPDATE provider_cost SET amount = '9'", "DELETE FROM provider_cost"])
def test_a_reported_cost_is_never_changed(
    store: Store, claimed_task: Callable[..., Claim], statement: str
) -> None:
    claim = claimed_task()
    store.write(lambda tx: provider_costs.add(tx, _cost(claim, "0.10")))
    with pytest.raises(Exception, match="append-only"):
        store.write(lambda tx: tx.run(statement))
    assert store.database.read(lambda tx: tx.value("SELECT amount FROM provider_cost")) == "0.10"


def test_sums_are_exact_and_units_are_never_added_together(
    store: Store, claimed_task: Callable[..., Claim]
) -> None:
    """A float sum of these is wrong in its last places."""
    claim, chance = claimed_task(), random.Random(20)
    of = {("ai", "USD"): Decimal(0), ("ai", "credits"): Decimal(0), ("other", "USD"): Decimal(0)}
    costs = []
    for part in range(300):
        provider, unit = chance.choice(list(of))
        amount = chance.choice(
            ["0.1", "0.10", "1e-7", "3", f"{chance.randrange(10**9)}.{chance.randrange(10**12)}"]
        )
        of[provider, unit] += Decimal(amount)
        costs.append(_cost(claim, amount, part, provider=provider, unit=unit))
    store.write(lambda tx: [provider_costs.add(tx, cost) for cost in costs])
    found = store.database.read(lambda tx: provider_costs.totals_since(tx, LONG_AGO))
    assert {(each.provider, each.unit): Decimal(each.cost) for each in found} == of
    assert sum(each.requests for each in found) == 300
    assert not any("E" in each.cost for each in found)
    assert store.database.read(lambda tx: provider_costs.totals_since(tx, "2999-01-01T00:00:00.000Z")) == []


def test_the_metric_shows_units_of_providers_that_have_one(
    store: Store, claimed_task: Callable[..., Claim]
) -> None:
    settings = store.settings.model_copy(
        update={
            "providers": {
                name: each.model_copy(update={"cost_unit": "USD"})
                for name, each in store.settings.providers.items()
            }
        }
    )
    [name, *_] = settings.providers
    claim = claimed_task()
    store.write(lambda tx: provider_costs.add(tx, _cost(claim, "0.25", provider=name)))
    [family] = [each for each in families_of_the_database(settings) if each.name == provider_costs.COUNTER]
    shown = by_label_set([family], store.database.read(counters.read_all))[provider_costs.COUNTER]
    assert {labels: sum(of.values()) / family.divisor for labels, of in shown.items()} == {
        (name, "USD"): 0.25
    }


def test_credits_taken_stand_beside_it(store: Store, claimed_task: Callable[..., Claim]) -> None:
    claim = claimed_task()
    [taken] = store.database.read(lambda tx: provider_costs.credits_since(tx, LONG_AGO))
    assert (taken.type, taken.debited, taken.refunded) == (claim.type, 1, 0)


def test_an_operator_sees_what_a_task_has_cost(store: Store, claimed_task: Callable[..., Claim]) -> None:
    claim = claimed_task()
    store.write(lambda tx: provider_costs.add(tx, _cost(claim, "0.10")))
    store.write(
        lambda tx: provider_costs.add(
            tx, dataclasses.replace(_cost(claim, "2", 1), attempt=2, unit="credits")
        )
    )
    found = store.database.read(lambda tx: task_details.examine(tx, store.settings, claim.task_id))
    assert found is not None
    assert [(each["attempt"], each["cost"], each["unit"]) for each in found["costs"]] == [
        (1, "0.10", "USD"),
        (2, "2", "credits"),
    ]
