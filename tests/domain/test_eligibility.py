"""Why a device can't take a job: each rule with a device that it rejects, and the reason that people read."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from edgewise.domain.demand import Demand, Usage, requested
from edgewise.domain.eligibility import DEVICE_RULES, JOB_RULES, Candidacy, rejection, tolerated
from edgewise.domain.liveness import Liveness, liveness
from edgewise.domain.views import Installation, LeaseView, NodeView, Taint

from tests.domain.builders import app, beat, device, job, kube, seconds

GPU = {"requests": {"cpu": "100m", "nvidia.com/gpu": "1"}}


def candidacy(
    node: NodeView, usage: Usage | None = None, app_spec: dict[str, Any] | None = None, **spec: Any
) -> Candidacy:
    asked, what = job(spec=spec), app(**(app_spec or {}))
    demand = Demand(asked.key, asked.uid, asked.spec, what.spec, requested(what.spec), set_uid="the-set")
    return Candidacy(node, demand, usage or Usage(), Installation())


REJECTED = [
    ("Dead", "no Node of this name", candidacy(device(kube=None))),
    ("Dead", "none of its kubelet", candidacy(device(kube=kube(ready=None), beat=beat(age=21)))),
    ("KubeletDown", "silent for 5 minutes", candidacy(device(kube=kube(ready=None), kubelet_lost_for=seconds(300)))),
    ("NotReady", "fallen silent", candidacy(device(kube=kube(ready=None), kubelet_lost_for=seconds(299)))),
    (
        "OutOfService",
        "remove its taint node.kubernetes.io/out-of-service",
        candidacy(device(kube=kube(taints=(Taint("node.kubernetes.io/out-of-service", "nodeshutdown", "NoExecute"),)))),
    ),
    ("Stale", "no beat for 16 s", candidacy(device(beat=beat(age=16)))),
    ("Stale", "not reported yet", candidacy(device(beat=None))),
    ("NotReady", "can't run pods", candidacy(device(kube=kube(ready=False)))),
    ("NotReady", "fallen silent", candidacy(device(kube=kube(ready=None)))),
    ("Maintenance", "spec.maintenance", candidacy(device(spec={"maintenance": True}))),
    ("Maintenance", "cordoned", candidacy(device(kube=kube(unschedulable=True)))),
    ("TooHot", "91 °C, critical 85 °C", candidacy(device(beat=beat(celsius=91)))),
    (
        "TooHot",
        "critical 60 °C",
        candidacy(device(spec={"thermal": {"throttleCelsius": 50, "criticalCelsius": 60}}, beat=beat(celsius=60))),
    ),
    ("SpoolFull", "unsent results", candidacy(device(beat=beat(spool=(10, 10))))),
    ("SpoolFull", "1 byte is free", candidacy(device(beat=beat(full="1 byte is free, the floor is 2")))),
    (
        "Pressure",
        "memory-pressure",
        candidacy(device(kube=kube(taints=(Taint("node.kubernetes.io/memory-pressure", "", "NoSchedule"),)))),
    ),
    ("Selector", "the job wants edge-2", candidacy(device(), placement={"nodeName": "edge-2"})),
    (
        "MaxPerDevice",
        "2 of the set's runs are there",
        candidacy(device(), Usage(jobs=2, siblings=Counter({"the-set": 2})), placement={"maxPerDevice": 2}),
    ),
    ("Full", "4 of 4 slots", candidacy(device(), Usage(jobs=4))),
    ("Full", "0 of 0 slots", candidacy(device(spec={"slots": 0}))),
    (
        "Selector",
        "its label site is north",
        candidacy(device(kube=kube(labels={"site": "north"})), placement={"nodeSelector": {"site": "south"}}),
    ),
    (
        "Selector",
        "its label site is not set",
        candidacy(device(), app_spec={"requires": {"nodeSelector": {"site": "south"}}}),
    ),
    (
        "Selector",
        "wanted Gt 8",
        candidacy(
            device(kube=kube(labels={"cores": "4"})),
            placement={"affinity": [{"key": "cores", "operator": "Gt", "values": ["8"]}]},
        ),
    ),
    (
        "Selector",
        "wanted In a b",
        candidacy(device(), placement={"affinity": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]}),
    ),
    (
        "Selector",
        "wanted DoesNotExist",
        candidacy(
            device(kube=kube(labels={"old": ""})), placement={"affinity": [{"key": "old", "operator": "DoesNotExist"}]}
        ),
    ),
    (
        "Architecture",
        "it is amd64, the app runs on arm64",
        candidacy(device(), app_spec={"requires": {"architectures": ["arm64"]}}),
    ),
    ("Taint", "team=red:NoSchedule", candidacy(device(kube=kube(taints=(Taint("team", "red", "NoSchedule"),))))),
    ("DoesNotFit", "nvidia.com/gpu: 1 requested, 0 free", candidacy(device(), app_spec={"resources": GPU})),
    ("DoesNotFit", "cpu: 5 requested, 4 free", candidacy(device(), app_spec={"resources": {"requests": {"cpu": "5"}}})),
]


@pytest.mark.parametrize(("reason", "words", "one"), REJECTED)
def test_rejected(reason: str, words: str, one: Candidacy) -> None:
    why = rejection(one)
    assert why is not None
    assert why.reason == reason
    assert words in why.message
    assert why.node == one.node.name


def test_every_rule_has_a_case() -> None:
    reasons = {rule.__name__ for _, _, one in REJECTED for rule in DEVICE_RULES if rule(one.node, one.installation)} | {
        rule.__name__ for _, _, one in REJECTED for rule in JOB_RULES if rule(one)
    }
    assert reasons == {rule.__name__ for rule in (*DEVICE_RULES, *JOB_RULES)}


ACCEPTED = [
    candidacy(device(), placement={"nodeName": "edge-1"}),
    candidacy(device(), Usage(jobs=3, siblings=Counter({"the-set": 1, "other": 2})), placement={"maxPerDevice": 2}),
    candidacy(device()),
    candidacy(device(beat=beat(age=14))),
    candidacy(device(beat=beat(celsius=None))),
    candidacy(device(), Usage(jobs=3)),
    candidacy(device(kube=kube(taints=(Taint("team", "red", "PreferNoSchedule"),)))),
    candidacy(
        device(kube=kube(taints=(Taint("team", "red", "NoSchedule"),))),
        app_spec={"tolerations": [{"key": "team", "operator": "Exists"}]},
    ),
    candidacy(device(), app_spec={"resources": {"requests": {"cpu": "4"}}}),
    candidacy(
        device(kube=kube(labels={"cores": "16"})),
        placement={"affinity": [{"key": "cores", "operator": "Gt", "values": ["8"]}]},
    ),
]


@pytest.mark.parametrize("one", ACCEPTED)
def test_accepted(one: Candidacy) -> None:
    assert rejection(one) is None


def test_a_dead_agent_on_a_living_device_is_stale_not_dead() -> None:
    why = rejection(candidacy(device(beat=beat(age=3600))))
    assert why is not None
    assert why.reason == "Stale"


def test_a_new_leader_does_not_take_its_own_youth_for_silence() -> None:
    fresh = device(beat=None, kube=kube(ready=None), leading_for=seconds(1))
    why = rejection(candidacy(fresh))
    assert why is not None
    assert why.reason == "Stale"
    old = replace(fresh, leading_for=seconds(60))
    why = rejection(candidacy(old))
    assert why is not None
    assert why.reason == "Dead"


@pytest.mark.parametrize(
    ("toleration", "expected"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "team", "operator": "Exists"}, True),
        ({"key": "team", "value": "red"}, True),
        ({"key": "team", "value": "blue"}, False),
        ({"key": "other", "operator": "Exists"}, False),
        ({"key": "team", "operator": "Exists", "effect": "NoExecute"}, False),
    ],
)
def test_tolerations_are_kubernetes_own(toleration: dict[str, str], expected: bool) -> None:
    tolerations = app(tolerations=[toleration]).spec.tolerations
    assert tolerated(Taint("team", "red", "NoSchedule"), tolerations) is expected


def test_death_needs_two_witnesses() -> None:
    """Beats and the kubelet's Lease, long before Kubernetes itself gives the node up."""
    silent = device(beat=beat(age=21))
    renewed = LeaseView(seconds(3), seconds(10))
    missed = LeaseView(seconds(13), seconds(10))
    assert liveness(silent, seconds(10)) is Liveness.STALE
    assert liveness(replace(silent, lease=renewed), seconds(10)) is Liveness.STALE
    assert liveness(replace(silent, lease=missed), seconds(10)) is Liveness.DEAD
    assert liveness(device(beat=beat(age=5), lease=missed), seconds(10)) is Liveness.FRESH
