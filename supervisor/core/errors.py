"""What can go wrong with a request to the store: one small tree.

Each fault's text is a sentence for the caller; the docstring says what to do.
"""

from __future__ import annotations

from supervisor.core.sentences import counted


class Fault(Exception):
    """The store can't do what it was asked.  Nothing was changed."""


class SettingFault(Fault):
    """The set-up is wrong: the program must not start.  Correct what the sentence names."""


class NotReady(SettingFault):
    """Something that the settings name is missing for now: the schema is not migrated, or this host lacks the address.

    It may come without a change of settings, so a part that meets this fault is to be started again.
    """


class Revoked(Fault):
    """The token was revoked.  Its bearer needs a new one."""

    def __init__(self) -> None:
        super().__init__("The token was revoked.")


class TaskNotFound(Fault):
    """This user has no such task.  Check the id; another user's task gives the same error."""

    def __init__(self, task_id: str) -> None:
        super().__init__(f"There is no task {task_id}.")


class WorkNotFound(Fault):
    """This user has no such work."""

    def __init__(self, work_id: str) -> None:
        super().__init__(f"There is no work {work_id}.")


class AlreadyFinished(Fault):
    """The task is over: there is nothing to cancel."""

    def __init__(self, task_id: str, status: str) -> None:
        super().__init__(f"Task {task_id} is already {status}.")
        self.status = status


class NotRetryable(Fault):
    """Only a failed or cancelled task whose work still exists can be retried."""

    def __init__(self, task_id: str, reason: str) -> None:
        super().__init__(f"Task {task_id} can't be retried: {reason}.")


class NotReleasable(Fault):
    """Only a task that runs, or waits for a time, can be released."""

    def __init__(self, task_id: str, reason: str) -> None:
        super().__init__(f"Task {task_id} can't be released: {reason}.")


class WorkerNotFound(Fault):
    """There is no such live worker; look at the list again."""

    def __init__(self, worker_id: str) -> None:
        super().__init__(f"There is no live worker {worker_id}.")


class WebhookNotFound(Fault):
    """No such delivery of a webhook; look at the list again."""

    def __init__(self, webhook_id: str) -> None:
        super().__init__(f"There is no webhook {webhook_id}.")


class BulkNotFound(Fault):
    """No such action on many tasks; look at the list again."""

    def __init__(self, bulk_id: str) -> None:
        super().__init__(f"There is no action {bulk_id} on many tasks.")


class InsufficientCredits(Fault):
    """The user's balance does not cover the price.  Grant credits, then submit again."""

    def __init__(self, price: int, balance: int) -> None:
        super().__init__(f"This costs {counted(price, 'credit')} and the balance is {balance}.")
        self.price, self.balance = price, balance


class UserBlocked(Fault):
    """An admin has blocked the user: nothing is taken from them.  Only an admin can end the block."""

    def __init__(self, user: str) -> None:
        super().__init__(f"The user {user} is blocked; whoever runs this service can say why.")


class TooManyOpenTasks(Fault):
    """The user's own limit of open tasks is reached.  Try again when one has finished."""

    def __init__(self, limit: int, retry_after_seconds: int) -> None:
        super().__init__(
            f"You have {counted(limit, 'open task')} already, which is the limit; wait until one has finished."
        )
        self.retry_after_seconds = retry_after_seconds


class QueueFull(Fault):
    """The whole queue is full.  Try again later."""

    def __init__(self, limit: int, retry_after_seconds: int) -> None:
        super().__init__(
            f"The queue holds {counted(limit, 'waiting task')}, which is the limit; try again later."
        )
        self.retry_after_seconds = retry_after_seconds


class KeyReused(Fault):
    """The idempotency key was used for another body.  Use a new key for a new request."""

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used for another body; a new request needs a new key.")


class BadParams(Fault):
    """The task's params are wrong; `code` is the task's error.code.  member: the wrong member of params, if known."""

    def __init__(self, sentence: str, code: str = "bad_params", member: str = "images") -> None:
        super().__init__(sentence)
        self.code, self.member = code, member


class LeaseLost(Fault):
    """The task was rescued, cancelled or claimed again since.  Drop this result: the task has moved on."""

    def __init__(self, task_id: str, lease: int) -> None:
        super().__init__(f"Lease {lease} of task {task_id} is no longer held.")


class MayBeBilledAlready(Fault):
    """An earlier request of this charge was never answered and must not be sent again, or its service works on it.

    Wait for the job if there is one, else fail the task."""

    def __init__(self, task_id: str) -> None:
        super().__init__(
            f"An earlier request for task {task_id} may have been carried out; it is not sent again."
        )


class ProviderIsDown(Fault):
    """The provider's circuit breaker is open: nothing is sent to it.  Wait as long as the fault says, or use another
    provider."""

    def __init__(self, name: str, wait_seconds: float) -> None:
        super().__init__(f"The provider {name} is down; it is asked again in {wait_seconds:.0f} s.")
        self.wait_seconds = wait_seconds


class ProviderFull(Fault):
    """The provider has as many open jobs as its `limits.concurrency` allows.  Try again when one has ended."""

    def __init__(self, name: str, limit: int) -> None:
        super().__init__(f"The provider {name} has {limit} open jobs, which is its limit.")


class ProviderTooFast(Fault):
    """The provider's `limits.rps` is used up for the moment.  Wait as long as the fault says."""

    def __init__(self, name: str, rps: float, wait_seconds: float) -> None:
        super().__init__(f"The provider {name} may be asked {rps:g} times a second, which is its limit.")
        self.wait_seconds = wait_seconds


class DatabaseBusy(Fault):
    """The database can't be written for now (locked, disk full).  Nothing was stored; try again."""


class RowsLocked(DatabaseBusy):
    """Another transaction has locked a row that the step needs.  Nothing was stored; try again.

    row: which row, as the server names it; empty if it does not.
    """

    row = ""


class AccountLocked(RowsLocked):
    """Another transaction has locked the user's account.  Nothing was stored for them; try again."""

    def __init__(self) -> None:
        super().__init__(
            "Another program holds the account of this user in the database; nothing was stored.  Try again later."
        )


class DatabaseFull(DatabaseBusy):
    """The disk that holds the database is full.  Free some space; nothing was stored."""


class BrokerAway(Fault):
    """The broker does not answer.  Wait for it: nothing is lost meanwhile, and nothing starts."""


class OutcomeUnknown(Fault):
    """The connection was lost during the commit, and the outcome can't be looked up.  Check the rows before you
    retry."""

    def __init__(self) -> None:
        super().__init__(
            "The connection to the database was lost while it stored this, and it can't be asked what it stored; "
            "look before you try again."
        )


class StoreAway(Fault):
    """The file store can't be reached, or refuses us.  The object's state is unknown; repair the store, try again."""


class NoRoom(StoreAway):
    """A disk is full.  Nothing was stored; wait until there is room, then do the same again."""


def exit_status(error: Exception) -> int:
    """The exit status of a part that can't begin: 1 if it should be started again, 2 if only other settings would
    help."""
    return 2 if isinstance(error, SettingFault) and not isinstance(error, NotReady) else 1


def as_sentence(error: Exception) -> str:
    """The sentence for a person about a fault, or about the database's own error (its first line)."""
    if isinstance(error, Fault):
        return str(error)
    said = str(error).strip() or type(error).__name__
    return f"The database can't be used: {said.splitlines()[0]}."


def drop_frames(error: BaseException) -> None:
    """Free what the frames hold that an error, and those it came from, went through: pictures, bodies, answers.

    The frames often hold the error too, as a future or a task does of which they know, so this is a cycle.  The
    collector, which runs seldom, would free it after hundreds of failures.  The frames are not cleared: an error of a
    commit is shared by all who waited for it.
    """
    left, met = [error], set[int]()
    while left:
        each = left.pop()
        if id(each) not in met:
            met.add(id(each))
            each.__traceback__ = None
            left += [cause for cause in (each.__cause__, each.__context__) if cause is not None]
