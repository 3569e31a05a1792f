"""The reported cost of one request, to be stored in the table of costs."""

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
    """The cost of a request of this provider, under this lease.  unit: empty if the settings name none."""

    claim: Claim
    provider: str
    unit: str
    reference: str
    lease: int
    bill: Bill

    @property
    def is_known(self) -> bool:
        """Whether the service has reported a valid cost."""
        return self.bill.amount is not None and bool(self.unit)

    def note(self, tx: Transaction) -> None:
        """A step that stores it, if there is one."""
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
                claim.step,
            ),
        )


def spent_on(worker: Worker, claim: Claim, provider: str, reference: str, bill: Bill, *, lease: int) -> Spent:
    """The cost from the bill of a request.  lease: of the request."""
    return Spent(claim, provider, worker.settings.providers[provider].cost_unit, reference, lease, bill)
