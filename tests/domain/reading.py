"""What a test reads off a plan: the status of its one job or device after it, pods made and deleted, events told."""

from dataclasses import replace
from typing import Any

from edgewise.api import Attempt, EdgeJobStatus, EdgeNodeStatus, Outcome
from edgewise.domain.actions import CreatePod, DeletePod, PatchStatus, Plan
from edgewise.domain.views import JobView, PodPhase

from tests.domain.builders import (
    NOW,
    pod,
    seconds,
)

RUNNING, DONE, FAILED = pod(), pod(PodPhase.SUCCEEDED), pod(PodPhase.FAILED)
WAITING = pod(PodPhase.PENDING, started_at=None)


def status(plan: Plan) -> EdgeJobStatus:
    """The job's status after the plan."""
    return EdgeJobStatus.model_validate(_written(plan, "edgejobs"))


def node_status(plan: Plan) -> EdgeNodeStatus:
    """The device's status after a plan that writes to one device only."""
    return EdgeNodeStatus.model_validate(_written(plan, "edgenodes"))


def _written(plan: Plan, plural: str) -> dict[str, Any]:
    """What the plan writes as the status of its only object of the kind."""
    patches = [action for action in plan.actions if isinstance(action, PatchStatus) and action.plural == plural]
    assert len(patches) == 1, plan.actions
    return patches[0].new


def awaited(plan: Plan) -> bool:
    """Whether the write of the job's status is one that decisions wait for."""
    return any(action.awaited for action in plan.actions if isinstance(action, PatchStatus))


def after(plan: Plan, view: JobView) -> JobView:
    """The job as the API holds it once the plan is carried out."""
    return replace(view, status=status(plan))


def conditions(one: EdgeJobStatus) -> set[str]:
    return {condition.type for condition in one.conditions if condition.status == "True"}


def reason(one: EdgeJobStatus, name: str) -> tuple[str, str]:
    return next((condition.reason, condition.message) for condition in one.conditions if condition.type == name)


def deleted(plan: Plan) -> set[str]:
    return {action.uid for action in plan.actions if isinstance(action, DeletePod)}


def created(plan: Plan) -> list[str]:
    return [action.manifest["metadata"]["name"] for action in plan.actions if isinstance(action, CreatePod)]


def told(plan: Plan) -> list[str]:
    """The reasons of the events."""
    return [event.reason for action in plan.actions if isinstance(action, PatchStatus) for event in action.events]


def attempt(number: int, outcome: Outcome, **values: Any) -> Attempt:
    whole = {"number": number, "node": "edge-1", "pod_name": f"run-7bcca-{number}", "outcome": outcome} | values
    return Attempt.model_validate({"pod_uid": f"{number:08d}-0000-4000-8000-000000000001"} | whole)


def failing(count: int, **values: Any) -> EdgeJobStatus:
    finished = {"finished_at": NOW - seconds(1000), "reason": "AppError", "exit_code": 3} | values
    return EdgeJobStatus(attempts=tuple(attempt(number + 1, Outcome.FAILED, **finished) for number in range(count)))
