"""From what is known of one set to its next state: the steps, in the order in which they are asked.

A set is an EdgeJob that runs nothing itself, but makes an EdgeJob for each index or for each device. A run is made
before anything is written of it: its name says what it is for, so after a crash the status is written from the runs.
What a set decides of its end it decides anew from its runs and its spec in each pass, and it ends when the last has.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from edgewise.api import ConditionStatus, EdgeJobStatus, Phase
from edgewise.domain.actions import Action, CreateRun, Event, Fault, PatchSpec, PatchStatus, guarded
from edgewise.domain.conditions import LONGEST_MESSAGE, named, shortened
from edgewise.domain.demand import Demand, requested
from edgewise.domain.draft import End, acknowledge
from edgewise.domain.eligibility import matches
from edgewise.domain.events import events
from edgewise.domain.lifecycle import obstacle
from edgewise.domain.members import (
    Member,
    build_member,
    device_key,
    index_key,
    member_of,
    read,
    run_spec,
    steering,
)
from edgewise.domain.set_draft import SetDraft
from edgewise.domain.views import AppView, JobView, Key, Snapshot

COUNTED_EVERY: Final = timedelta(seconds=5)
"""How often mere progress is written."""

MADE_AT_ONCE: Final = 100
"""How many runs of a set one pass makes."""

BEING_CANCELLED: Final = "; its runs are being cancelled"

TOLD_AT_ONCE: Final = 5
"""How many failed runs an event names."""


def count(draft: SetDraft) -> bool:
    """Find out how the runs stand. An index that has ended is not run again, even if its EdgeJob is deleted."""
    spec, old = draft.job.spec, draft.job.status.runs
    for one in draft.runs:
        group = draft.succeeded if one.succeeded else draft.failed if one.job.finished else draft.unfinished
        group.append(one)
    if spec.placement.every_device is None:
        draft.total = spec.completions
        there = {one.index for one in draft.runs}
        if old is not None:
            draft.remembered = read(old.succeeded_indexes) - there, read(old.failed_indexes) - there
    elif old is not None and old.total is not None:
        draft.total = old.total
        draft.lost = max(0, old.total - len(draft.runs))
    draft.start_time = None if spec.suspend else draft.job.status.start_time or _started(draft)
    return False


def _started(draft: SetDraft) -> datetime | None:
    """When the first run began, since the set was last suspended."""
    resumed = named(draft.job.status.conditions, "Suspended")
    since = resumed.last_transition_time if resumed else draft.job.created_at
    began = ((one.job.status.start_time, one.job.finished) for one in draft.runs)
    return min((at for at, ended in began if at is not None and (at >= since or not ended)), default=None)


def cancel(draft: SetDraft) -> bool:
    """The user wants no more of it."""
    if not draft.job.spec.cancel:
        return False
    draft.ending = End("Failed", Phase.CANCELLED, "Cancelled", "cancelled by spec.cancel")
    return _wind_up(draft)


def overrun(draft: SetDraft) -> bool:
    """More runs have failed than the user bears. Those that were cancelled are none of them."""
    most, limit, reason = _bearable(draft)
    failed = [one for one in draft.failed if not one.cancelled]
    number = len(failed) + len(draft.remembered[1]) + draft.lost
    if most is None or number <= most:
        return False
    message = f"{number} of {draft.total} {draft.what} failed, more than {limit} allows{_first(failed)}"
    draft.ending = End("Failed", Phase.FAILED, reason, shortened(message))
    return _wind_up(draft)


def _bearable(draft: SetDraft) -> tuple[int | None, str, str]:
    """How many runs may fail before the set is ended (None: any number), by which limit, and the reason over it."""
    spec, every = draft.job.spec, draft.job.spec.placement.every_device
    if every is None:
        most = spec.max_failed_indexes or 0
        return most, f"spec.maxFailedIndexes ({most})", "MaxFailedIndexesExceeded"
    percent, limit = every.abort_failure_percent, "spec.placement.everyDevice.abortFailurePercent"
    if percent is None or draft.total is None:
        return None, "", ""
    return draft.total * percent // 100, f"{limit} ({percent})", "AbortFailurePercentExceeded"


def _first(failed: Sequence[Member]) -> str:
    """How the first of the failed runs failed."""
    if not failed:
        return ""
    how = named(failed[0].job.status.conditions, "Failed")
    return f"; {failed[0].place}: {how.message if how else 'failed'}"


def deadline(draft: SetDraft) -> bool:
    """The limit on the set's whole time."""
    active = draft.job.spec.active_deadline_seconds
    if active is None or draft.start_time is None or _all_ended(draft):
        return False
    over = draft.start_time + timedelta(seconds=active)
    if draft.now < over:
        draft.wake_ups.append(over)
        return False
    message = f"not done within spec.activeDeadlineSeconds ({active} s): raise it, or make the app faster"
    draft.ending = End("Failed", Phase.FAILED, "DeadlineExceeded", message)
    return _wind_up(draft)


def _all_ended(draft: SetDraft) -> bool:
    return draft.total is not None and draft.successes + draft.failures >= draft.total and not draft.unfinished


def complete(draft: SetDraft) -> bool:
    """Every run has ended: well if no more failed than the user bears, and not all of them."""
    if not _all_ended(draft):
        return False
    most, _, _ = _bearable(draft)
    said = f"{draft.successes} of {draft.total} {draft.what} succeeded"
    reason = f"Failed{draft.what.capitalize()}"
    if draft.successes and draft.failures <= (most or 0):
        draft.end = End("Complete", Phase.SUCCEEDED, reason if draft.failures else "Succeeded", said)
    else:
        draft.end = End("Failed", Phase.FAILED, reason, shortened(f"{said}{_first(draft.failed)}"))
    return True


def _wind_up(draft: SetDraft) -> bool:
    """Cancel what goes on; the set has ended when nothing does."""
    if draft.unfinished:
        why = draft.ending.message if draft.ending else ""
        draft.waiting = f"{shortened(why, LONGEST_MESSAGE - len(BEING_CANCELLED))}{BEING_CANCELLED}"
    else:
        draft.end = draft.ending
    return True


def suspend(draft: SetDraft) -> bool:
    """The user wants it to wait."""
    draft.suspended = draft.job.spec.suspend
    return draft.suspended


def start(draft: SetDraft) -> bool:
    """Make the runs that may start now, if they can be run at all."""
    draft.stalled = obstacle(draft.job, draft.app, draft.installation) or _stuck(draft)
    every = draft.job.spec.placement.every_device
    if draft.app is None:
        return True
    if every is None:
        room = min(draft.job.spec.parallelism or draft.job.spec.completions, MADE_AT_ONCE + len(draft.unfinished))
        _make(draft, islice(_missing_indexes(draft), max(0, room - len(draft.unfinished))))
    elif draft.total is None:
        missing = [name for name in _matching(draft, draft.app) if device_key(draft.job, name) not in _names(draft)]
        _make(draft, missing[:MADE_AT_ONCE])
        if draft.runs and not missing:
            draft.total = len(draft.runs)
    if not draft.runs and not draft.actions:
        draft.waiting = "no device matches: it starts when one does"
    else:
        draft.waiting = f"{draft.successes} of {draft.total or len(draft.runs)} {draft.what} succeeded"
    return True


def _names(draft: SetDraft) -> set[Key]:
    return {one.job.key for one in draft.runs}


def _missing_indexes(draft: SetDraft) -> Iterator[int]:
    there = {one.index for one in draft.runs}.union(*draft.remembered)
    return (index for index in range(draft.job.spec.completions) if index not in there)


def _matching(draft: SetDraft, app: AppView) -> list[str]:
    """The devices that could take a run if they were ready and idle."""
    demand = Demand(draft.job.key, draft.job.uid, draft.job.spec, app.spec, requested(app.spec))
    return sorted(node.name for node in draft.nodes.values() if matches(node, demand, draft.installation))


def _make(draft: SetDraft, places: Iterator[int] | Sequence[str]) -> None:
    """Make runs, unless the API server has just refused one, or something else has a name."""
    owner, common = draft.job, None
    for place in places:
        key = index_key(owner, place) if isinstance(place, int) else device_key(owner, place)
        if key in draft.jobs:
            draft.stalled = ("NameTaken", f"EdgeJob {key} is no run of this set: delete it, and the run starts")
        elif draft.refusal is not None and draft.now < draft.refusal.retry_at:
            draft.stalled = ("RunRefused", f"the API server refuses the run {key.name}: {draft.refusal.message}")
            draft.wake_ups.append(draft.refusal.retry_at)
            return
        else:
            common = common or run_spec(owner)
            draft.actions.append(CreateRun(owner.key, owner.uid, build_member(owner, common, place)))


def _stuck(draft: SetDraft) -> tuple[str, str] | None:
    """What the first run is stalled by, if none gets on."""
    first = None
    for one in draft.unfinished:
        why = _true(one.job, "Stalled")
        if why is None and _true(one.job, "Suspended") is None:
            return None
        first = first or (why and (why[0], shortened(f"{one.place}: {why[1]}")))
    return first


def _true(job: JobView, name: str) -> tuple[str, str] | None:
    condition = named(job.status.conditions, name)
    if condition is None or condition.status is not ConditionStatus.TRUE:
        return None
    return condition.reason, condition.message


STEPS: tuple[Callable[[SetDraft], bool], ...] = (count, cancel, overrun, deadline, complete, suspend, start)


def decide(
    owner: JobView, owned: Sequence[JobView], snapshot: Snapshot, now: datetime
) -> tuple[list[Action], datetime | None]:
    """What to do for one set now, and when to look again. `owned`: the jobs that it controls."""
    runs = sorted(
        (one for job in owned if (one := member_of(owner, job))), key=lambda one: (one.index or 0, one.device)
    )
    if owner.finished:
        return _tidy(owner, runs), None
    draft = SetDraft(
        job=owner,
        app=snapshot.apps.get(owner.app),
        runs=runs,
        jobs=snapshot.jobs,
        nodes=snapshot.nodes,
        refusal=snapshot.refusals.get(owner.uid),
        installation=snapshot.installation,
        now=now,
    )
    for step in STEPS:
        if step(draft):
            break
    draft.actions += _steer(owner, runs, cancel=draft.ending is not None)
    return [*draft.actions, *_report(draft)], min(draft.wake_ups, default=None)


def _tidy(owner: JobView, runs: Sequence[Member]) -> list[Action]:
    """A finished set: its runs follow an edit before it says that it was seen, and a run that came too late ends."""
    edited = owner.status.observed_generation != owner.generation
    changes = _steer(owner, [one for one in runs if edited or not one.job.finished], cancel=True)
    return changes or acknowledge(owner)


def _steer(owner: JobView, runs: Sequence[Member], *, cancel: bool) -> list[Action]:
    """Have the runs follow what may change of the set's spec."""
    changes = ((one.job, steering(owner, one.job, cancel=cancel)) for one in runs if not one.job.deleting)
    return [PatchSpec(job.key, job.resource_version, change) for job, change in changes if change]


def _report(draft: SetDraft) -> list[Action]:
    """One status write, if the state changed: at once if somebody may wait for it, mere progress now and then."""
    job, status = draft.job, draft.status()
    if status == job.status or status.runs is None:
        return []
    decisive = _decisive(status) != _decisive(job.status) or (draft.ending is not None and _goes_on(job.status))
    counted_at = job.status.runs.counted_at if job.status.runs else None
    if not decisive and counted_at is not None and counted_at <= draft.now < counted_at + COUNTED_EVERY:
        draft.wake_ups.append(counted_at + COUNTED_EVERY)
        return []
    runs = status.runs.model_copy(update={"counted_at": draft.now})
    told = (*_told(draft), *events(job, status))
    new = status.model_copy(update={"runs": runs})
    return [PatchStatus("edgejobs", job.key, job.resource_version, job.status, new, told, decisive)]


def _decisive(status: EdgeJobStatus) -> tuple[object, ...]:
    """What people and programs wait for, or what decides which runs there are."""
    total = status.runs.total if status.runs else None
    conditions = [(one.type, one.status, one.reason) for one in status.conditions]
    return status.observed_generation, status.phase, conditions, status.start_time, total


def _goes_on(status: EdgeJobStatus) -> bool:
    """Whether a status does not tell yet that the set is being ended."""
    going_on = named(status.conditions, "Reconciling")
    return going_on is None or not going_on.message.endswith(BEING_CANCELLED)


def _told(draft: SetDraft) -> list[Event]:
    """One event for all runs that have failed since the last one."""
    old = draft.job.status.runs
    known = {*read(old.failed_indexes), *old.failed_devices} if old else set()
    new = [one for one in draft.failed if (one.index if one.index is not None else one.device) not in known]
    if draft.failures <= (old.failed if old else 0) or not new:
        return []
    more = f" and {len(new) - TOLD_AT_ONCE} more" if len(new) > TOLD_AT_ONCE else ""
    message = f"{', '.join(one.place for one in new[:TOLD_AT_ONCE])}{more}{_first(new)}"
    return [Event("EdgeJob", draft.job.key, draft.job.uid, True, "RunsFailed", message)]


def set_jobs(
    snapshot: Snapshot, owned: Mapping[str, Sequence[JobView]], now: datetime, faults: list[Fault]
) -> tuple[list[Action], list[datetime]]:
    """What to do for all sets now, and when to look again."""
    actions: list[Action] = []
    wake_ups: list[datetime] = []
    for job in snapshot.jobs.values():
        if job.is_set and not job.deleting:
            what, runs = f"EdgeJob {job.key}", owned.get(job.uid, ())
            decided, wake_at = guarded(faults, what, decide, job, runs, snapshot, now) or ([], None)
            actions += decided
            wake_ups += [wake_at] if wake_at else []
    return actions, wake_ups
