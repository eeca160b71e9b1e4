"""Logs of pods without output volume: which a device is asked for, how long their pods stay, what becomes of them."""

from dataclasses import replace
from datetime import timedelta

import pytest
from edgewise.api import EdgeJobStatus
from edgewise.domain.podlogs import LOGS_GRACE, MOST_NAMED, logs_wanted
from edgewise.domain.retention import retain
from edgewise.domain.verdicts import verdict
from edgewise.domain.views import JobView, NodeView, PodPhase, PodView
from edgewise_agent import wire
from msgspec import structs

from tests.domain.builders import JOB_UID, NOW, app, beat, device, job, manifest, planned, pod, seconds
from tests.domain.reading import after, conditions, deleted, status

RUNNING, DONE = pod(has_outputs=False), pod(PodPhase.SUCCEEDED, has_outputs=False)
TAKEN = wire.VolumeReport(pod_uid=DONE.uid, job_uid=JOB_UID, attempt=1, state=wire.VolumeState.SPOOLED)


def finished(retention: str | None = "0s", ago: float = 0) -> JobView:
    """A job whose only attempt ended `ago` seconds before now."""
    view = job(spec={"retention": {"pods": retention}})
    ended = after(planned(jobs=(view,), apps=(app(outputs=None),), pods=(DONE,)), view)
    return replace(ended, status=ended.status.model_copy(update={"completion_time": NOW - seconds(ago)}))


def test_a_device_is_asked_for_the_logs_of_pods_without_output_volume() -> None:
    ended = pod(PodPhase.FAILED, attempt=2, has_outputs=False)
    wanted = logs_wanted(
        (
            ended,
            replace(RUNNING, deleting=True),
            pod(attempt=3),
            pod(attempt=4, has_outputs=False, bound=False),
            pod(PodPhase.SUCCEEDED, attempt=5, has_outputs=False),
        ),
        {f"{5:08d}-0000-4000-8000-000000000001"},
    )
    assert [(one.pod_uid, one.attempt, one.ended) for one in wanted] == [(RUNNING.uid, 1, False), (ended.uid, 2, True)]
    assert (wanted[0].namespace, wanted[0].pod_name, wanted[0].job, wanted[0].job_uid) == (
        "demo",
        "run-7bcca-1",
        "run",
        JOB_UID,
    )


def test_an_answer_names_a_bounded_number_of_pods_those_that_run_first() -> None:
    many = [pod(PodPhase.SUCCEEDED, attempt=number + 2, has_outputs=False) for number in range(MOST_NAMED)]
    wanted = logs_wanted((*many, RUNNING), set())
    assert len(wanted) == MOST_NAMED
    assert wanted[0].pod_uid == RUNNING.uid


def retained(
    one: PodView, view: JobView, node: NodeView | None, later: timedelta = timedelta()
) -> tuple[bool, float | None]:
    """Whether the pod stays, and in how many seconds it is looked at again."""
    nodes = {} if node is None else {node.name: node}
    deletions, wake_at = retain(view, (one,), nodes, NOW + later)
    return not deletions, None if wake_at is None else (wake_at - NOW - later).total_seconds()


def test_the_ended_pod_of_a_finished_job_stays_a_minute_for_its_logs() -> None:
    node, view = device(), finished("0s")
    assert retained(DONE, view, node) == (True, 60)
    assert retained(DONE, view, node, seconds(59)) == (True, 1)
    assert retained(DONE, view, node, LOGS_GRACE) == (False, None)


@pytest.mark.parametrize(
    ("one", "node", "why"),
    [
        (DONE, device(beat=beat(volumes=(TAKEN,))), "its logs are taken"),
        (DONE, device(beat=None), "its device has never reported"),
        (DONE, None, "its device is no more"),
        (replace(DONE, has_outputs=True), device(), "its logs came with its volume"),
        (RUNNING, device(), "it runs: its logs are held open"),
    ],
)
def test_a_pod_whose_logs_are_not_waited_for_goes_at_once(one: PodView, node: NodeView | None, why: str) -> None:
    assert retained(one, finished("0s"), node) == (False, None), why


def test_a_longer_retention_holds_whatever_becomes_of_the_logs() -> None:
    node = device(beat=beat(volumes=(TAKEN,)))
    assert retained(DONE, finished("1h"), node) == (True, 3600)
    assert retained(DONE, finished("30s"), device(), seconds(40)) == (True, 20)
    assert retained(DONE, finished(None), device(), timedelta(days=365)) == (True, None)


def test_a_job_without_pods_is_not_looked_at() -> None:
    assert retain(finished("0s"), (), {}, NOW) == ([], None)


def test_the_plan_keeps_the_pod_and_looks_again() -> None:
    view = finished("0s")
    plan = planned(jobs=(view,), apps=(app(outputs=None),), pods=(DONE,))
    assert deleted(plan) == set()
    assert plan.wake_at is not None
    assert plan.wake_at <= NOW + LOGS_GRACE
    taken = planned(jobs=(view,), apps=(app(outputs=None),), pods=(DONE,), nodes=(device(beat=beat(volumes=(TAKEN,))),))
    assert deleted(taken) == {DONE.uid}


@pytest.mark.parametrize("view", [job(), finished(), job(status=EdgeJobStatus(), spec={"cancel": True})])
def test_logs_alone_are_set_aside_at_once_whatever_becomes_of_the_job(view: JobView) -> None:
    logs = structs.replace(manifest(DONE, files=0), logs_only=True)
    assert verdict(logs, view) is wire.Verdict.SUPERSEDED
    assert verdict(logs, None) is wire.Verdict.GONE
    assert verdict(logs, replace(view, uid="99999999-0000-4000-8000-000000000001")) is wire.Verdict.GONE


@pytest.mark.parametrize("state", [wire.VolumeState.SPOOLED, wire.VolumeState.FAILED, wire.VolumeState.DISCARDED])
def test_a_job_without_outputs_waits_for_no_logs(state: wire.VolumeState) -> None:
    node = device(beat=beat(volumes=(structs.replace(TAKEN, state=state),)))
    shown = status(planned(jobs=(job(),), apps=(app(outputs=None),), pods=(DONE,), nodes=(node,)))
    assert {"Complete", "Finished"} <= conditions(shown)
    assert shown.results is None
