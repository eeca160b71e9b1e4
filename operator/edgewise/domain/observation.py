"""What became of a job's attempts: from its pods, its results and the state of its devices to the list of attempts.

The first of the lifecycle's steps. It concludes attempts and asks for pods of concluded ones to be deleted; it starts
nothing. Times of conclusions are the operator's own: a device's clock may be wrong.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final

from edgewise_agent.wire import VolumeState

from edgewise.api import Attempt, Outcome, ResultsState
from edgewise.domain.attempts import BAD_ENDS, UNDER_WAY, Finding, classify
from edgewise.domain.conditions import shortened
from edgewise.domain.draft import Draft
from edgewise.domain.liveness import OUT_OF_SERVICE, Liveness, kubelet_down, late, liveness, lost_for, out_of_service
from edgewise.domain.massloss import waited_for_until
from edgewise.domain.views import NodeView, PodPhase, PodView

RECHECK: Final = timedelta(seconds=10)
"""How soon to look again at a pod that is late, where no event would tell."""

SETTLED: Final = timedelta(seconds=15)
"""How long a device must have been ready, and have reported, again before its kubelet's word on a lost pod counts."""

OUTPUTS_GRACE: Final = timedelta(seconds=60)
"""How long after its end an attempt's results may be in nobody's report."""

HOME: Final = (ResultsState.COMPLETE, ResultsState.PARTIAL)


def record(draft: Draft) -> bool:
    """Bring the list of attempts up to what their pods and devices show. Never settles the job's state."""
    known = {attempt.pod_uid for attempt in draft.attempts}
    numbers = {attempt.number for attempt in draft.attempts}
    for pod in sorted(draft.pods.values(), key=lambda pod: pod.attempt):
        if pod.uid in known:
            continue
        if pod.attempt in numbers or pod.attempt < min(numbers, default=0):
            if not pod.ended:  # made again, from a stale cache, after its namesake had gone
                draft.delete(pod)
        else:
            draft.attempts.append(Attempt(number=pod.attempt, node=pod.node, pod_name=pod.key.name, pod_uid=pod.uid))
            draft.placement = pod.placement or draft.placement
            draft.start_time = draft.start_time or pod.created_at
    draft.attempts.sort(key=lambda attempt: attempt.number)
    for attempt in list(draft.attempts):
        match attempt.outcome:
            case Outcome.STARTING | Outcome.RUNNING:
                _under_way(draft, attempt)
            case Outcome.LOST:
                _lost(draft, attempt)
            case Outcome.SUCCEEDED:
                _succeeded(draft, attempt)
            case _:
                _sweep(draft, attempt)
    return False


def _under_way(draft: Draft, attempt: Attempt) -> None:
    pod = draft.pod_of(attempt)
    if pod is None:
        _conclude(draft, attempt, None, _gone(attempt))
        return
    found = _on_its_device(draft, pod, classify(pod, draft.now))
    if pod.deleting and found.outcome is Outcome.FAILED:
        found = Finding(Outcome.DISRUPTED, "Deleted", "its pod was deleted from outside (by kubectl drain or delete?)")
    if found.outcome not in UNDER_WAY:
        _conclude(draft, attempt, pod, found)
        return
    if found.reason == attempt.reason == "Unschedulable":  # that is written, so its end is understood
        draft.delete(pod, only_unchanged=True)  # concluded once it is gone: the scheduler may yet bind it
    draft.change(
        attempt,
        outcome=found.outcome,
        reason=found.reason,
        message=shortened(found.message),
        started_at=_began(draft, attempt, pod),
    )
    if found.outcome is Outcome.STARTING:
        draft.wake_in(RECHECK)


def _gone(attempt: Attempt) -> Finding:
    """A pod that is no more: we may have asked for it."""
    if attempt.reason == "Unschedulable":
        return Finding(Outcome.DISRUPTED, attempt.reason, attempt.message)
    return Finding(Outcome.DISRUPTED, "Deleted", "its pod was deleted from outside")


def _lost(draft: Draft, attempt: Attempt) -> None:
    """A lost attempt stays lost until its success is home, or its device is back for good and says how it stands.

    One that nobody has seen running has nothing to be waited for.
    """
    pod, node = draft.pod_of(attempt), draft.nodes.get(attempt.node)
    if attempt.pod_uid in draft.manifests:
        if pod is not None and pod.phase is PodPhase.SUCCEEDED:
            _conclude(draft, attempt, pod, classify(pod, draft.now))
            return
        if attempt.exit_code == 0:  # known before its device was lost with the results
            draft.change(attempt, outcome=Outcome.SUCCEEDED, reason="", message="")
            return
    if pod is not None and pod.phase is PodPhase.PENDING:
        draft.delete(pod)  # else its device would start it when it is back, beside the attempt that replaced it
        return
    if pod is None or pod.deleting or node is None or not _is_back(draft, node):
        return
    found = classify(pod, draft.now)
    if found.outcome in UNDER_WAY:
        draft.change(attempt, outcome=found.outcome, reason="", message="", finished_at=None)
    else:
        _conclude(draft, attempt, pod, found)


def _is_back(draft: Draft, node: NodeView) -> bool:
    """Whether agent and kubelet both report again, the kubelet for long enough to have told of its pods."""
    if out_of_service(node) or liveness(node, draft.installation.beat_interval) is not Liveness.FRESH:
        return False
    if node.kube is None or node.kube.ready is not True or node.beat is None:
        return False
    ready_since = node.kube.ready_since or draft.now
    # Kubernetes takes 40 s and more to see that a device is away: after a shorter outage only the beats tell of it.
    settled_at = max(ready_since, node.beat.reporting_since or ready_since) + SETTLED
    if draft.now < settled_at:
        draft.wake(settled_at)
        return False
    return True


def _returning(node: NodeView | None, interval: timedelta) -> bool:
    """Whether a lost device may be about to say how its pods stand: it reports again, or nobody can know yet."""
    if node is None or node.kube is None or node.kube.ready is not True or out_of_service(node):
        return False
    return liveness(node, interval) in (Liveness.FRESH, Liveness.UNKNOWN)


def _outputs_lost(draft: Draft, attempt: Attempt) -> Finding | None:
    """The loss of results that their device should still hold, and does not: it got another disk."""
    node = draft.nodes.get(attempt.node)
    if node is None or node.beat is None or attempt.pod_uid in node.beat.volumes or not _is_back(draft, node):
        return None
    given_up_at = (attempt.finished_at or draft.now) + OUTPUTS_GRACE
    if draft.now < given_up_at:
        draft.wake(given_up_at)
        return None
    message = f"{attempt.node} has the results of this attempt no more, and the gateway has not announced them"
    return Finding(Outcome.DISRUPTED, "OutputsLost", message)


def _succeeded(draft: Draft, attempt: Attempt) -> None:
    """Results that are still on a device can be lost with it."""
    pod = draft.pod_of(attempt)
    home = attempt.pod_uid in draft.manifests or (draft.results is not None and draft.results.state in HOME)
    if home or (pod is not None and not pod.has_outputs):
        return
    lost = None if _sends(draft, attempt) else _device_lost(draft, attempt.node)
    if (found := lost or _outputs_lost(draft, attempt)) is not None:
        draft.change(attempt, outcome=found.outcome, reason=found.reason, message=found.message, finished_at=draft.now)


def _sends(draft: Draft, attempt: Attempt) -> bool:
    """Whether the device's agent is about to bring the results home, be its kubelet there or not."""
    node = draft.nodes.get(attempt.node)
    if node is None or node.beat is None or out_of_service(node) or late(node, draft.installation.beat_interval):
        return False
    volume = node.beat.volumes.get(attempt.pod_uid)
    return volume is not None and volume.state is not VolumeState.LIVE


def _sweep(draft: Draft, attempt: Attempt) -> None:
    """The attempt is over: so must its pod be."""
    pod = draft.pod_of(attempt)
    if pod and not pod.ended:
        draft.delete(pod)


def _on_its_device(draft: Draft, pod: PodView, found: Finding) -> Finding:
    """The finding, unless the device says otherwise: it is dead, too hot, full, or the volume is over its limit."""
    if found.outcome in BAD_ENDS or found.outcome is Outcome.SUCCEEDED:
        return found
    if (lost := _device_lost(draft, pod.node)) is not None:
        return lost
    node = draft.nodes.get(pod.node)
    if node is None or node.beat is None:
        return found
    volume = node.beat.volumes.get(pod.uid)
    if volume and volume.over_limit:
        unsaid = "its outputs are too large: write less, or raise spec.outputs.sizeLimit of the EdgeApp"
        return Finding(Outcome.FAILED, "OutputsTooLarge", volume.message or unsaid)
    if volume and volume.no_room:
        return Finding(Outcome.DISRUPTED, "DeviceFull", f"{pod.node}: {volume.message}")
    celsius, critical = node.beat.metrics.celsius, node.spec.thermal.critical_celsius
    if draft.job.spec.placement.evict_when_hot and celsius is not None and celsius >= critical:
        return Finding(Outcome.DISRUPTED, "Hot", f"{pod.node} is at {celsius:.0f} °C, critical {critical:.0f} °C")
    return found


def _device_lost(draft: Draft, name: str) -> Finding | None:
    """The loss of a device, once the job's patience is over; None while there is hope, or too much is lost at once."""
    node = draft.nodes.get(name)
    if node is not None and out_of_service(node):
        return Finding(Outcome.LOST, "NodeLost", f"an admin has declared {name} lost (taint {OUT_OF_SERVICE})")
    patience = draft.job.spec.disconnect.replace_after_seconds
    if patience is None:
        return None
    if node is None:
        return _gone_device(draft, name, timedelta(seconds=patience))
    if not is_dead(draft, name):
        return None
    silent = lost_for(node)
    if silent < timedelta(seconds=patience):
        draft.wake_in(timedelta(seconds=patience) - silent)
        return None
    if draft.mass_loss is not None:
        return None
    if (until := waited_for_until(node, draft.installation.beat_interval, draft.now)) is not None:
        draft.wake(until)
        return None
    who = f"the kubelet of {name}" if kubelet_down(node) else name
    return Finding(Outcome.LOST, "NodeLost", f"{who} has been silent for over {patience} s")


def _gone_device(draft: Draft, name: str, patience: timedelta) -> Finding | None:
    """The loss of a device without EdgeNode: not while it reports all the same, nor before it could have reported."""
    led_for = max((node.leading_for for node in draft.nodes.values()), default=patience)
    if name in draft.newcomers:
        return None
    if led_for < patience:
        draft.wake_in(patience - led_for)
        return None
    return Finding(Outcome.LOST, "NodeLost", f"{name} is no device of the fleet any more")


def is_dead(draft: Draft, name: str) -> bool:
    """Whether a device of the fleet is dead."""
    node = draft.nodes.get(name)
    return node is not None and liveness(node, draft.installation.beat_interval) is Liveness.DEAD


def _conclude(draft: Draft, attempt: Attempt, pod: PodView | None, found: Finding) -> None:
    """Close an attempt, with the end that kubelet wrote where that can be true."""
    ended_at = pod.finished_at if pod else None
    if ended_at is None or pod is None or not pod.created_at <= ended_at <= draft.now:
        ended_at = draft.now
    draft.change(
        attempt,
        outcome=found.outcome,
        reason=found.reason,
        message=shortened(found.message),
        exit_code=found.exit_code,
        started_at=_began(draft, attempt, pod),
        finished_at=ended_at,
    )


def _began(draft: Draft, attempt: Attempt, pod: PodView | None) -> datetime | None:
    """When the app started, as the API keeps times; the first that was known stays."""
    if attempt.started_at is not None or pod is None:
        return attempt.started_at
    began = pod.began(draft.now)
    return began.replace(microsecond=0) if began else None


def lingering(draft: Draft) -> PodView | None:
    """A pod of a concluded attempt that has yet to end, on a device that can still end it."""
    return yet_to_end(draft.pods.values(), draft.attempts, draft.nodes, draft.installation.beat_interval)


def yet_to_end(
    pods: Iterable[PodView], attempts: Iterable[Attempt], nodes: Mapping[str, NodeView], interval: timedelta
) -> PodView | None:
    """As `lingering`, of any job's pods and attempts. `interval` is the installation's between two beats."""
    outcomes = {attempt.pod_uid: attempt.outcome for attempt in attempts}
    for pod in pods:
        outcome, node = outcomes.get(pod.uid), nodes.get(pod.node)
        if pod.ended or outcome in UNDER_WAY:
            continue
        if outcome is Outcome.LOST and not _returning(node, interval):
            continue
        if node is not None and liveness(node, interval) is Liveness.DEAD:
            continue
        return pod
    return None
