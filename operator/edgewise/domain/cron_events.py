"""The Kubernetes Events of an EdgeCronJob: one for each thing that happened between its old status and its new one.

Scheduled times that get no run are told once in a row: the next is told when a run has started in between.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from edgewise.api import ConcurrencyPolicy, EdgeCronJobStatus
from edgewise.domain.actions import Event
from edgewise.domain.conditions import holds, named
from edgewise.domain.runs import Run
from edgewise.domain.schedule import MINUTE, Schedule
from edgewise.domain.views import CronView

MOST_MISSED: Final = 100
"""More scheduled times without a run are a sign of a wrong clock, or of a schedule that can't be kept."""


def events(
    cron: CronView, runs: Sequence[Run], new: EdgeCronJobStatus, schedule: Schedule | None, *, replacing: bool
) -> list[Event]:
    """The events that the change to `new` is worth. `replacing`: a run is due that may have to replace others."""
    old, told = cron.status, []

    def tell(warning: bool, reason: str, message: str) -> None:
        told.append(Event("EdgeCronJob", cron.key, cron.uid, warning, reason, message))

    started = [run for run in runs if _has_started(run, old, new)]
    there = {run.job.uid for run in runs}
    for one in old.active:
        if one.uid in there:
            continue
        if cron.spec.concurrency_policy is ConcurrencyPolicy.REPLACE and (replacing or started):
            tell(False, "RunReplaced", f"{one.name} still ran when the next run was due, so it was deleted")
        else:
            tell(True, "RunGone", f"{one.name} was deleted; when it was last seen, it had not ended")
    for run in started:
        missed = _missed(run, cron, schedule)
        tell(False, "RunStarted", _start(run, missed))
        if missed > MOST_MISSED:
            tell(
                True,
                "TooManyMissed",
                f"more than {MOST_MISSED} scheduled times had no run, and only the latest has one now: set "
                "spec.startingDeadlineSeconds, or look whether the operator's clock is right",
            )
    was_active = {one.uid for one in old.active}
    for run in runs:
        if run.job.finished and (run.job.uid in was_active or run in started):
            how = named(run.job.status.conditions, "Finished")
            said = f": {how.message}" if how and how.message else ""
            tell(not run.succeeded, "RunSucceeded" if run.succeeded else "RunFailed", f"{run.name}{said}")
    ready, stalled = named(new.conditions, "Ready"), named(new.conditions, "Stalled")
    if ready and new.last_skipped_time != old.last_skipped_time and _is_first_skipped(old):
        tell(True, "RunMissed" if ready.reason == "RunMissed" else "RunSkipped", ready.message)
    if stalled and stalled.status == "True" and not _stalled_by(old, stalled.reason):
        tell(True, stalled.reason, stalled.message)
    return told


def _has_started(run: Run, old: EdgeCronJobStatus, new: EdgeCronJobStatus) -> bool:
    """Whether `new` is the first status to tell of the run."""
    if run.scheduled_time is None:
        return new.run_now != old.run_now and new.run_now is not None and new.run_now.name == run.name
    return old.last_schedule_time is None or run.scheduled_time > old.last_schedule_time


def _missed(run: Run, cron: CronView, schedule: Schedule | None) -> int:
    """How many scheduled times before the run's had none, counted from the last run; up to `MOST_MISSED` + 1."""
    old = cron.status
    if run.scheduled_time is None or schedule is None:
        return 0
    known = (old.schedule_since or cron.created_at, old.last_schedule_time or cron.created_at)
    return schedule.count(max(known), run.scheduled_time - MINUTE, MOST_MISSED)


def _start(run: Run, missed: int) -> str:
    if run.scheduled_time is None:
        return f"{run.name}, as the annotation edgewise.dev/run-now asks"
    late = _late(run.scheduled_time, run.job.created_at)
    count = f"more than {MOST_MISSED}" if missed > MOST_MISSED else str(missed)
    before = f"; {count} scheduled time{'s' * (missed != 1)} before it had no run" if missed else ""
    return f"{run.name} for {run.scheduled_time:%Y-%m-%d %H:%M} UTC{late}{before}"


def _late(scheduled: datetime, created: datetime) -> str:
    seconds = int((created - scheduled).total_seconds())
    return f", {seconds} s late" if seconds >= MINUTE.total_seconds() else ""


def _is_first_skipped(old: EdgeCronJobStatus) -> bool:
    """Whether a run has started since a scheduled time was last without one."""
    if old.last_skipped_time is None:
        return True
    return old.last_schedule_time is not None and old.last_schedule_time >= old.last_skipped_time


def _stalled_by(old: EdgeCronJobStatus, reason: str) -> bool:
    condition = named(old.conditions, "Stalled")
    return condition is not None and holds(old.conditions, "Stalled") and condition.reason == reason
