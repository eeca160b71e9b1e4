"""Which runs of sets may not start yet, although their own spec lets them.

Owns the turns of a set for every device. All its runs are made at its start, since they are the list of its devices,
but only so many go on at once. All that is written of it is the condition Suspended of a run that waits.
"""

from collections.abc import Mapping, Sequence

from edgewise.domain.conditions import holds, named
from edgewise.domain.members import at_most
from edgewise.domain.views import JobView, Key, Snapshot


def owned_by(jobs: Mapping[Key, JobView]) -> dict[str, list[JobView]]:
    """The jobs that sets control, by the set's UID."""
    owned: dict[str, list[JobView]] = {}
    for job in jobs.values():
        if job.set_uid:
            owned.setdefault(job.set_uid, []).append(job)
    return owned


def held_back(snapshot: Snapshot, owned: Mapping[str, Sequence[JobView]]) -> dict[str, str]:
    """The runs that may not start yet, by UID, and why: it is not their turn, or their set is going."""
    sets = {job.uid: job for job in snapshot.jobs.values() if job.is_set and not job.deleting} if owned else {}
    held: dict[str, str] = {}
    for uid, runs in owned.items():
        owner = sets.get(uid)
        if owner is None:
            held |= {run.uid: "its set is being deleted" for run in runs}
        elif owner.spec.placement.every_device is not None and not owner.finished:
            held |= _not_their_turn(owner, runs, snapshot)
    return held


def _not_their_turn(owner: JobView, runs: Sequence[JobView], snapshot: Snapshot) -> dict[str, str]:
    """Those that are over what a set for every device runs at once. First come those that have started."""
    every, counts = owner.spec.placement.every_device, owner.status.runs
    if every is None or every.max_concurrent is None:
        return {}
    going = [run for run in runs if not run.finished]
    waiting = [run for run in going if not _has_turn(run, snapshot)]
    total = counts.total if counts is not None and counts.total is not None else len(runs)
    most = at_most(every.max_concurrent, total)
    room = max(0, most - (len(going) - len(waiting)))
    why = (
        f"it starts when it is its turn: spec.placement.everyDevice.maxConcurrent of its set is {every.max_concurrent}"
    )
    return {run.uid: why for run in sorted(waiting, key=lambda run: run.key)[room:]}


def _has_turn(run: JobView, snapshot: Snapshot) -> bool:
    """Whether the run has started, or was last told that it may."""
    told = named(run.status.conditions, "Suspended")
    return bool(run.status.attempts or snapshot.pods.get(run.uid)) or (
        told is not None and not holds((told,), "Suspended")
    )
