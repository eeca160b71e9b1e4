"""From what is known of one job to its next state: the steps, in the order in which they are asked.

Each step reads and writes the job's Draft and returns whether the job's state is settled for this pass. Placing
queued jobs comes after, for all of them together (plan.py).
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from edgewise_agent import wire

from edgewise.api import (
    Attempt,
    ConditionStatus,
    Outcome,
    Phase,
    RefusedFile,
    ResultFile,
    Results,
    ResultsState,
)
from edgewise.api.job_status import FILES_KEPT, REFUSED_KEPT
from edgewise.domain import unsupported
from edgewise.domain.attempts import (
    BAD_ENDS,
    UNDER_WAY,
    back_off,
    disruptions,
    failures,
    hindrance,
    may_retry,
)
from edgewise.domain.conditions import named, shortened
from edgewise.domain.demand import Demand, requested
from edgewise.domain.draft import Draft, End
from edgewise.domain.massloss import HELD_BACK
from edgewise.domain.observation import HOME, is_dead, lingering, record
from edgewise.domain.policies import POLICIES
from edgewise.domain.views import PodView

PATIENCE: Final = timedelta(seconds=30)
"""How long what a job needs may be missing before that counts as a fault: a whole folder of manifests is applied in any
order, and health checks take a job that is stalled once for one that has failed."""

REFUSALS: Final = 3
"""How many times in a row the API server refuses a pod before that counts as a fault, for the same reason."""

COLLECTING_AT_ONCE: Final = timedelta(seconds=3)
"""Small results are home within this time, and the phase Collecting is not worth a write."""


def publish(draft: Draft) -> bool:
    """Take the results of a succeeded attempt as the job's: of several, those that were complete first.

    Another attempt that has succeeded too comes too late.
    """
    if draft.results is None or draft.results.state not in HOME:
        succeeded = {attempt.pod_uid for attempt in draft.attempts if attempt.outcome is Outcome.SUCCEEDED}
        home = [manifest for uid, manifest in draft.manifests.items() if uid in succeeded]
        if not home:
            return False
        draft.results = _results(draft, min(home, key=lambda one: (one.completed_at, one.attempt)))
    late = "the results of another attempt were complete first"
    for attempt in list(draft.attempts):
        if attempt.outcome is Outcome.SUCCEEDED and attempt.pod_uid != draft.results.pod_uid:
            draft.change(attempt, outcome=Outcome.SUPERSEDED, reason="Superseded", message=late)
    return False


def _results(draft: Draft, manifest: wire.Manifest) -> Results:
    size = sum(file.bytes_ for file in manifest.files)
    where = f"/v1/namespaces/{manifest.namespace}/jobs/{manifest.job}/files"
    return Results(
        state=ResultsState.PARTIAL if manifest.refused_count else ResultsState.COMPLETE,
        attempt=manifest.attempt,
        pod_uid=manifest.pod_uid,
        completed_at=manifest.completed_at,
        bytes_=size,
        sent_bytes=size,
        file_count=len(manifest.files),
        skipped=manifest.skipped,
        files=tuple(
            ResultFile(name=file.name, bytes_=file.bytes_, rows=file.rows, sha256=file.sha256)
            for file in manifest.files[:FILES_KEPT]
        ),
        refused=tuple({file.name: _refused(file) for file in manifest.refused[:REFUSED_KEPT]}.values()),
        refused_count=manifest.refused_count,
        url=f"{draft.installation.gateway_url}{where}",
    )


def _refused(file: wire.RefusedFile) -> RefusedFile:
    return RefusedFile(name=file.name, reason=file.reason, message=file.message)


def cancel(draft: Draft) -> bool:
    """The user wants no more of it."""
    if not draft.job.spec.cancel:
        return False
    _stop(draft, "Cancelled", "spec.cancel is true")
    draft.end = End("Failed", Phase.CANCELLED, "Cancelled", "cancelled by spec.cancel")
    return True


def suspend(draft: Draft) -> bool:
    """The user wants it to wait: running work is given up and starts anew on resumption."""
    if not draft.job.spec.suspend:
        return False
    _stop(draft, "Suspended", "spec.suspend is true")
    draft.phase, draft.suspended, draft.start_time = Phase.SUSPENDED, True, None
    return True


def _stop(draft: Draft, reason: str, message: str) -> None:
    """Close every attempt that goes on, without counting it. Its pod goes when that is written (`fence` says why)."""
    written = {one.pod_uid: one.outcome for one in draft.job.status.attempts}
    for attempt in list(draft.attempts):
        pod = draft.pod_of(attempt)
        if attempt.outcome in UNDER_WAY:
            draft.change(attempt, outcome=Outcome.CANCELLED, reason=reason, message=message, finished_at=draft.now)
        elif written.get(attempt.pod_uid) is Outcome.LOST and pod and not pod.ended:
            draft.delete(pod)


def fence(draft: Draft) -> bool:
    """At most one attempt goes on: a succeeded one, else the one that has run longest.

    The loser's pod goes when its end is written (observation.py), not before: a crash in between would leave a pod that
    somebody has deleted, and the job would start anew beside the winner.
    """
    running = [attempt for attempt in draft.attempts if attempt.outcome in UNDER_WAY]
    succeeded = any(attempt.outcome is Outcome.SUCCEEDED for attempt in draft.attempts)
    if len(running) + succeeded < 2:
        return False
    keep = None if succeeded else min(running, key=lambda one: _running_since(draft, one))
    further = "another attempt has got further"
    for attempt in running:
        if attempt is not keep:
            draft.change(
                attempt, outcome=Outcome.SUPERSEDED, reason="Superseded", message=further, finished_at=draft.now
            )
    return False


def _running_since(draft: Draft, attempt: Attempt) -> tuple[datetime, int]:
    """Since when an attempt runs, on the operator's clock (devices' clocks differ)."""
    pod = draft.pod_of(attempt)
    return (pod.running_since if pod else None) or draft.now, attempt.number


def deadlines(draft: Draft) -> bool:
    """The limits on the job's whole time, and on its time in the queue."""
    if any(attempt.outcome is Outcome.SUCCEEDED for attempt in draft.attempts):
        return False
    active, queued = draft.job.spec.active_deadline_seconds, draft.job.spec.queue_deadline_seconds
    if active is not None and draft.start_time is not None:
        over = draft.start_time + timedelta(seconds=active)
        if draft.now >= over:
            _stop(draft, "DeadlineExceeded", "spec.activeDeadlineSeconds is over")
            message = f"not done within spec.activeDeadlineSeconds ({active} s): raise it, or make the app faster"
            draft.end = End("Failed", Phase.FAILED, "DeadlineExceeded", message)
            return True
        draft.wake(over)
    if queued is not None and not draft.attempts:
        over = _queued_since(draft) + timedelta(seconds=queued)
        if draft.now >= over:
            old = next((one for one in draft.job.status.conditions if one.status is ConditionStatus.TRUE), None)
            message = (
                f"not started within spec.queueDeadlineSeconds ({queued} s): {old.message if old else 'no device'}"
            )
            draft.end = End("Failed", Phase.FAILED, "QueueDeadlineExceeded", message)
            return True
        draft.wake(over)
    return False


def _queued_since(draft: Draft) -> datetime:
    """Since when the job may have its first device: its creation, or the end of its suspension."""
    conditions = draft.job.status.conditions
    suspended, first = named(conditions, "Suspended"), named(conditions, "Complete")
    if suspended is None or first is None:
        return draft.job.created_at
    if suspended.status is ConditionStatus.TRUE:
        return draft.now
    resumed = suspended.last_transition_time > first.last_transition_time  # else it was never suspended
    return suspended.last_transition_time if resumed else draft.job.created_at


def collect(draft: Draft) -> bool:
    """The app has succeeded; the job is complete once its results are home."""
    succeeded = [attempt for attempt in draft.attempts if attempt.outcome is Outcome.SUCCEEDED]
    if not succeeded:
        return False
    attempt = succeeded[0]
    if draft.results and draft.results.state in HOME:
        draft.end = _judged(draft, draft.results)
        return True
    if not _has_outputs(draft, attempt):
        draft.end = End(
            "Complete", Phase.SUCCEEDED, "Succeeded", f"succeeded on {attempt.node}; its app has no outputs"
        )
        return True
    draft.phase = Phase.COLLECTING
    _hold(draft, draft.pod_of(attempt))
    node = draft.nodes.get(attempt.node)
    volume = node.beat.volumes.get(attempt.pod_uid) if node and node.beat else None
    if volume and volume.state is wire.VolumeState.FAILED:
        message = f"the results on {attempt.node} can't be taken in: {volume.message}"
        draft.end = End("Failed", Phase.FAILED, "CollectionFailed", message)
        return True
    draft.results = draft.results or Results()
    if volume is not None and volume.state is wire.VolumeState.SENDING:
        draft.results = _uploading(draft.results, volume)
    draft.waiting = shortened(f"succeeded on {attempt.node}; {_whereabouts(volume)}")
    return True


def _uploading(before: Results, volume: wire.VolumeReport) -> Results:
    """How far an upload has come. A tenth more is worth a write, less is not."""
    now = before.model_copy(
        update={"state": ResultsState.UPLOADING, "bytes_": volume.bytes_, "sent_bytes": volume.sent_bytes}
    )
    return before if before.state is now.state and _tenths(before) == _tenths(now) else now


def _tenths(results: Results) -> int:
    return 10 * results.sent_bytes // max(1, results.bytes_)


def _whereabouts(volume: wire.VolumeReport | None) -> str:
    """Where the results are, and what keeps them there, as with a full results volume."""
    if volume and volume.message and volume.state in (wire.VolumeState.SPOOLED, wire.VolumeState.SENDING):
        return f"its results wait there: {volume.message}"
    return "its results are on their way home"


def _hold(draft: Draft, pod: PodView | None) -> None:
    """Don't write that results are on their way when they are about to be home, if the device's clock can be right."""
    ended = pod.finished_at if pod and not pod.deleting else None
    if draft.results is None and ended is not None and ended <= draft.now < ended + COLLECTING_AT_ONCE:
        draft.held_until = ended + COLLECTING_AT_ONCE
        draft.wake(draft.held_until)


def _has_outputs(draft: Draft, attempt: Attempt) -> bool:
    """Whether the attempt's pod had an output volume; where the pod is gone, whether the app has one."""
    pod = draft.pod_of(attempt)
    if pod is not None:
        return pod.has_outputs
    return draft.app is None or draft.app.spec.outputs is not None


def _judged(draft: Draft, results: Results) -> End:
    """Complete, unless the app has brought fewer files than it promised. A stream's may bring none."""
    outputs = draft.app.spec.outputs if draft.app and not draft.job.stream_uid else None
    if outputs and results.file_count < outputs.min_files:
        message = (
            f"the app exited with 0 but wrote {results.file_count} of at least {outputs.min_files} files matching "
            f"{', '.join(outputs.include)} in {outputs.path} ({results.skipped} other files were skipped, "
            f"{results.refused_count} refused): write them to $EDGEWISE_OUTPUTS, correct spec.outputs.include of the "
            "EdgeApp, or set its spec.outputs.minFiles to 0"
        )
        return End("Failed", Phase.FAILED, "NoOutputs", message)
    size = f"{results.file_count} file{'s' * (results.file_count != 1)}, {results.bytes_} bytes"
    if results.state is ResultsState.PARTIAL:
        return End(
            "Complete", Phase.SUCCEEDED, "PartialResults", f"{size} are home; {results.refused_count} were refused"
        )
    return End("Complete", Phase.SUCCEEDED, "Succeeded", f"{size} are home")


def run(draft: Draft) -> bool:
    """An attempt is under way: say how it stands."""
    for attempt in draft.attempts:
        if attempt.outcome not in UNDER_WAY:
            continue
        pod = draft.pod_of(attempt)
        running = attempt.outcome is Outcome.RUNNING
        draft.phase = Phase.RUNNING if attempt.outcome is Outcome.RUNNING else Phase.BOUND
        draft.waiting = f"attempt {attempt.number} {'runs on' if running else 'is bound to'} {attempt.node}"
        if pod and (why := hindrance(pod, _held_bundles(draft, attempt.node), draft.now)):
            _complain(draft, pod.created_at, "PodCannotStart", why)
        if draft.mass_loss and is_dead(draft, attempt.node):
            draft.waiting += f"; {HELD_BACK} (kubectl describe edgenode {attempt.node})"
        return True
    return False


def _held_bundles(draft: Draft, node: str) -> frozenset[str]:
    """The bundles of which the device's newest beat says that it holds them."""
    device = draft.nodes.get(node)
    return device.beat.bundles if device and device.beat else frozenset()


def retry(draft: Draft) -> bool:
    """After a failed or lost attempt: give up, wait a little, or go back to the queue."""
    ended = [attempt for attempt in draft.attempts if attempt.outcome in BAD_ENDS]
    if not ended:
        return False
    last = ended[-1]
    if not may_retry(draft.job.spec, ended):
        limits = draft.job.spec.retry
        count = (
            f"{failures(ended)} of {limits.max_attempts} attempts failed"
            if last.outcome is Outcome.FAILED
            else f"{disruptions(ended)} disruptions, more than spec.retry.maxDisruptions ({limits.max_disruptions})"
        )
        draft.end = End("Failed", Phase.FAILED, last.reason, f"{last.message} ({count})")
        return True
    if pod := lingering(draft):
        draft.waiting = f"attempt {last.number}: {last.message}; its pod {pod.key.name} is ending"
        return True
    draft.next_attempt_at = (last.finished_at or draft.now) + back_off(draft.job.spec, ended)
    if draft.now < draft.next_attempt_at:
        draft.wake(draft.next_attempt_at)
        draft.waiting = f"attempt {last.number}: {last.message}; the next one starts soon"
        return True
    draft.next_attempt_at = None
    return False


def queue(draft: Draft) -> bool:
    """Ask for a device, if the job can be run at all."""
    job, app = draft.job, draft.app
    if app is None:
        absent = f"EdgeApp {job.app} does not exist: create it (the job then starts)"
        _complain(draft, job.created_at, "AppNotFound", absent)
    elif missing := unsupported.in_app(app.spec):
        draft.stalled = ("NotSupported", f"EdgeApp {app.key}: {missing}")
    elif missing := unsupported.in_job(job.spec):
        draft.stalled = ("NotSupported", missing)
    elif (policy := job.spec.placement.policy or draft.installation.default_policy) not in POLICIES:
        draft.stalled = ("UnknownPolicy", f"spec.placement.policy {policy} is not one of {', '.join(sorted(POLICIES))}")
    elif pod := lingering(draft):
        draft.waiting = f"pod {pod.key.name} of the last attempt is ending"
    elif not draft.is_written():
        draft.waiting = "the end of the last attempt is being written"  # and then the next one starts
    elif _refused_pod(draft):
        pass
    else:
        failed_on = frozenset(attempt.node for attempt in draft.attempts if attempt.outcome in BAD_ENDS)
        ends = (attempt.finished_at for attempt in draft.attempts if attempt.finished_at)
        since = max(ends, default=_queued_since(draft))
        draft.demand = Demand(job.key, job.uid, job.spec, app.spec, requested(app.spec), failed_on, since)
    return True


def _complain(draft: Draft, since: datetime, reason: str, message: str) -> None:
    """Tell what is missing `since` then: as what the job waits for at first, as a fault after a while."""
    if draft.now < since + PATIENCE:
        draft.waiting = message
        draft.wake(since + PATIENCE)
    else:
        draft.stalled = reason, message


def _refused_pod(draft: Draft) -> bool:
    """Tell that the API server has refused the job's pod. Returns whether it is too early to offer it again."""
    refusal = draft.refusal
    if refusal is None:
        return False
    message = f"the API server refuses the job's pod: {refusal.message}"
    if refusal.times < REFUSALS:
        draft.waiting = message
    else:
        draft.stalled = "PodRefused", message
    draft.wake(refusal.retry_at)
    return draft.now < refusal.retry_at


STEPS: tuple[Callable[[Draft], bool], ...] = (
    record,
    publish,
    cancel,
    suspend,
    fence,
    deadlines,
    collect,
    run,
    retry,
    queue,
)


def advance(draft: Draft) -> None:
    """Ask the steps in turn until one settles the job's state."""
    for step in STEPS:
        if step(draft):
            return
