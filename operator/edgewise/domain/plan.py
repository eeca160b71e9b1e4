"""The plan: from a snapshot and the time to what to do now. Reads top to bottom as the order of a pass.

1. observe   each open job's next state, from its pods, results and deadlines
2. place     the queue, in the order of turns, each on the best device, reservations visible to the next job
3. report    each changed state as one status write, with events for people
4. retain    what finished jobs leave behind
5. schedule  the runs of EdgeCronJobs: which start, and which are removed
6. stream    the runs of EdgeStreams: the same, and which are ended
7. fleet     EdgeNodes and EdgeApps
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from edgewise.api import Candidate, EdgeAppSpec, Factors, PlacementStatus, RejectedNode
from edgewise.api.job_status import CANDIDATES_KEPT, LONGEST_EXPECTED_SECONDS
from edgewise.domain import fleet, score
from edgewise.domain.actions import Action, CreatePod, Fault, PatchStatus, Plan, guarded
from edgewise.domain.board import Board
from edgewise.domain.crons import cron_jobs
from edgewise.domain.demand import Demand, usage_of
from edgewise.domain.draft import Draft
from edgewise.domain.events import events
from edgewise.domain.lifecycle import advance
from edgewise.domain.massloss import MassLoss, mass_loss
from edgewise.domain.placement import Decision, place
from edgewise.domain.pods import build_pod, resolved_deadline
from edgewise.domain.policies import Ranking
from edgewise.domain.retention import retain
from edgewise.domain.streams import stream_jobs
from edgewise.domain.turns import Waiting, in_turn, is_starved, over_limit, used
from edgewise.domain.views import JobView, PodView, Snapshot

LOOK_AGAIN: Final = timedelta(seconds=5)
"""How soon to look again at a job that waits for a busy device: the work there may take longer than expected."""


def plan(snapshot: Snapshot, now: datetime) -> Plan:
    """What to do now, and when to look again. The same snapshot and time give the same plan.

    An object that can't be decided about costs only itself: it is named in the plan's faults.
    """
    now = now.replace(microsecond=0)  # as the API keeps times
    faults: list[Fault] = []
    usage = usage_of(snapshot.nodes, (pod for pods in snapshot.pods.values() for pod in pods))
    losses = mass_loss(snapshot.nodes.values(), snapshot.installation.beat_interval, now)
    jobs = [job for job in snapshot.jobs.values() if not job.deleting]
    drafts = [
        draft
        for job in jobs
        if not job.finished and (draft := guarded(faults, f"EdgeJob {job.key}", _observe, job, snapshot, losses, now))
    ]
    _place(drafts, jobs, Board(snapshot, usage, now), faults)
    actions: list[Action] = []
    wake_ups = [draft.wake_at for draft in drafts if draft.wake_at]
    for draft in drafts:
        actions += draft.actions
        actions += guarded(faults, f"EdgeJob {draft.job.key}", _report, draft) or []
    for job in jobs:
        if job.finished:
            left = guarded(faults, f"EdgeJob {job.key}", retain, job, _pods_of(job, snapshot), snapshot.nodes, now)
            deletions, wake_at = left or ([], None)
            actions += [*_acknowledge(job), *deletions]
            wake_ups += [wake_at] if wake_at else []
    for run_makers in (cron_jobs, stream_jobs):
        runs, run_wake_ups = run_makers(snapshot, now, faults)
        actions += runs
        wake_ups += run_wake_ups
    actions += fleet.report(snapshot, usage, losses, now, faults)
    wake_ups += fleet.wake_ups(snapshot, now)
    return Plan(tuple(actions), min(wake_ups, default=None), tuple(faults), losses)


def _acknowledge(job: JobView) -> list[Action]:
    """A finished job whose spec was edited says that this was seen; nothing else comes of it."""
    status, generation = job.status, job.generation
    if status.observed_generation == generation:
        return []
    conditions = tuple(one.model_copy(update={"observed_generation": generation}) for one in status.conditions)
    new = status.model_copy(update={"observed_generation": generation, "conditions": conditions})
    return [PatchStatus("edgejobs", job.key, job.resource_version, status, new)]


def _pods_of(job: JobView, snapshot: Snapshot) -> list[PodView]:
    """The job's pods. A pod elsewhere that claims the job's UID is none of them."""
    return [pod for pod in snapshot.pods.get(job.uid, ()) if pod.key.namespace == job.key.namespace]


def _observe(job: JobView, snapshot: Snapshot, losses: MassLoss | None, now: datetime) -> Draft:
    """Steps through one job's lifecycle."""
    draft = Draft(
        job=job,
        app=snapshot.apps.get(job.app),
        pods={pod.uid: pod for pod in _pods_of(job, snapshot)},
        nodes=snapshot.nodes,
        manifests=snapshot.manifests,
        installation=snapshot.installation,
        now=now,
        mass_loss=losses,
        newcomers=snapshot.newcomers,
        refusal=snapshot.refusals.get(job.uid),
        attempts=list(job.status.attempts),
        placement=job.status.placement,
        results=job.status.results,
        start_time=job.status.start_time,
    )
    advance(draft)
    return draft


def _place(drafts: Sequence[Draft], jobs: Iterable[JobView], board: Board, faults: list[Fault]) -> None:
    """Give every queued job a device, or the reasons why not."""
    placed = {draft.job.uid: draft.job.key.namespace for draft in drafts if draft.has_device()}
    running = Counter(placed.values())
    queued = {draft.job.uid: draft for draft in drafts if draft.demand}
    queue = [_waiting(draft.job, draft.demand) for draft in queued.values() if draft.demand]
    others = (job for job in jobs if job.uid not in placed)
    shares = used(running, others, board.installation, board.now) if queue else running
    for job in in_turn(queue, shares, board.installation, board.now):
        draft, namespace = queued[job.uid], job.key.namespace
        if why := over_limit(namespace, running, board.installation):
            draft.waiting = why
        elif draft.demand is not None and draft.app is not None:
            guarded(faults, f"EdgeJob {job.key}", _place_one, draft, draft.demand, draft.app.spec, board)
            running[namespace] += draft.is_placed()


def _waiting(job: JobView, demand: Demand) -> Waiting:
    return Waiting(job, demand.since or job.created_at)


def _place_one(draft: Draft, demand: Demand, app: EdgeAppSpec, board: Board) -> None:
    """Give one job a device, or the reasons why not."""
    starved = is_starved(_waiting(draft.job, demand), board.installation, board.now)
    decision = place(demand, board, CANDIDATES_KEPT, starved=starved)
    if decision.node is None:
        draft.placement = _settled(draft.placement, decision, draft.now)
        draft.waiting = draft.placement.message
        if decision.candidates:
            draft.wake_in(LOOK_AGAIN)
        return
    elapsed = draft.now - (draft.start_time or draft.now)
    attempt = max((one.number for one in draft.attempts), default=0) + 1
    draft.waiting = f"attempt {attempt} goes to {decision.node}"
    manifest = build_pod(
        draft.job,
        app,
        attempt=attempt,
        node=decision.node,
        placement=described(decision, draft.now).model_dump_json(
            by_alias=True, exclude_none=True, exclude_defaults=True
        ),
        priority_class=board.installation.priority_class,
        deadline=resolved_deadline(draft.job.spec, elapsed),
    )
    draft.actions.append(CreatePod(draft.job.key, draft.job.uid, manifest))


def described(decision: Decision, now: datetime) -> PlacementStatus:
    """A decision as status shows it: every factor and reason, cut to the best devices."""
    best = decision.candidates[0].ranking if decision.node else None
    return PlacementStatus(
        policy=decision.policy,
        score=_rounded(best.score) if best else None,
        expected_seconds=_seconds(best) if best else None,
        factors=_factors(best.factors) if best else None,
        candidates=tuple(
            Candidate(
                node=one.node,
                score=_rounded(one.ranking.score),
                expected_seconds=_seconds(one.ranking),
                avoided=one.avoided,
            )
            for one in decision.candidates
        ),
        rejected=tuple(_rejected(one.node, one.reason, one.message) for one in decision.rejected),
        message=decision.message,
        decided_at=now,
    )


@lru_cache(maxsize=4096)  # a long queue is rejected by the same devices for the same reasons, job by job
def _rejected(node: str, reason: str, message: str) -> RejectedNode:
    return RejectedNode(node=node, reason=reason, message=message)


def _settled(old: PlacementStatus | None, decision: Decision, now: datetime) -> PlacementStatus:
    """The old text while the reasons are the same: figures that move a little are not worth a write."""
    if old is not None and old.score is None and old.policy == decision.policy:
        before = [(one.node, one.reason) for one in old.rejected], [one.node for one in old.candidates[:1]]
        rejected = [(one.node, one.reason) for one in decision.rejected]
        if before == (rejected, [one.node for one in decision.candidates[:1]]):
            return old
    return described(decision, now)


def _report(draft: Draft) -> list[Action]:
    """One status write, if the state changed and is worth one, with the events that tell of it."""
    if draft.is_passing():
        return []
    job, status = draft.job, draft.status()
    if status == job.status:
        return []
    told = tuple(events(job, status))
    return [PatchStatus("edgejobs", job.key, job.resource_version, job.status, status, told, draft.is_awaited())]


def _factors(factors: score.Factors) -> Factors:
    load, performance, thermal = (_rounded(one) for one in (factors.load, factors.performance, factors.thermal))
    return Factors(load=load, performance=performance, thermal=thermal)


def _seconds(ranking: Ranking) -> int | None:
    return None if ranking.expected_seconds is None else round(min(ranking.expected_seconds, LONGEST_EXPECTED_SECONDS))


def _rounded(value: float) -> float:
    return round(value, 3)
