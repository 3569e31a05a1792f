"""How an attempt, or a remote job, ends in the row: the step of each outcome.

A step is run under the lease, in one transaction; who has lost the lease records nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from actors.attempts.outcomes import OrderAgain, Outcome, Postpone
from supervisor.core import rescue
from supervisor.core.claim import Claim
from supervisor.database.interface.database import BatchedStep, Transaction
from supervisor.store.remote import remote_jobs
from supervisor.store.tasks import claims, history, remote_wait, results
from supervisor.store.tasks.results import ResultFile

Step = Callable[[Transaction], None]


def completed(claim: Claim, files: Sequence[ResultFile], *, without_pictures: bool = False) -> Step:
    """The task is done with these pictures and files; pictures that are missing were paid for and are refunded.

    without_pictures: none were ordered, so none are missing."""

    found = results.together(files)
    missing = 0 if without_pictures else found.missing_of(claim.count)
    made = claims.Made(claim.task_id, claim.lease, found.images, missing, found.outputs)
    return BatchedStep("completed", claims.complete_all, made)


def handed_off(claim: Claim, *, poll_in_seconds: float, remote_limit_seconds: float) -> Step:
    """The service works on it, and nobody here has to wait for that."""

    def handed_off(tx: Transaction) -> None:
        remote_wait.hand_off(
            tx,
            claim.task_id,
            claim.lease,
            poll_in_seconds=poll_in_seconds,
            remote_limit_seconds=remote_limit_seconds,
        )

    return handed_off


def unless_reported(claim: Claim, step: Step, *, remote_limit_seconds: float) -> Step:
    """Nobody heard the service's answer, but it may have reported meanwhile: then it has the job, and we wait."""

    def recorded(tx: Transaction) -> None:
        if remote_jobs.waiting(tx, [claim.of_charge]):
            step_of_hand_off(tx)
        else:
            step(tx)

    step_of_hand_off = handed_off(claim, poll_in_seconds=0.0, remote_limit_seconds=remote_limit_seconds)
    recorded.__name__ = step.__name__
    return recorded


def step_of(claim: Claim, outcome: Outcome, params_hash: str) -> Step:
    """The step that records an outcome.  params_hash: of the pictures that may exist already.

    What was made and paid for is not thrown away: a task that is given up completes with the pictures it has, if any,
    and the others are refunded.
    """
    task_id, lease = claim.task_id, claim.lease
    match outcome:
        case Postpone(in_seconds=in_seconds, code=code, message=message, detail=detail):

            def postponed(tx: Transaction) -> None:
                claims.postpone(tx, task_id, lease, in_seconds, code=code, message=message, detail=detail)

            return postponed
        case OrderAgain(code=code, message=message, chance=chance, detail=detail):

            def ordered_again(tx: Transaction) -> None:
                times = remote_jobs.count_cut_off(tx, *claim.of_charge)
                verdict = rescue.after_cut_off(claim.budget, max(1, times), code, message, chance=chance)
                step_of(claim, dataclasses.replace(verdict, detail=detail), params_hash)(tx)

            return ordered_again
        case rescue.RunAgain(in_seconds=in_seconds, code=code, message=message, counts=counts, detail=detail):

            def retried(tx: Transaction) -> None:
                is_counted = counts == "failures"
                claims.retry(
                    tx,
                    task_id,
                    lease,
                    in_seconds,
                    code=code,
                    message=message,
                    detail=detail,
                    is_counted=is_counted,
                )

            return retried
        case rescue.GiveUp(code=code, message=message, detail=detail):

            def failed(tx: Transaction) -> None:
                if detail:
                    history.note_failure(tx, task_id, lease, code, message, detail)
                found = results.found(tx, task_id, claim.charge, params_hash)
                if found:
                    completed(claim, found)(tx)
                else:
                    claims.fail(tx, task_id, lease, code, message)

            return failed
