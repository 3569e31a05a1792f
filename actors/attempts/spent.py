"""What a service said that one request has cost, on its way into the table of costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from supervisor.store.ledger import provider_costs
from supervisor.store.ledger.provider_costs import ProviderCost

if TYPE_CHECKING:
    from actors.providers.base import Bill
    from actors.worker.worker import Worker
    from supervisor.core.claim import Claim
    from supervisor.database.interface.database import Transaction


@dataclass(frozen=True)
class Spent:
    """Of a request with this name, made under this lease.  unit: empty where the settings name none."""

    claim: Claim
    provider: str
    unit: str
    reference: str
    lease: int
    bill: Bill

    @property
    def is_known(self) -> bool:
        """Whether the service has said a cost that can be kept."""
        return self.bill.amount is not None and bool(self.unit)

    def note(self, tx: Transaction) -> None:
        """A step: keep it, if there is something to be kept."""
        if self.bill.amount is None or not self.unit:
            return
        claim = self.claim
        provider_costs.add(
            tx,
            ProviderCost(
                self.reference,
                claim.task_id,
                claim.type,
                claim.charge,
                self.lease,
                claim.attempt,
                self.provider,
                self.bill.amount,
                self.unit,
            ),
        )


def spent_on(worker: Worker, claim: Claim, provider: str, reference: str, bill: Bill, *, lease: int) -> Spent:
    """What becomes of the bill of a request.  lease: under which it was made."""
    return Spent(claim, provider, worker.settings.providers[provider].cost_unit, reference, lease, bill)
