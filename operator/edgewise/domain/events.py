"""The Kubernetes Events of a job: one for each thing that happened between its old status and its new one."""

from collections.abc import Callable

from edgewise.api import Attempt, EdgeJobStatus, Outcome
from edgewise.domain.actions import Event
from edgewise.domain.conditions import holds, named
from edgewise.domain.draft import NOT_ITS_TURN
from edgewise.domain.views import JobView


def events(job: JobView, new: EdgeJobStatus) -> list[Event]:
    """The events that the change to `new` is worth, in the order in which things happen."""
    old = job.status
    told: list[Event] = []

    def tell(warning: bool, reason: str, message: str) -> None:
        told.append(Event("EdgeJob", job.key, job.uid, warning, reason, message))

    before = {attempt.pod_uid: attempt for attempt in old.attempts}
    for attempt in new.attempts:
        previous = before.get(attempt.pod_uid)
        if previous is None:
            tell(
                False, "Placed", f"attempt {attempt.number}: {new.placement.message if new.placement else attempt.node}"
            )
        was = previous.outcome if previous else Outcome.STARTING
        if was is not attempt.outcome and (was, attempt.outcome) != (Outcome.STARTING, Outcome.RUNNING):
            _tell_outcome(tell, attempt)
    for name in ("Stalled", "Complete", "Failed", "Suspended"):
        condition = named(new.conditions, name)
        quiet = condition is None or condition.reason == NOT_ITS_TURN
        if condition and not quiet and condition.status == "True" and not holds(old.conditions, name):
            tell(name in ("Stalled", "Failed"), condition.reason, condition.message or f"the job is {name.lower()}")
    waiting = not new.attempts and new.placement is not None and old.placement is None
    if waiting and new.placement is not None:
        tell(False, "Waiting", new.placement.message)
    return told


def _tell_outcome(tell: Callable[[bool, str, str], None], attempt: Attempt) -> None:
    match attempt.outcome:
        case Outcome.SUCCEEDED:
            tell(False, "AttemptSucceeded", f"attempt {attempt.number} succeeded on {attempt.node}")
        case Outcome.FAILED | Outcome.DISRUPTED | Outcome.LOST:
            tell(True, f"Attempt{attempt.outcome}", f"attempt {attempt.number} ({attempt.reason}): {attempt.message}")
        case Outcome.STARTING | Outcome.RUNNING:
            tell(False, "AttemptBack", f"attempt {attempt.number} is back on {attempt.node}")
        case other:
            tell(False, "AttemptEnded", f"attempt {attempt.number} ({other}): {attempt.message}")
