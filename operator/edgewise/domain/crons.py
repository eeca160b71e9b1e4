"""From what is known of one EdgeCronJob to its next state: the steps, in the order in which they are asked.

A run is made before anything is written of it: its name says what it is for, so after a crash the status is written
from the run. What the status holds is never run again, and only what it holds is ever removed.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from edgewise.api import ActiveRun, ConcurrencyPolicy, EdgeCronJobStatus, RunNow
from edgewise.api.edge_cron_job import ACTIVE_KEPT
from edgewise.domain.actions import Action, CreateRun, DeleteRun, Fault, PatchStatus, guarded
from edgewise.domain.conditions import Claim, updated
from edgewise.domain.cron_events import events
from edgewise.domain.retention import SETTLING, unsettled_jobs
from edgewise.domain.runs import (
    RUN_NOW_ANNOTATION,
    SCHEDULED_ANNOTATION,
    Run,
    asked_key,
    build_run,
    recorded,
    run_of,
    scheduled_key,
)
from edgewise.domain.schedule import Schedule, Unreadable, read
from edgewise.domain.views import CronView, JobView, Key, Refusal, Snapshot

SET_BACK: Final = timedelta(hours=1)
"""What is settled so far ahead means that the clock was set back; less is waited for in silence."""


@dataclass(slots=True)
class CronDraft:
    """An EdgeCronJob, its runs, and what is decided of it so far in this pass."""

    cron: CronView
    runs: Sequence[Run]
    """oldest first"""
    jobs: Mapping[Key, JobView]
    refusal: Refusal | None
    unsettled: Collection[str] | None
    """the UIDs of jobs of which something may yet come home; None while that is not known"""
    now: datetime
    schedule: Schedule | None = None
    since: datetime | None = None
    """since when the schedule holds"""
    last: datetime | None = None
    """the newest scheduled time that has a run"""
    next: datetime | None = None
    """the first scheduled time that is to come"""
    run_now: RunNow | None = None
    unanswered: str = ""
    """the name of the run that the annotation asks for, while the status does not hold it"""
    due: datetime | None = None
    """the scheduled time that should have a run now, and has none"""
    skipped: datetime | None = None
    """the scheduled time that gets no run now"""
    ready: tuple[str, str] = ("Scheduled", "runs start when they are due")
    stalled: tuple[str, str] | None = None
    hindered: tuple[str, str] | None = None
    """why it is not ready, although nobody needs to correct anything"""
    actions: list[Action] = field(default_factory=list)
    wake_ups: list[datetime] = field(default_factory=list)

    @property
    def active(self) -> list[Run]:
        """The runs that have not ended, oldest first."""
        return [run for run in self.runs if not run.job.finished]

    def create(self, key: Key, annotation: tuple[str, str]) -> None:
        """Make a run, unless the API server has just refused one, or something else has its name."""
        if key in self.jobs:
            self.stalled = ("NameTaken", f"EdgeJob {key} is no run of this EdgeCronJob: delete it, and the run starts")
            return
        if self.refusal is not None and self.now < self.refusal.retry_at:
            self.stalled = ("RunRefused", f"the API server refuses the run {key.name}: {self.refusal.message}")
            self.wake_ups.append(self.refusal.retry_at)
            return
        self.actions.append(CreateRun(self.cron.key, self.cron.uid, build_run(self.cron, key, annotation)))

    def is_passing(self) -> bool:
        """Whether the answer to the creation of a run brings the next state at once."""
        return any(isinstance(action, CreateRun) for action in self.actions)

    def status(self) -> EdgeCronJobStatus:
        """The draft as a whole new status."""
        old, active = self.cron.status, self.active
        successes = [run.job.status.completion_time for run in self.runs if run.succeeded]
        return old.model_copy(
            update={
                "observed_generation": self.cron.generation,
                "schedule": self.schedule.text if self.schedule else old.schedule,
                "schedule_since": self.since,
                "active": tuple(
                    ActiveRun(name=run.name, uid=run.job.uid, scheduled_time=run.scheduled_time)
                    for run in active[-ACTIVE_KEPT:]
                ),
                "active_count": len(active),
                "last_schedule_time": self.last,
                "last_skipped_time": _later(old.last_skipped_time, self.skipped),
                "last_successful_time": _later(old.last_successful_time, *successes),
                "next_schedule_time": self.next,
                "run_now": self.run_now,
                "conditions": updated(old.conditions, self._claims(), self.cron.generation, self.now),
            }
        )

    def _claims(self) -> list[Claim]:
        why_not = self.stalled or self.hindered
        return [
            Claim("Ready", why_not is None, *(why_not or self.ready)),
            Claim("Stalled", self.stalled is not None, *(self.stalled or ("Fine", ""))),
            Claim("Reconciling", False, "Settled", ""),
        ]


def _later(*times: datetime | None) -> datetime | None:
    """The latest of the times that are known."""
    return max((time for time in times if time is not None), default=None)


def look(draft: CronDraft) -> None:
    """Read the schedule, and find out what it has had runs for.

    One that is changed, or could not be read before, holds from now on: what it would have run was never asked for.
    """
    cron, old = draft.cron, draft.cron.status
    draft.since = old.schedule_since
    draft.last = _later(old.last_schedule_time, *(run.scheduled_time for run in draft.runs))
    found = read(cron.spec.schedule, cron.spec.time_zone)
    if isinstance(found, Unreadable):
        draft.stalled = (found.reason, found.message)
        return
    draft.schedule = found
    if old.schedule != found.text or draft.since is None:
        draft.since = draft.now if old.schedule or old.observed_generation >= 0 else cron.created_at
    if cron.spec.suspend:
        draft.ready = ("Suspended", "spec.suspend is true: no run starts by the schedule")
        return
    draft.next = found.next(max(draft.now.replace(second=0), _through(draft)))  # the same all minute, so found once
    if draft.next is not None:
        draft.wake_ups.append(draft.next)
    if (through := _through(draft)) - draft.now > SET_BACK:
        draft.hindered = (
            "ClockSetBack",
            f"what was due until {_said(through)} is settled, and that is still to come, so the clock was set back; "
            "runs go on after it. To go on now, delete the EdgeCronJob and apply it again",
        )


def _through(draft: CronDraft) -> datetime:
    """Up to when every scheduled time is settled: no run starts for an earlier one, whatever the clock says."""
    return _later(draft.since, draft.last) or draft.cron.created_at


def answer(draft: CronDraft) -> None:
    """Start the run that the annotation asks for: once for each new value, at once, whatever the policy."""
    cron, token = draft.cron, recorded(draft.cron.run_now)
    draft.run_now = old = cron.status.run_now
    if not token or (old is not None and old.token == token):
        return
    number = old.number + 1 if old else 1
    key = asked_key(cron, token, number)
    draft.unanswered = key.name
    if any(run.name == key.name for run in draft.runs):
        draft.run_now = RunNow(token=token, number=number, name=key.name)
    else:
        draft.create(key, (RUN_NOW_ANNOTATION, cron.run_now))


def start(draft: CronDraft) -> None:
    """Start the run that is due: of several times that were missed, the latest."""
    cron, schedule = draft.cron, draft.schedule
    if schedule is None or cron.spec.suspend:
        return
    at = schedule.latest(_through(draft), draft.now.replace(second=0))
    if at is None:
        return
    patience = cron.spec.starting_deadline_seconds
    if patience is not None and draft.now > at + timedelta(seconds=patience):
        draft.skipped = at
        draft.ready = ("RunMissed", f"no run was started for {_said(at)} within spec.startingDeadlineSeconds")
        return
    draft.due = at
    active = draft.active
    if active and cron.spec.concurrency_policy is ConcurrencyPolicy.FORBID:
        draft.skipped = at
        draft.ready = (
            "StillRunning",
            f"no run was started for {_said(at)}: {active[0].name} still runs, and spec.concurrencyPolicy is Forbid",
        )
    elif active and cron.spec.concurrency_policy is ConcurrencyPolicy.REPLACE:
        _replace(active, at, draft)
    else:
        draft.create(scheduled_key(cron, at), (SCHEDULED_ANNOTATION, at.strftime("%Y-%m-%dT%H:%M:%SZ")))


def _replace(active: Sequence[Run], at: datetime, draft: CronDraft) -> None:
    """Delete what goes on, and wait until it is gone. One of which the status does not tell yet goes when it does."""
    leaving = [run.name for run in active if run.job.deleting]
    draft.actions += [
        DeleteRun(run.job.key, run.job.uid) for run in active if not run.job.deleting and _is_start_told(run, draft)
    ]
    if leaving:
        draft.ready = ("Replacing", f"the run for {_said(at)} starts when {leaving[0]} is gone")


def _said(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def trim(draft: CronDraft) -> None:
    """Remove the runs that ended first, beyond the limits.

    None goes of which the status does not tell yet, or of which something may yet come home: the gateway takes in
    nothing for a job that is gone.
    """
    spec, ended = draft.cron.spec, sorted((run for run in draft.runs if run.job.finished), key=_end, reverse=True)
    for limit, runs in (
        (spec.successful_jobs_history_limit, [run for run in ended if run.succeeded]),
        (spec.failed_jobs_history_limit, [run for run in ended if not run.succeeded]),
    ):
        draft.actions += [
            DeleteRun(run.job.key, run.job.uid)
            for run in runs[limit:]
            if not run.job.deleting and _is_told(run, draft) and _is_settled(run, draft)
        ]


def _end(run: Run) -> tuple[datetime, str]:
    return run.job.status.completion_time or run.job.created_at, run.name


def _is_settled(run: Run, draft: CronDraft) -> bool:
    """Whether everything of an ended run that will come home has done so."""
    at = _end(run)[0] + SETTLING
    if draft.now < at:
        draft.wake_ups.append(at)
        return False
    return draft.unsettled is not None and run.job.uid not in draft.unsettled


def _is_told(run: Run, draft: CronDraft) -> bool:
    """Whether the status, as the API holds it, says all of the run that must be remembered."""
    status = draft.cron.status
    at = run.job.status.completion_time if run.succeeded else None
    ended = at is None or (status.last_successful_time is not None and at <= status.last_successful_time)
    return _is_start_told(run, draft) and ended and all(one.uid != run.job.uid for one in status.active)


def _is_start_told(run: Run, draft: CronDraft) -> bool:
    """Whether the status, as the API holds it, says that the run has started, so that it can't start again."""
    if run.scheduled_time is None:
        return run.name != draft.unanswered
    last = draft.cron.status.last_schedule_time
    return last is not None and run.scheduled_time <= last


STEPS: tuple[Callable[[CronDraft], None], ...] = (look, answer, start, trim)


def decide(
    cron: CronView, owned: Sequence[JobView], snapshot: Snapshot, unsettled: Collection[str] | None, now: datetime
) -> tuple[list[Action], datetime | None]:
    """What to do for one EdgeCronJob now, and when to look again. `owned`: the jobs that it controls."""
    runs = sorted((run for job in owned if (run := run_of(cron, job))), key=lambda run: run.age_order)
    draft = CronDraft(cron, runs, snapshot.jobs, snapshot.refusals.get(cron.uid), unsettled, now)
    for step in STEPS:
        step(draft)
    return [*draft.actions, *_report(draft)], min(draft.wake_ups, default=None)


def _report(draft: CronDraft) -> list[Action]:
    """One status write, if the state changed, with the events that tell of it."""
    cron = draft.cron
    if draft.is_passing():
        return []
    status = draft.status()
    if status == cron.status:
        return []
    told = tuple(events(cron, draft.runs, status, draft.schedule, replacing=draft.due is not None))
    awaited = _decisive(status) != _decisive(cron.status)
    return [PatchStatus("edgecronjobs", cron.key, cron.resource_version, cron.status, status, told, awaited)]


def _decisive(status: EdgeCronJobStatus) -> tuple[object, ...]:
    """What decides which runs start."""
    return status.schedule_since, status.last_schedule_time, status.run_now


def cron_jobs(snapshot: Snapshot, now: datetime, faults: list[Fault]) -> tuple[list[Action], list[datetime]]:
    """What to do for all EdgeCronJobs now, and when to look again."""
    if not snapshot.crons:
        return [], []
    owned: dict[str, list[JobView]] = {}
    for job in snapshot.jobs.values():
        if job.cron_uid:
            owned.setdefault(job.cron_uid, []).append(job)
    unsettled = unsettled_jobs(snapshot)
    actions: list[Action] = []
    wake_ups: list[datetime] = []
    for cron in snapshot.crons.values():
        if not cron.deleting:
            what, jobs = f"EdgeCronJob {cron.key}", owned.get(cron.uid, ())
            decided, wake_at = guarded(faults, what, decide, cron, jobs, snapshot, unsettled, now) or ([], None)
            actions += decided
            wake_ups += [wake_at] if wake_at else []
    return actions, wake_ups
