"""From what is known of one EdgeStream to its next state: the steps, in the order in which they are asked.

A run is made before anything is written of it: its name has its number, so after a crash the status is written from the
run. The next run is made only once the status tells of the last, and only runs before that one are ever removed.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from edgewise.api import EdgeStreamStatus, Phase, StreamPhase
from edgewise.domain.actions import Action, CreateRun, DeleteRun, Fault, PatchSpec, PatchStatus, guarded
from edgewise.domain.conditions import Claim, holds, named, updated
from edgewise.domain.observation import yet_to_end
from edgewise.domain.retention import SETTLING, unsettled_jobs
from edgewise.domain.stream_events import events
from edgewise.domain.stream_runs import (
    StreamRun,
    build_stream_run,
    is_outdated,
    pause_after,
    run_key,
    run_of,
    steering,
)
from edgewise.domain.views import JobView, PodView, Snapshot, StreamView

TOLD_EVERY: Final = timedelta(minutes=1)
"""How much newer a file, or longer a lag, is worth a write of its own."""

_PHASES: Final = {Phase.BOUND: StreamPhase.BOUND, Phase.RUNNING: StreamPhase.RUNNING}
"""The stream's phase by that of the run that goes on; all others wait for a device."""


@dataclass(slots=True)
class StreamDraft:
    """An EdgeStream, its runs, and what is decided of it so far in this pass."""

    stream: StreamView
    runs: Sequence[StreamRun]
    """by number"""
    snapshot: Snapshot
    unsettled: Collection[str] | None
    """the UIDs of jobs of which something may yet come home; None while that is not known"""
    now: datetime
    number: int = 0
    """the last run's"""
    restarts: int = 0
    quick_ends: int = 0
    phase: StreamPhase = StreamPhase.PENDING
    next_run_at: datetime | None = None
    last_file_time: datetime | None = None
    """when a file last came home, as far as is known now"""
    waiting: tuple[str, str] | None = None
    """why it is not ready, although nobody needs to correct anything"""
    ready: tuple[str, str] = ("Running", "")
    stalled: tuple[str, str] | None = None
    actions: list[Action] = field(default_factory=list)
    wake_ups: list[datetime] = field(default_factory=list)

    @property
    def last(self) -> StreamRun | None:
        """The run of the highest number, if it is there."""
        return self.runs[-1] if self.runs and self.runs[-1].number == self.number else None

    @property
    def going_on(self) -> StreamRun | None:
        """The last run, while it may go on."""
        return self.last if self.last is not None and self.last.ended_at is None else None

    def status(self) -> EdgeStreamStatus:
        """The draft as a whole new status. A newer file alone changes nothing within a minute."""
        old = self.stream.status
        run = self.going_on
        new = old.model_copy(
            update={
                "observed_generation": self.stream.generation,
                "phase": self.phase,
                "run": run_key(self.stream, self.number).name if self.number else "",
                "run_number": self.number,
                "device": run.job.status.node if run else "",
                "restarts": self.restarts,
                "quick_ends": self.quick_ends,
                "next_run_at": self.next_run_at,
                "conditions": updated(old.conditions, self._claims(), self.stream.generation, self.now),
            }
        )
        lag = self._lag()
        return new.model_copy(update=lag) if new != old or self._is_worth(lag) else old

    def _lag(self) -> dict[str, object]:
        if self.last_file_time is None:
            return {"last_file_time": None, "lag_seconds": None}
        seconds = max(0, int((self.now - self.last_file_time).total_seconds()))
        suspended = self.phase is StreamPhase.SUSPENDED
        return {"last_file_time": self.last_file_time, "lag_seconds": None if suspended else seconds}

    def _is_worth(self, new: Mapping[str, object]) -> bool:
        """Whether file and lag have moved by so much that they are worth a write of their own."""
        old, file = self.stream.status, self.last_file_time
        if file is None:
            return False
        before, lag = old.lag_seconds, new["lag_seconds"]
        if old.last_file_time is None or (before is None) != (lag is None):
            return True
        if before is None:
            return False
        again_at = file + timedelta(seconds=before) + TOLD_EVERY
        if self.now < again_at:
            self.wake_ups.append(again_at)
        return file - old.last_file_time >= TOLD_EVERY or self.now >= again_at

    def _claims(self) -> list[Claim]:
        why_not = self.stalled or self.waiting
        return [
            Claim("Ready", why_not is None, *(why_not or self.ready)),
            Claim("Stalled", self.stalled is not None, *(self.stalled or ("Fine", ""))),
            Claim(
                "Reconciling",
                self.stalled is None and self.waiting is not None,
                *((self.waiting if self.stalled is None else None) or ("Settled", "")),
            ),
        ]


def count(draft: StreamDraft) -> None:
    """Find the last run, and what its start says of the end of the one before.

    A run is told of only once, in the pass that writes its number: so each end counts once, whatever crashes.
    """
    old = draft.stream.status
    draft.number = max([old.run_number, *(run.number for run in draft.runs)])
    draft.restarts, draft.quick_ends = old.restarts or 0, old.quick_ends
    if old.run_number in (draft.number, 0):
        return
    before = next((run for run in draft.runs if run.number == old.run_number), None)
    if before is None:
        draft.restarts += 1
        return
    draft.quick_ends = pause_after(before, old.quick_ends)[1]
    draft.restarts += not before.cancelled


def steer(draft: StreamDraft) -> None:
    """Have each run be as the stream says: cancel the one that goes on if it should not, and change what may change."""
    stream = draft.stream
    for run in draft.runs:
        if run.job.deleting:
            continue
        over = stream.spec.suspend or run is not draft.last or is_outdated(stream, run)
        if change := steering(stream, run, cancel=run.ended_at is None and over):
            draft.actions.append(PatchSpec(run.job.key, run.job.resource_version, change))


def start(draft: StreamDraft) -> None:
    """Say how the run stands that goes on; else start the next one when its time has come."""
    run, suspend = draft.going_on, draft.stream.spec.suspend
    if run is not None:
        _follow(run, draft)
        if suspend or run.job.spec.cancel or is_outdated(draft.stream, run):
            why = "spec.suspend is true" if suspend else "spec.jobTemplate was changed, or somebody has cancelled it"
            draft.stalled, draft.waiting = None, ("Ending", f"{run.name} is ended: {why}")
        return
    draft.phase = StreamPhase.SUSPENDED if suspend else StreamPhase.RESTARTING
    if (pod := _ending_pod(draft)) is not None:
        draft.waiting = ("Ending", f"pod {pod.key.name} on {pod.node} is ending")
    elif suspend:
        draft.ready = ("Suspended", "spec.suspend is true: nothing runs")
    else:
        _start_next(draft)


def _follow(run: StreamRun, draft: StreamDraft) -> None:
    """The stream stands as its run does."""
    status = run.job.status
    draft.phase = _PHASES.get(status.phase, StreamPhase.PENDING) if status.phase else StreamPhase.PENDING
    stalled, reconciling = named(status.conditions, "Stalled"), named(status.conditions, "Reconciling")
    if stalled is not None and holds(status.conditions, "Stalled"):
        draft.stalled = (stalled.reason, f"{run.name}: {stalled.message}")
    elif draft.phase is StreamPhase.RUNNING:
        draft.ready = ("Running", f"{run.name} runs on {status.node}")
    else:
        told = reconciling.message if reconciling and reconciling.message else "it has just been made"
        draft.waiting = (draft.phase, f"{run.name}: {told}")


def _ending_pod(draft: StreamDraft) -> PodView | None:
    """A pod of an ended run, or of one that somebody has deleted, that has yet to end on a device that can end it."""
    pods = draft.snapshot.pods
    attempts = [attempt for run in draft.runs for attempt in run.job.status.attempts]
    found = [pod for run in draft.runs for pod in pods.get(run.job.uid, ())]
    if draft.number and draft.last is None:
        found += [pod for of_a_job in pods.values() for pod in of_a_job if _is_of_last(pod, draft)]
    return yet_to_end(found, attempts, draft.snapshot.nodes, draft.snapshot.installation.beat_interval)


def _is_of_last(pod: PodView, draft: StreamDraft) -> bool:
    last = run_key(draft.stream, draft.number)
    return (pod.key.namespace, pod.job) == (last.namespace, last.name)


def _start_next(draft: StreamDraft) -> None:
    """Make the next run, unless it has to wait, or the last one is not written yet."""
    stream, last = draft.stream, draft.last
    if draft.number == 0:
        draft.phase = StreamPhase.PENDING
    if last is not None and last.ended_at is not None:
        pause = pause_after(last, draft.quick_ends)[0]
        at = last.ended_at + pause
        draft.waiting = ("Restarting", f"{last.name} has ended: {last.end}")
        if draft.now < at:
            draft.next_run_at = at
            draft.waiting = ("BackOff", f"{last.name} has ended: {last.end}; the next run starts at {at:%H:%M:%S} UTC")
            draft.wake_ups.append(at)
            return
    key = run_key(stream, draft.number + 1)
    draft.waiting = draft.waiting or ("Starting", f"{key.name} is about to be made")
    refusal = draft.snapshot.refusals.get(stream.uid)
    taken = draft.snapshot.jobs.get(key)
    if draft.number != stream.status.run_number:
        return
    if taken is not None and (taken.deleting or taken.stream_uid):
        draft.waiting = ("NameTaken", f"EdgeJob {key} is of an EdgeStream that is gone, and goes soon")
    elif taken is not None:
        draft.stalled = ("NameTaken", f"EdgeJob {key} is no run of this EdgeStream: delete it, and the run starts")
    elif refusal is not None and draft.now < refusal.retry_at:
        draft.stalled = ("RunRefused", f"the API server refuses the run {key.name}: {refusal.message}")
        draft.wake_ups.append(refusal.retry_at)
    else:
        draft.actions.append(CreateRun(stream.key, stream.uid, build_stream_run(stream, draft.number + 1)))


def trim(draft: StreamDraft) -> None:
    """Remove the oldest ended runs beyond the limit. Their files stay at the gateway.

    The last run of which the status tells stays: what follows depends on its end. So does one of which something may
    yet come home: the gateway takes in nothing for a job that is gone.
    """
    told = draft.stream.status.run_number
    ended = [run for run in draft.runs if run.ended_at is not None and run.number < told]
    limit = draft.stream.spec.runs_history_limit
    for run in ended[: max(0, len(ended) - limit)]:
        if not run.job.deleting and _is_settled(run, draft):
            draft.actions.append(DeleteRun(run.job.key, run.job.uid))


def _is_settled(run: StreamRun, draft: StreamDraft) -> bool:
    """Whether everything of an ended run that will come home has done so."""
    if not run.job.finished:
        return False
    at = (run.job.status.completion_time or run.job.created_at) + SETTLING
    if draft.now < at:
        draft.wake_ups.append(at)
        return False
    return draft.unsettled is not None and run.job.uid not in draft.unsettled


def measure(draft: StreamDraft) -> None:
    """Find when a file last came home: of what devices say, and of what the gateway offers."""
    known = [draft.stream.status.last_file_time]
    for run in draft.runs:
        attempt, results = run.attempt, run.job.status.results
        if results is not None and results.file_count:
            known.append(results.completed_at)
        node = draft.snapshot.nodes.get(attempt.node) if attempt else None
        if attempt is None or node is None or node.beat is None:
            continue
        volume = node.beat.volumes.get(attempt.pod_uid)
        if volume is not None and volume.last_file_seconds is not None:
            known.append(node.beat.received_at - timedelta(seconds=volume.last_file_seconds))
    times = [min(time, draft.now).replace(microsecond=0) for time in known if time is not None]
    draft.last_file_time = max(times, default=None)


STEPS: tuple[Callable[[StreamDraft], None], ...] = (count, steer, start, trim, measure)


def decide(
    stream: StreamView, owned: Sequence[JobView], snapshot: Snapshot, unsettled: Collection[str] | None, now: datetime
) -> tuple[list[Action], datetime | None]:
    """What to do for one EdgeStream now, and when to look again. `owned`: the jobs that it controls."""
    runs = sorted((run for job in owned if (run := run_of(stream, job))), key=lambda run: run.number)
    draft = StreamDraft(stream, runs, snapshot, unsettled, now)
    for step in STEPS:
        step(draft)
    return [*draft.actions, *_report(draft)], min(draft.wake_ups, default=None)


def _report(draft: StreamDraft) -> list[Action]:
    """One status write, if the state changed, with the events that tell of it.

    None while a run is made: the answer to that brings the next state at once.
    """
    stream = draft.stream
    if any(isinstance(action, CreateRun) for action in draft.actions):
        return []
    status = draft.status()
    if status == stream.status:
        return []
    told = tuple(events(stream, draft.runs, status))
    awaited = status.run_number != stream.status.run_number
    return [PatchStatus("edgestreams", stream.key, stream.resource_version, stream.status, status, told, awaited)]


def stream_jobs(snapshot: Snapshot, now: datetime, faults: list[Fault]) -> tuple[list[Action], list[datetime]]:
    """What to do for all EdgeStreams now, and when to look again."""
    if not snapshot.streams:
        return [], []
    owned: dict[str, list[JobView]] = {}
    for job in snapshot.jobs.values():
        if job.stream_uid:
            owned.setdefault(job.stream_uid, []).append(job)
    unsettled = unsettled_jobs(snapshot)
    actions: list[Action] = []
    wake_ups: list[datetime] = []
    for stream in snapshot.streams.values():
        if not stream.deleting:
            what, jobs = f"EdgeStream {stream.key}", owned.get(stream.uid, ())
            decided, wake_at = guarded(faults, what, decide, stream, jobs, snapshot, unsettled, now) or ([], None)
            actions += decided
            wake_ups += [wake_at] if wake_at else []
    return actions, wake_ups
