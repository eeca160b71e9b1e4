"""From what is known of one job to its next state: the steps, in the order in which they are asked.

Each step reads and writes the job's Draft and returns whether the job's state is settled for this pass. Placing
queued jobs comes after, for all of them together (plan.py).
"""

from collections.abc import Callable
from datetime import timedelta

from edgewise_agent import wire

from edgewise.api import (
    Attempt,
    Outcome,
    Phase,
    PlacementStatus,
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
    Finding,
    back_off,
    classify,
    disruptions,
    failures,
    hindrance,
    may_retry,
)
from edgewise.domain.conditions import shortened
from edgewise.domain.demand import Demand, requested
from edgewise.domain.draft import Draft, End
from edgewise.domain.liveness import Liveness, liveness, silence
from edgewise.domain.policies import POLICIES
from edgewise.domain.views import PodView

RECHECK = timedelta(seconds=10)
"""How soon to look again at a pod that is late, where no event would tell."""

HOME = (ResultsState.COMPLETE, ResultsState.PARTIAL)


def record(draft: Draft) -> bool:
    """Bring the list of attempts up to what their pods show."""
    known = {attempt.pod_uid for attempt in draft.attempts}
    for pod in sorted(draft.pods.values(), key=lambda pod: pod.attempt):
        if pod.uid not in known:
            draft.attempts.append(Attempt(number=pod.attempt, node=pod.node, pod_name=pod.key.name, pod_uid=pod.uid))
            draft.placement = PlacementStatus.model_validate_json(pod.placement or "{}")
            draft.start_time = draft.start_time or pod.created_at
    draft.attempts.sort(key=lambda attempt: attempt.number)
    for attempt in list(draft.attempts):
        if attempt.outcome in UNDER_WAY or attempt.outcome is Outcome.LOST:
            _observe(draft, attempt)
        elif attempt.outcome is not Outcome.SUCCEEDED:
            _sweep(draft, attempt)
    return False


def _observe(draft: Draft, attempt: Attempt) -> None:
    """One attempt that is under way, or whose device was lost and may have come back."""
    pod = draft.pod_of(attempt)
    if pod is None:
        if attempt.outcome is not Outcome.LOST:
            _conclude(draft, attempt, None, Finding(Outcome.DISRUPTED, "Deleted", "its pod was deleted from outside"))
        return
    found = _on_its_device(draft, pod, classify(pod, draft.now))
    if pod.deleting and found.outcome is Outcome.FAILED:
        found = Finding(Outcome.DISRUPTED, "Deleted", "its pod was deleted from outside (by kubectl drain or delete?)")
    if found.delete:
        draft.delete(pod, only_unchanged=found.reason == "Unschedulable")
    if found.outcome in UNDER_WAY:
        draft.change(
            attempt,
            outcome=found.outcome,
            reason="",
            message="",
            started_at=pod.started_at or attempt.started_at,
            finished_at=None,
            exit_code=None,
        )
        if found.outcome is Outcome.STARTING:
            draft.wake_in(RECHECK)
    else:
        _conclude(draft, attempt, pod, found)


def _sweep(draft: Draft, attempt: Attempt) -> None:
    """The attempt is over: so must its pod be."""
    pod = draft.pod_of(attempt)
    if pod and not pod.ended:
        draft.delete(pod)


def _on_its_device(draft: Draft, pod: PodView, found: Finding) -> Finding:
    """The finding, unless the device says otherwise: it is dead, too hot, or the volume is over its limit."""
    node = draft.nodes.get(pod.node)
    if node is None or found.outcome in BAD_ENDS or (found.outcome is Outcome.SUCCEEDED and not pod.has_outputs):
        return found
    if liveness(node, draft.installation.beat_interval) is Liveness.DEAD and not _results_home(draft, pod):
        patience = draft.job.spec.disconnect.replace_after_seconds
        if patience is None:
            return found
        silent = silence(node)
        if silent >= timedelta(seconds=patience):
            return Finding(Outcome.LOST, "NodeLost", f"{pod.node} has been silent for {silent.total_seconds():.0f} s")
        draft.wake_in(timedelta(seconds=patience) - silent)
        return found
    if found.outcome is Outcome.SUCCEEDED or node.beat is None:
        return found
    volume = node.beat.volumes.get(pod.uid)
    if volume and volume.over_limit:
        remedy = "write less, or raise spec.outputs.sizeLimit of the EdgeApp"
        return Finding(
            Outcome.FAILED, "OutputsTooLarge", f"{volume.message or 'its outputs are too large'}; {remedy}", delete=True
        )
    celsius, critical = node.beat.metrics.celsius, node.spec.thermal.critical_celsius
    if draft.job.spec.placement.evict_when_hot and celsius is not None and celsius >= critical:
        return Finding(
            Outcome.DISRUPTED, "Hot", f"{pod.node} is at {celsius:.0f} °C, critical {critical:.0f} °C", delete=True
        )
    return found


def _results_home(draft: Draft, pod: PodView) -> bool:
    return pod.uid in draft.manifests or (draft.results is not None and draft.results.pod_uid == pod.uid)


def _conclude(draft: Draft, attempt: Attempt, pod: PodView | None, found: Finding) -> None:
    draft.change(
        attempt,
        outcome=found.outcome,
        reason=found.reason,
        message=shortened(found.message),
        exit_code=found.exit_code,
        started_at=(pod.started_at if pod else None) or attempt.started_at,
        finished_at=attempt.finished_at or (pod.finished_at if pod else None) or draft.now,
    )


def publish(draft: Draft) -> bool:
    """Take the first complete results of a succeeded attempt as the job's; end what else runs for it."""
    if draft.results is None or draft.results.state not in HOME:
        for attempt in draft.attempts:
            manifest = draft.manifests.get(attempt.pod_uid)
            if attempt.outcome is Outcome.SUCCEEDED and manifest:
                draft.results = _results(draft, manifest)
                break
    return False


def _results(draft: Draft, manifest: wire.Manifest) -> Results:
    where = f"/v1/namespaces/{manifest.namespace}/jobs/{manifest.job}/files"
    return Results(
        state=ResultsState.PARTIAL if manifest.refused_count else ResultsState.COMPLETE,
        attempt=manifest.attempt,
        pod_uid=manifest.pod_uid,
        completed_at=manifest.completed_at,
        bytes_=sum(file.bytes_ for file in manifest.files),
        file_count=len(manifest.files),
        skipped=manifest.skipped,
        files=tuple(
            ResultFile(name=file.name, bytes_=file.bytes_, rows=file.rows, sha256=file.sha256)
            for file in manifest.files[:FILES_KEPT]
        ),
        refused=tuple(
            RefusedFile(name=file.name, reason=file.reason, message=file.message)
            for file in manifest.refused[:REFUSED_KEPT]
        ),
        refused_count=manifest.refused_count,
        url=f"{draft.installation.gateway_url}{where}",
    )


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
    """Delete every pod that has not ended, and close its attempt without counting it."""
    for attempt in list(draft.attempts):
        pod = draft.pod_of(attempt)
        if attempt.outcome in UNDER_WAY:
            draft.change(attempt, outcome=Outcome.CANCELLED, reason=reason, message=message, finished_at=draft.now)
        if pod and not pod.ended:
            draft.delete(pod)


def fence(draft: Draft) -> bool:
    """At most one attempt goes on: a succeeded one, else the one that has run longest."""
    running = [attempt for attempt in draft.attempts if attempt.outcome in UNDER_WAY]
    succeeded = any(attempt.outcome is Outcome.SUCCEEDED for attempt in draft.attempts)
    if len(running) + succeeded < 2:
        return False
    keep = None if succeeded else min(running, key=lambda one: (one.started_at or draft.now, one.number))
    for attempt in running:
        pod = draft.pod_of(attempt)
        if attempt is keep:
            continue
        further = "another attempt has got further"
        draft.change(attempt, outcome=Outcome.SUPERSEDED, reason="Superseded", message=further, finished_at=draft.now)
        if pod:
            draft.delete(pod)
    return False


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
        over = draft.job.created_at + timedelta(seconds=queued)
        if draft.now >= over:
            why = draft.placement.message if draft.placement else ""
            message = f"no device within spec.queueDeadlineSeconds ({queued} s): {why or 'no device was free'}"
            draft.end = End("Failed", Phase.FAILED, "QueueDeadlineExceeded", message)
            return True
        draft.wake(over)
    return False


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
    node = draft.nodes.get(attempt.node)
    volume = node.beat.volumes.get(attempt.pod_uid) if node and node.beat else None
    if volume and volume.state is wire.VolumeState.FAILED:
        message = f"the results on {attempt.node} can't be taken in: {volume.message}"
        draft.end = End("Failed", Phase.FAILED, "CollectionFailed", message)
        return True
    uploading = volume is not None and volume.state is wire.VolumeState.SENDING
    draft.results = draft.results or Results()
    if uploading and draft.results.state is ResultsState.PENDING:
        draft.results = draft.results.model_copy(update={"state": ResultsState.UPLOADING})
    draft.waiting = f"succeeded on {attempt.node}; its results are on their way home"
    return True


def _has_outputs(draft: Draft, attempt: Attempt) -> bool:
    """Whether the attempt's pod had an output volume; where the pod is gone, whether the app has one."""
    pod = draft.pod_of(attempt)
    if pod is not None:
        return pod.has_outputs
    return draft.app is None or draft.app.spec.outputs is not None


def _judged(draft: Draft, results: Results) -> End:
    """Complete, unless the app has brought fewer files than it promised."""
    outputs = draft.app.spec.outputs if draft.app else None
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
        if pod and (why := hindrance(pod, draft.now)):
            draft.stalled = ("PodCannotStart", why)
        return True
    return False


def retry(draft: Draft) -> bool:
    """After a failed or lost attempt: give up, wait a little, or go back to the queue."""
    ended = [attempt for attempt in draft.attempts if attempt.outcome in BAD_ENDS]
    if not ended:
        return False
    last = ended[-1]
    if not may_retry(draft.job.spec, ended):
        _stop(draft, "GivenUp", "the job has failed")
        limits = draft.job.spec.retry
        count = (
            f"{failures(ended)} of {limits.max_attempts} attempts failed"
            if last.outcome is Outcome.FAILED
            else f"{disruptions(ended)} disruptions, more than spec.retry.maxDisruptions ({limits.max_disruptions})"
        )
        draft.end = End("Failed", Phase.FAILED, last.reason, f"{last.message} ({count})")
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
        name = f"{job.key.namespace}/{job.spec.app_ref.name}"
        draft.stalled = ("AppNotFound", f"EdgeApp {name} does not exist: create it (the job then starts)")
    elif missing := unsupported.in_app(app.spec):
        draft.stalled = ("NotSupported", f"EdgeApp {app.key}: {missing}")
    elif missing := unsupported.in_job(job.spec):
        draft.stalled = ("NotSupported", missing)
    elif (policy := job.spec.placement.policy or draft.installation.default_policy) not in POLICIES:
        draft.stalled = ("UnknownPolicy", f"spec.placement.policy {policy} is not one of {', '.join(sorted(POLICIES))}")
    else:
        failed_on = frozenset(attempt.node for attempt in draft.attempts if attempt.outcome in BAD_ENDS)
        draft.demand = Demand(job.key, job.uid, job.spec, app.spec, requested(app.spec), failed_on)
    return True


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
