"""What became of each attempt: pods and device state -> running, succeeded, failed or lost, with a class and a reason.

Only the app's own failures (outcome Failed) count against `retry.maxAttempts`; disruptions (Disrupted, and Lost for a
device that may come back) have a budget of their own. The attempt's number is not the failure count.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from edgewise.api import Attempt, EdgeJobSpec, Outcome
from edgewise.domain.conditions import shortened
from edgewise.domain.views import PodPhase, PodView

UNDER_WAY: Final = frozenset({Outcome.STARTING, Outcome.RUNNING})
DISRUPTIONS: Final = frozenset({Outcome.DISRUPTED, Outcome.LOST})
BAD_ENDS: Final = DISRUPTIONS | {Outcome.FAILED}

LONGEST_DETAIL: Final = 400
"""How much of a container's last words goes into a message, so that the remedy after it is not cut off."""

IMAGE_REASONS: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable"})
IMAGE_GRACE: Final = timedelta(seconds=20)
"""How long an image may fail to come: one of kubelet's own retries is in it, so a passing fault is forgiven."""

UNSCHEDULABLE_GRACE: Final = timedelta(seconds=3)
NEVER_RETRIED: Final = frozenset({"InvalidImageName", "DeadlineExceeded"})


@dataclass(frozen=True, slots=True)
class Finding:
    """How an attempt stands."""

    outcome: Outcome
    reason: str = ""
    message: str = ""
    exit_code: int | None = None


def classify(pod: PodView, now: datetime) -> Finding:
    """How an attempt stands, from its pod alone. The pod must exist."""
    match pod.phase:
        case PodPhase.SUCCEEDED:
            return Finding(Outcome.SUCCEEDED, exit_code=0)
        case PodPhase.FAILED:
            return _ended_badly(pod)
        case PodPhase.PENDING:
            return _waiting(pod, now)
        case _:
            return Finding(Outcome.RUNNING)


def _ended_badly(pod: PodView) -> Finding:
    on = f"on {pod.node}"
    detail = f": {shortened(pod.message.strip(), LONGEST_DETAIL)}" if pod.message.strip() else ""
    if pod.reason in ("Evicted", "Preempting", "Terminated", "NodeShutdown", "NodeLost", "Shutdown"):
        return Finding(Outcome.DISRUPTED, "Evicted", f"evicted {on}{detail}", pod.exit_code)
    if pod.reason == "UnexpectedAdmissionError" or (pod.reason.startswith("OutOf") and pod.exit_code is None):
        return Finding(Outcome.DISRUPTED, "Unschedulable", f"{pod.node} refused the pod ({pod.reason}){detail}")
    if pod.reason == "DeadlineExceeded":
        return Finding(
            Outcome.FAILED, "DeadlineExceeded", f"ended {on}: spec.activeDeadlineSeconds was over", pod.exit_code
        )
    if pod.reason == "OOMKilled":
        remedy = "raise resources.limits.memory of the EdgeApp, or make the app need less"
        return Finding(Outcome.FAILED, "OutOfMemory", f"killed {on} for memory: {remedy}", pod.exit_code)
    if pod.exit_code is None or pod.reason in ("ContainerStatusUnknown", "Unknown"):
        return Finding(Outcome.DISRUPTED, "Interrupted", f"cut short {on}, as by a reboot{detail}", pod.exit_code)
    if pod.reason in ("ContainerCannotRun", "StartError"):
        remedy = "correct spec.command of the EdgeApp"
        return Finding(
            Outcome.FAILED, "StartError", f"the container could not start {on}{detail}; {remedy}", pod.exit_code
        )
    remedy = f"its output: kubectl logs -n {pod.key.namespace} {pod.key.name}"
    return Finding(
        Outcome.FAILED, "AppError", f"the app exited with code {pod.exit_code} {on}{detail}; {remedy}", pod.exit_code
    )


def _waiting(pod: PodView, now: datetime) -> Finding:
    waited = now - pod.created_at
    if pod.waiting_reason == "InvalidImageName":
        return Finding(Outcome.FAILED, "InvalidImageName", f"{pod.waiting_message}; correct spec.image of the EdgeApp")
    if pod.waiting_reason in IMAGE_REASONS and waited >= IMAGE_GRACE:
        remedy = "check spec.image, imagePullPolicy and imagePullSecrets of the EdgeApp, and the registry"
        message = f"the image can't be pulled on {pod.node}: {pod.waiting_message}; {remedy}"
        return Finding(Outcome.FAILED, "ImageError", message)
    if pod.unschedulable and not pod.bound and waited >= UNSCHEDULABLE_GRACE:
        return Finding(Outcome.STARTING, "Unschedulable", f"no room on {pod.node}: {pod.unschedulable}")
    if pod.stranded:
        return Finding(Outcome.DISRUPTED, "Interrupted", f"cut short on {pod.node}, as by a power cut")
    return Finding(Outcome.STARTING)


def hindrance(pod: PodView, held: Collection[str], now: datetime) -> str:
    """Why a pod that is on its device does not start, when a person should know; empty while all is well.

    `held` are the bundles that the device holds, as `namespace/sha256`. Which volume a pod waits for is in its events
    only; a bundle that its device does not hold is one.
    """
    if pod.phase is not PodPhase.PENDING or not pod.bound:
        return ""
    waited = now - pod.created_at
    where = f"pod {pod.key.name} on {pod.node}"
    if pod.waiting_reason in ("CreateContainerConfigError", "CreateContainerError"):
        return f"{where} can't start: {pod.waiting_message}; create what is missing, or correct the EdgeApp"
    if pod.waiting_reason in IMAGE_REASONS:
        return f"{where} can't start: {pod.waiting_message}"
    if pod.waiting_reason == "ContainerCreating" and waited >= timedelta(seconds=30):
        namespace = pod.key.namespace
        look = f"kubectl describe pod -n {namespace} {pod.key.name}"
        if pod.bundle and f"{namespace}/{pod.bundle}" not in held:
            asked = f"was it pushed to the gateway for namespace {namespace}?"
            return f"{where} waits for bundle sha256:{pod.bundle}, not on the device yet: {asked} ({look})"
        return f"{where} waits for its volumes: are the ConfigMaps and Secrets that the EdgeApp names there? ({look})"
    return ""


def may_retry(spec: EdgeJobSpec, attempts: Sequence[Attempt]) -> bool:
    """Whether the job may have another attempt after these, all of which ended badly."""
    last = attempts[-1]
    if last.outcome is Outcome.FAILED and (
        last.reason in NEVER_RETRIED or last.exit_code in spec.retry.non_retriable_exit_codes
    ):
        return False
    return failures(attempts) < spec.retry.max_attempts and disruptions(attempts) <= spec.retry.max_disruptions


def failures(attempts: Sequence[Attempt]) -> int:
    """How many attempts failed by the app's own fault."""
    return sum(one.outcome is Outcome.FAILED for one in attempts)


def disruptions(attempts: Sequence[Attempt]) -> int:
    """How many attempts were lost by no fault of the app."""
    return sum(one.outcome in DISRUPTIONS for one in attempts)


def back_off(spec: EdgeJobSpec, attempts: Sequence[Attempt]) -> timedelta:
    """How long to wait after the last attempt: doubled with each failure in a row, at once after a first disruption."""
    same = 0
    for one in reversed(attempts):
        if (one.outcome in DISRUPTIONS) != (attempts[-1].outcome in DISRUPTIONS):
            break
        same += 1
    if attempts[-1].outcome in DISRUPTIONS:
        same -= 1
    if same <= 0:
        return timedelta()
    seconds = spec.retry.backoff_seconds * 2 ** min(same - 1, 30)
    return timedelta(seconds=min(seconds, spec.retry.max_backoff_seconds))
