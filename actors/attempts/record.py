"""Recording the end of an attempt or a remote job: one step for each outcome.

A step runs under the lease, in one transaction; without the lease nothing is recorded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence, Set

from actors.attempts.outcomes import OrderAgain, Outcome, Postpone, as_stored
from actors.attempts.steps import shown_progress
from supervisor.core import rescue
from supervisor.core.claim import Claim
from supervisor.database.interface.database import BatchedStep, Transaction
from supervisor.steps.lanes import lane_of
from supervisor.store.counters import counters
from supervisor.store.remote import remote_jobs
from supervisor.store.tasks import claims, history, remote_wait, results, steps
from supervisor.store.tasks.results import ResultFile
from supervisor.store.tasks.steps import Finished

Step = Callable[[Transaction], None]

FIRST_POLL_SECONDS = 5.0  # of jobs beside which another part waits


def completed(claim: Claim, files: Sequence[ResultFile], without: Set[int] = frozenset()) -> Step:
    """Complete the task with these pictures and files, and missing pictures are refunded; or, at a step that is not the
    last, let the next step follow.

    without: numbers of the ordered pictures whose requests were answered and make none, so they are not missing.
    """

    found = results.together(files)
    missing = found.missing_of(claim.count, without) + claim.lacking
    if claim.step < claim.last_step:
        return BatchedStep("advanced", claims.advance_all, _advance(claim, found, missing))
    missing = missing_of_order(claim, missing)
    made = claims.Made(
        claim.task_id, claim.lease, found.images, missing, found.outputs, len(found.replaced | without)
    )
    return BatchedStep("completed", claims.complete_all, made)


def missing_of_order(claim: Claim, missing: int) -> int:
    """The missing pictures of the order, from those of its last step, which may be to make more or fewer."""
    wanted = claim.count + claim.lacking
    ordered = claim.ordered or wanted
    if wanted <= ordered:  # `for_each` went over fewer than were ordered
        return missing + ordered - wanted
    return ordered * missing // wanted


def _advance(claim: Claim, found: results.Found, missing: int) -> claims.Advance:
    step, following = claim.fixed[claim.step], claim.fixed[claim.step + 1]
    finished = Finished(
        claim.task_id,
        claim.charge,
        claim.step,
        step["name"],
        claim.params_hash,
        found.images,
        found.outputs,
        missing,
        step["kept_credits"],
    )
    return claims.Advance(
        claim.task_id,
        claim.lease,
        finished,
        shown_progress(claim, 100),
        lane_of(claim.fixed, claim.step + 1),
        following["max_attempts"],
        f"{following['name']}: queued",
    )


def handed_off(claim: Claim, *, poll_in_seconds: float, remote_limit_seconds: float) -> Step:
    """Hand the task off to the service."""

    def handed_off(tx: Transaction) -> None:
        remote_wait.hand_off(
            tx,
            claim.task_id,
            claim.lease,
            poll_in_seconds=poll_in_seconds,
            remote_limit_seconds=remote_limit_seconds,
        )

    return handed_off


def once_jobs_are_over(
    claim: Claim, outcome: Outcome, step: Step, *, remote_limit_seconds: float, own: str | None = None
) -> Step:
    """The step that records the outcome; but while a service works on a part of the order, the task waits for it.

    What was accepted runs and may be paid, so the end of another part does not throw it away: the outcome is kept until
    no job runs any more, or until it is time for the next try of a part that was told to wait.  own: the reference of
    the request that ended so; if its service has reported meanwhile, it has the job, and nothing is kept.
    """

    def recorded(tx: Transaction) -> None:
        waiting = remote_jobs.waiting(tx, [claim.of_step])
        if not waiting:
            step(tx)
            return
        if own not in [job.reference for job in waiting]:
            remote_jobs.keep_verdict(tx, waiting[-1], {"attempt": claim.attempt, **as_stored(outcome)})
        first_poll_seconds = 0.0
        if isinstance(outcome, Postpone):
            first_poll_seconds = min(outcome.in_seconds, FIRST_POLL_SECONDS)
            _tell_wait(tx, claim, outcome)
        oldest = max(job.age_seconds for job in waiting)
        remote_wait.hand_off(
            tx,
            claim.task_id,
            claim.lease,
            poll_in_seconds=first_poll_seconds,
            remote_limit_seconds=max(1.0, remote_limit_seconds - oldest),
        )

    recorded.__name__ = step.__name__
    return recorded


def _tell_wait(tx: Transaction, claim: Claim, wait: Postpone) -> None:
    """As `claims.postpone` does."""
    if wait.code and wait.in_seconds > 0:
        history.note_postponed(
            tx, claim.task_id, claim.lease, wait.in_seconds, wait.code, wait.message, wait.detail
        )
    if wait.code:
        counters.count(tx, "darkroom_postponed_total", type=claim.type, reason=wait.code)


def step_lost(claim: Claim, step: int, code: str, message: str) -> Step:
    """Fail the task, because the files of this earlier step are gone; a retry begins with that step.

    What was to be kept for it, and for the steps after it, is given back too.
    """

    def failed(tx: Transaction) -> None:
        kept = steps.kept_for(tx, *claim.of_step, since=step)
        claims.fail(tx, claim.task_id, claim.lease, code, message, given_back=kept)
        steps.lose(tx, *claim.of_step, since=step)

    return failed


def step_of(claim: Claim, outcome: Outcome, params_hash: str) -> Step:
    """The step that records an outcome.  params_hash: of the pictures that may exist already.

    Paid pictures are not thrown away: a task that is given up completes with its existing pictures, if any, and the
    others are refunded.
    """
    task_id, lease = claim.task_id, claim.lease
    match outcome:
        case Postpone(in_seconds=in_seconds, code=code, message=message, detail=detail):

            def postponed(tx: Transaction) -> None:
                claims.postpone(tx, task_id, lease, in_seconds, code=code, message=message, detail=detail)

            return postponed
        case OrderAgain(code=code, message=message, chance=chance, detail=detail):

            def ordered_again(tx: Transaction) -> None:
                times = remote_jobs.count_cut_off(tx, *claim.of_step)
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
                without = remote_jobs.done_without_pictures(tx, *claim.of_step)
                if found or without:
                    completed(claim, found, without)(tx)
                else:
                    claims.fail(tx, task_id, lease, code, message)

            return failed
