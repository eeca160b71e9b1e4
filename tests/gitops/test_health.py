"""Whoever deploys objects of Edgewise by GitOps is told the truth of them at every moment of their lives.

The objects are what the operator's own plan writes in that moment.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from edgewise.api import KINDS, EdgeJobStatus, Outcome, Phase
from edgewise.domain.actions import PatchStatus, Plan
from edgewise.domain.lifecycle import PATIENCE, REFUSALS
from edgewise.domain.views import JobView, Refusal

from tests.domain.builders import (
    JOB_UID,
    NOW,
    STREAM_UID,
    app,
    beat,
    cron,
    device,
    job,
    manifest,
    planned,
    seconds,
    stream,
)
from tests.domain.reading import DONE, FAILED, RUNNING, WAITING
from tests.domain.test_streams import at_work, condition, ended, run, settled
from tests.gitops.health import Verdict, cel_expressions, judged, lua_scripts

WORKING = Verdict("InProgress", "Progressing", "InProgress")
GOOD = Verdict("Current", "Healthy", "Current")
PAUSED = Verdict("Current", "Suspended", "Current")
BROKEN = Verdict("Failed", "Degraded", "Failed")

_PLURALS = {kind.name: kind.plural for kind in KINDS}


def held(kind: str, plan: Plan, spec: dict[str, Any] | None = None, generation: int = 1) -> dict[str, Any]:
    """The object as the API holds it once the plan is carried out."""
    written = [one.new for one in plan.actions if isinstance(one, PatchStatus) and one.plural == _PLURALS[kind]]
    assert len(written) == 1, written
    return bare(kind, written[0], spec, generation)


def bare(kind: str, status: dict[str, Any], spec: dict[str, Any] | None = None, generation: int = 1) -> dict[str, Any]:
    metadata = {"name": "one", "namespace": "demo", "uid": "1", "generation": generation}
    return {
        "apiVersion": "edgewise.dev/v1alpha1",
        "kind": kind,
        "metadata": metadata,
        "spec": spec or {},
        "status": status,
    }


def a_job(spec: dict[str, Any] | None = None, generation: int = 1, **world: Any) -> dict[str, Any]:
    """An EdgeJob in that world; `spec` changes its spec, `generation` is that of an edit not seen yet."""
    plan = planned(**({"jobs": (job(spec=spec or {}),)} | world))
    return held("EdgeJob", plan, spec, generation)


def a_cron(spec: dict[str, Any] | None = None, **world: Any) -> dict[str, Any]:
    return held("EdgeCronJob", planned(crons=(cron(spec=spec or {}, created_at=NOW),), **world), spec)


def a_stream(spec: dict[str, Any] | None = None, *runs: JobView, **world: Any) -> dict[str, Any]:
    of = stream(spec=spec or {}, status=settled())
    return held("EdgeStream", planned(**({"streams": (of,), "jobs": runs, "apps": ()} | world)), spec)


def an_app(**spec: Any) -> dict[str, Any]:
    return held("EdgeApp", planned(apps=(app(**spec),), nodes=()))


def a_device(spec: dict[str, Any] | None = None, **values: Any) -> dict[str, Any]:
    return held("EdgeNode", planned(nodes=(device(spec=spec or {}, **values),), apps=()), spec)


BEYOND = NOW - PATIENCE
NO_SECRET = replace(WAITING, waiting_reason="CreateContainerConfigError", waiting_message="no secret")
ONE_ATTEMPT = {"retry": {"maxAttempts": 1}}


NO_APP = EdgeJobStatus(phase=Phase.PENDING, conditions=(condition("Stalled", reason="AppNotFound", message="none"),))
CANCELLED = ended(outcome=Outcome.CANCELLED, phase=Phase.CANCELLED)
REFUSED_RUN = {STREAM_UID: Refusal("exceeded quota", NOW + seconds(5), 1)}


def refused(times: int) -> dict[str, Any]:
    return {"refusals": {JOB_UID: Refusal("exceeded quota", NOW + seconds(5), times)}}


MOMENTS: list[tuple[str, Callable[[], dict[str, Any]], Verdict]] = [
    ("a new job", lambda: bare("EdgeJob", {"observedGeneration": -1}), WORKING),
    ("a job whose edit is not seen yet", lambda: a_job(generation=2, pods=(RUNNING,)), WORKING),
    ("a job that no device can take", lambda: a_job(nodes=()), WORKING),
    ("a job whose app is not there yet", lambda: a_job(jobs=(job(created_at=NOW),), apps=()), WORKING),
    ("a job whose app never came", lambda: a_job(jobs=(job(created_at=BEYOND),), apps=()), BROKEN),
    ("a bound job", lambda: a_job(pods=(replace(WAITING, bound=False),)), WORKING),
    ("a job whose Secret is not there yet", lambda: a_job(pods=(NO_SECRET,)), WORKING),
    (
        "a job whose Secret never came",
        lambda: a_job(pods=(replace(NO_SECRET, created_at=BEYOND),)),
        BROKEN,
    ),
    ("a job whose pod is refused", lambda: a_job(**refused(1)), WORKING),
    ("a job whose pod is refused again and again", lambda: a_job(**refused(REFUSALS)), BROKEN),
    ("a running job", lambda: a_job(pods=(RUNNING,)), WORKING),
    ("a job whose device died", lambda: a_job(pods=(RUNNING,), nodes=(device(beat=beat(age=999)),)), WORKING),
    ("a job between two attempts", lambda: a_job(pods=(FAILED,)), WORKING),
    ("a job whose results are on their way", lambda: a_job(pods=(replace(DONE, finished_at=None),)), WORKING),
    ("a job whose results are home", lambda: a_job(pods=(DONE,), manifests=(manifest(DONE),)), GOOD),
    (
        "a job of which some results were refused",
        lambda: a_job(pods=(DONE,), manifests=(manifest(DONE, refused=1),)),
        GOOD,
    ),
    ("a job that left nothing", lambda: a_job(pods=(DONE,), manifests=(manifest(DONE, files=0),)), BROKEN),
    ("a job that failed for good", lambda: a_job(ONE_ATTEMPT, pods=(FAILED,)), BROKEN),
    ("a job that is suspended", lambda: a_job({"suspend": True}), PAUSED),
    ("a job that somebody cancelled", lambda: a_job({"cancel": True}), GOOD),
    ("a job that can't be run", lambda: a_job({"placement": {"policy": "Guess"}}), BROKEN),
    ("a new schedule", lambda: bare("EdgeCronJob", {"observedGeneration": -1}), WORKING),
    ("a schedule", a_cron, GOOD),
    ("a suspended schedule", lambda: a_cron({"suspend": True}), PAUSED),
    ("a schedule in a zone that is not there", lambda: a_cron({"timeZone": "Mars/Olympus"}), BROKEN),
    ("a new stream", lambda: bare("EdgeStream", {"observedGeneration": -1}), WORKING),
    ("a stream whose run waits for a device", lambda: a_stream({}, run(1)), WORKING),
    ("a stream that runs", lambda: a_stream({}, run(1, at_work())), GOOD),
    ("a stream between two runs", lambda: a_stream({}, run(1, ended())), WORKING),
    ("a stream whose app is not there", lambda: a_stream({}, run(1, NO_APP)), BROKEN),
    ("a stream whose run is refused", lambda: a_stream({}, refusals=REFUSED_RUN), BROKEN),
    (
        "a stream that is about to be suspended",
        lambda: a_stream({"suspend": True}, run(1, at_work())),
        Verdict("InProgress", "Suspended", "InProgress"),
    ),
    ("a suspended stream", lambda: a_stream({"suspend": True}, run(1, CANCELLED)), PAUSED),
    ("a new app", lambda: bare("EdgeApp", {"observedGeneration": -1}), WORKING),
    ("an app", an_app, GOOD),
    ("an app that can't be run", lambda: an_app(inputs=[{"name": "p", "mountPath": "/data"}]), BROKEN),
    ("a new device", lambda: bare("EdgeNode", {"observedGeneration": -1}), WORKING),
    ("a device", a_device, GOOD),
    ("a device in maintenance", lambda: a_device({"maintenance": True}), Verdict("InProgress", "Suspended", "Current")),
    ("a silent device", lambda: a_device(beat=beat(age=999)), Verdict("InProgress", "Degraded", "Current")),
]


@pytest.fixture(scope="module")
def verdicts() -> dict[str, Verdict]:
    """The verdicts on all moments, by one run of the program."""
    objects = [make() for _, make, _ in MOMENTS]
    return dict(zip([name for name, _, _ in MOMENTS], judged(objects), strict=True))


@pytest.mark.parametrize(("name", "expected"), [(name, expected) for name, _, expected in MOMENTS])
def test_each_moment_is_told_as_it_is(verdicts: dict[str, Verdict], name: str, expected: Verdict) -> None:
    assert replace(verdicts[name], message="") == expected


@pytest.mark.parametrize("name", [name for name, _, expected in MOMENTS if expected is BROKEN])
def test_what_is_wrong_is_said(verdicts: dict[str, Verdict], name: str) -> None:
    assert len(verdicts[name].message) > len("Degraded")


def test_no_kind_is_forgotten() -> None:
    kinds = {kind.name for kind in KINDS}
    assert set(lua_scripts()) == set(cel_expressions()) == kinds
