"""The plan: from a snapshot and the time to what to do now. Reads top to bottom as the order of a pass.

1. observe   each open job's next state, from its pods, results and deadlines
2. place     the queue, best device first, reservations visible to the next job
3. report    each changed state as one status write, with events for people
4. retain    what finished jobs leave behind
5. fleet     EdgeNodes and EdgeApps
"""

from collections.abc import Iterable
from datetime import datetime

from edgewise.api import Candidate, Factors, PlacementStatus, RejectedNode, status_body
from edgewise.api.job_status import CANDIDATES_KEPT
from edgewise.domain import fleet
from edgewise.domain.actions import Action, CreatePod, PatchStatus, Plan
from edgewise.domain.conditions import holds
from edgewise.domain.demand import Usage, usage_of
from edgewise.domain.draft import Draft
from edgewise.domain.events import events
from edgewise.domain.lifecycle import advance
from edgewise.domain.placement import Decision, place, queue_order
from edgewise.domain.pods import build_pod, resolved_deadline
from edgewise.domain.retention import retain
from edgewise.domain.views import JobView, Key, Snapshot


def plan(snapshot: Snapshot, now: datetime) -> Plan:
    """What to do now, and when to look again. The same snapshot and time give the same plan."""
    usage = usage_of(snapshot.nodes, (pod for pods in snapshot.pods.values() for pod in pods))
    open_jobs = [job for job in snapshot.jobs.values() if not job.deleting and not finished(job)]
    drafts = [_observe(job, snapshot, now) for job in open_jobs]
    _place(drafts, snapshot, usage)
    actions: list[Action] = []
    wake_ups = [draft.wake_at for draft in drafts if draft.wake_at]
    for draft in drafts:
        actions += draft.actions
        actions += _report(draft)
    for job in snapshot.jobs.values():
        if not job.deleting and finished(job):
            deletions, wake_at = retain(job, snapshot.pods.get(job.uid, ()), now)
            actions += deletions
            wake_ups += [wake_at] if wake_at else []
    actions += fleet.report(snapshot, usage, now)
    wake_ups += fleet.wake_ups(snapshot, now)
    return Plan(tuple(actions), min(wake_ups, default=None))


def finished(job: JobView) -> bool:
    """Whether the job has ended for good."""
    return holds(job.status.conditions, "Finished")


def _observe(job: JobView, snapshot: Snapshot, now: datetime) -> Draft:
    """Steps through one job's lifecycle."""
    pods = snapshot.pods.get(job.uid, ())
    draft = Draft(
        job=job,
        app=snapshot.apps.get(Key(job.key.namespace, job.spec.app_ref.name)),
        pods={pod.uid: pod for pod in pods},
        nodes=snapshot.nodes,
        manifests=snapshot.manifests,
        installation=snapshot.installation,
        now=now,
        attempts=list(job.status.attempts),
        placement=job.status.placement,
        results=job.status.results,
        start_time=job.status.start_time,
    )
    advance(draft)
    return draft


def _place(drafts: Iterable[Draft], snapshot: Snapshot, usage: dict[str, Usage]) -> None:
    """Give every queued job a device, or the reasons why not."""
    queued = sorted((draft for draft in drafts if draft.demand), key=lambda draft: queue_order(draft.job))
    for draft in queued:
        if draft.demand is None or draft.app is None:
            continue
        decision = place(draft.demand, snapshot.nodes, usage, snapshot.installation)
        placement = described(decision)
        if decision.node is None:
            draft.placement = _settled(draft.placement, placement)
            draft.waiting = draft.placement.message
            continue
        elapsed = draft.now - (draft.start_time or draft.now)
        attempt = max((one.number for one in draft.attempts), default=0) + 1
        draft.waiting = f"attempt {attempt} goes to {decision.node}"
        manifest = build_pod(
            draft.job,
            draft.app.spec,
            attempt=attempt,
            node=decision.node,
            placement=placement.model_dump_json(by_alias=True, exclude_none=True),
            priority_class=snapshot.installation.priority_class,
            deadline=resolved_deadline(draft.job.spec, elapsed),
        )
        draft.actions.append(CreatePod(draft.job.key, draft.job.uid, manifest))


def described(decision: Decision) -> PlacementStatus:
    """A decision as status shows it: every factor and reason, cut to the best devices."""
    best = decision.candidates[0].ranking if decision.candidates else None
    return PlacementStatus(
        policy=decision.policy,
        score=_rounded(best.score) if best else None,
        factors=Factors(
            load=_rounded(best.factors.load),
            performance=_rounded(best.factors.performance),
            thermal=_rounded(best.factors.thermal),
        )
        if best
        else None,
        candidates=tuple(
            Candidate(node=one.node, score=_rounded(one.ranking.score)) for one in decision.candidates[:CANDIDATES_KEPT]
        ),
        rejected=tuple(
            RejectedNode(node=one.node, reason=one.reason, message=one.message)
            for one in decision.rejected[:CANDIDATES_KEPT]
        ),
        message=decision.message,
    )


def _settled(old: PlacementStatus | None, new: PlacementStatus) -> PlacementStatus:
    """The old text while the reasons are the same: figures that move a little are not worth a write."""

    def reasons(one: PlacementStatus) -> list[tuple[str, str]]:
        return [(rejected.node, rejected.reason) for rejected in one.rejected]

    same = old is not None and old.score is None and old.policy == new.policy and reasons(old) == reasons(new)
    return old if old is not None and same else new


def _report(draft: Draft) -> list[Action]:
    """One status write, if the state changed, and the events that tell of it."""
    job, status = draft.job, draft.status()
    if status == job.status:
        return []
    patch = PatchStatus("edgejobs", job.key, job.resource_version, status_body(job.status), status_body(status))
    return [patch, *events(job, status)]


def _rounded(value: float) -> float:
    return round(value, 3)
