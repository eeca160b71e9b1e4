"""Rules on whole objects, against a real API server: names, and what may change after an object's creation."""

from typing import Any, Final

import pytest
from edgewise.api import EDGE_APP, EDGE_CRON_JOB, EDGE_JOB, EDGE_NODE, EDGE_STREAM, KINDS, EdgeJobSpec, Kind
from edgewise.api.edge_job import CHANGEABLE
from edgewise.api.schema import api_name

from tests.api.cluster import Cluster, Refused
from tests.api.examples import EXAMPLES, named

LONG_NAME: Final = "a" * 52

UNCHANGING: Final[dict[str, Any]] = {
    "appRef": {"name": "other"},
    "args": [],
    "extraArgs": ["--other"],
    "env": [],
    "envFrom": [],
    "placement": {"policy": "Other"},
    "retry": {"maxAttempts": 4},
    "disconnect": {"replaceAfterSeconds": "Never"},
    "activeDeadlineSeconds": 3601,
    "queueDeadlineSeconds": 3601,
    "completions": 2,
    "parallelism": 2,
}
"""For each field of an EdgeJob's spec that must not change, a value other than the example's."""

CHANGING: Final[dict[str, Any]] = {
    "suspend": False,
    "priority": -7,
    "retention": {"pods": "2h", "results": "Forever"},
    "cancel": True,
}
"""For each field that may change, a value other than the example's."""


def spec_of(kind: Kind, name: str) -> dict[str, Any]:
    """An example's manifest without its status."""
    return {part: value for part, value in named(EXAMPLES[kind.name][0], name).items() if part != "status"}


@pytest.mark.parametrize("kind", [EDGE_APP, EDGE_JOB], ids=lambda kind: kind.name)
def test_a_name_leaves_room_for_the_pods_name(cluster: Cluster, kind: Kind) -> None:
    cluster.create(kind, spec_of(kind, LONG_NAME))
    with pytest.raises(Refused, match="the name must have at most 52 characters"):
        cluster.create(kind, spec_of(kind, f"{LONG_NAME}a"))


def test_a_cron_jobs_name_leaves_room_for_its_runs_names(cluster: Cluster) -> None:
    cluster.create(EDGE_CRON_JOB, spec_of(EDGE_CRON_JOB, "a" * 41))
    with pytest.raises(Refused, match="the name must have at most 41 characters"):
        cluster.create(EDGE_CRON_JOB, spec_of(EDGE_CRON_JOB, "a" * 42))


def test_a_streams_name_leaves_room_for_its_runs_names(cluster: Cluster) -> None:
    cluster.create(EDGE_STREAM, spec_of(EDGE_STREAM, "a" * 41))
    with pytest.raises(Refused, match="the name must have at most 41 characters"):
        cluster.create(EDGE_STREAM, spec_of(EDGE_STREAM, "a" * 42))


def test_an_edge_node_may_have_any_name_of_a_node(cluster: Cluster) -> None:
    cluster.create(EDGE_NODE, spec_of(EDGE_NODE, "ip-10-0-0-1." + "a" * 200))


def test_every_field_of_a_jobs_spec_is_known_to_change_or_not() -> None:
    assert {api_name(name) for name in EdgeJobSpec.model_fields} == {*UNCHANGING, *CHANGING}
    assert set(CHANGING) == CHANGEABLE


@pytest.mark.parametrize("field", UNCHANGING)
def test_a_job_does_not_change(cluster: Cluster, stored: dict[str, str], field: str) -> None:
    with pytest.raises(Refused) as refused:
        cluster.patch(EDGE_JOB, stored["EdgeJob"], {"spec": {field: UNCHANGING[field]}})
    (cause,) = refused.value.causes
    assert cause.field == f"spec.{field}"
    assert "delete the EdgeJob and create it anew" in cause.message


@pytest.mark.parametrize("field", [field for field in UNCHANGING if field != "appRef"])
def test_what_a_job_says_can_not_be_taken_away(cluster: Cluster, stored: dict[str, str], field: str) -> None:
    """Also a field with a default: the example differs from it, except in the number of completions."""
    removal = [{"op": "remove", "path": f"/spec/{field}"}]
    if field in ("completions", "disconnect"):
        assert cluster.patch(EDGE_JOB, stored["EdgeJob"], removal)["spec"][field]
    else:
        with pytest.raises(Refused, match=f"{field} can't be changed"):
            cluster.patch(EDGE_JOB, stored["EdgeJob"], removal)


@pytest.mark.parametrize("field", ["args", "extraArgs", "env", "activeDeadlineSeconds", "parallelism"])
def test_what_a_job_does_not_say_can_not_be_added(cluster: Cluster, field: str) -> None:
    name = "edgewise-kinds-bare"
    bare = {"apiVersion": "edgewise.dev/v1alpha1", "kind": "EdgeJob", "metadata": {"name": name}}
    cluster.create(EDGE_JOB, {**bare, "spec": {"appRef": {"name": "other"}, "suspend": True}}, dry_run=False)
    try:
        with pytest.raises(Refused, match=f"{field} can't be changed"):
            cluster.patch(EDGE_JOB, name, {"spec": {field: UNCHANGING[field]}})
    finally:
        cluster.delete(EDGE_JOB, name)


@pytest.mark.parametrize("field", CHANGING)
def test_a_job_may_be_steered(cluster: Cluster, stored: dict[str, str], field: str) -> None:
    answer = cluster.patch(EDGE_JOB, stored["EdgeJob"], {"spec": {field: CHANGING[field]}})
    assert answer["spec"][field] == CHANGING[field]


def test_a_cancelled_job_stays_cancelled(cluster: Cluster) -> None:
    name = "edgewise-kinds-cancelled"
    manifest = spec_of(EDGE_JOB, name)
    cluster.create(EDGE_JOB, {**manifest, "spec": {**manifest["spec"], "cancel": True}}, dry_run=False)
    try:
        cluster.patch(EDGE_JOB, name, {"spec": {"cancel": True, "priority": 3}})
        with pytest.raises(Refused, match="cancel can't be taken back: create another EdgeJob"):
            cluster.patch(EDGE_JOB, name, {"spec": {"cancel": False}})
        with pytest.raises(Refused, match="cancel can't be taken back: create another EdgeJob"):
            cluster.patch(EDGE_JOB, name, [{"op": "remove", "path": "/spec/cancel"}])
    finally:
        cluster.delete(EDGE_JOB, name)


def test_every_rule_on_a_whole_object_is_tested_here() -> None:
    rules = {rule.message.partition(" ")[0] for kind in KINDS for rule in kind.rules}
    assert rules == {"the", "cancel", *UNCHANGING}, "a rule was added: test it, and name it here"


@pytest.mark.parametrize("kind", [EDGE_APP, EDGE_NODE, EDGE_CRON_JOB, EDGE_STREAM], ids=lambda kind: kind.name)
def test_what_is_no_job_may_be_changed(cluster: Cluster, stored: dict[str, str], kind: Kind) -> None:
    changes: dict[str, dict[str, Any]] = {
        "EdgeApp": {"image": "python:3.14"},
        "EdgeNode": {"maintenance": True},
        "EdgeCronJob": {"schedule": "@daily", "suspend": False},
        "EdgeStream": {"suspend": False, "runsHistoryLimit": 1},
    }
    change = changes[kind.name]
    answer = cluster.patch(kind, stored[kind.name], {"spec": change})
    assert change.items() <= answer["spec"].items()
