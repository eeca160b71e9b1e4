"""Which device takes which job: the best one, in the queue's order, with reservations that the next job sees."""

from collections import Counter
from typing import Any

import pytest
from edgewise.api import EdgeJobStatus, EdgeNodeStatus
from edgewise.domain.actions import CreatePod, PatchStatus
from edgewise.domain.board import Board
from edgewise.domain.demand import Demand, Usage, requested, usage_of
from edgewise.domain.images import full_name
from edgewise.domain.placement import place
from edgewise.domain.policies import device_score
from edgewise.domain.views import AppView, BeatView, Installation, JobView, KubeNode, PodPhase

from tests.domain.builders import GIB, NOW, app, beat, device, job, kube, planned, pod, seconds, snapshot

FAST, SLOW = beat(events=12_000), beat(events=3_000)


def placed(**values: Any) -> list[tuple[str, str]]:
    """The created pods, as (job, device), in the plan's order."""
    actions = planned(**values).actions
    created = [action for action in actions if isinstance(action, CreatePod)]
    return [(one.job.name, one.manifest["metadata"]["labels"]["edgewise.dev/node"]) for one in created]


def many(count: int) -> tuple[JobView, ...]:
    return tuple(job(f"run-{number}", uid=f"{number:08d}-0000-4000-8000-000000000000") for number in range(count))


def test_the_best_device_wins() -> None:
    nodes = (device("edge-1", beat=SLOW), device("edge-2", beat=FAST), device("edge-3", beat=beat(celsius=84)))
    assert placed(nodes=nodes, jobs=(job(),)) == [("run", "edge-2")]


def test_a_burst_spreads_by_score() -> None:
    """Stale figures say that all devices are idle; reservations alone keep the burst off one device."""
    nodes = (device("edge-1", beat=beat(events=12_000, free=0)), device("edge-2", beat=beat(events=6_000, free=0)))
    counts = Counter(
        node
        for _, node in placed(
            nodes=nodes, jobs=many(30), installation=Installation(default_policy="Score", default_slots=100)
        )
    )
    assert counts == {"edge-1": 20, "edge-2": 10}


@pytest.mark.parametrize("policy", ["Score", "ExpectedFinish"])
def test_a_burst_of_100_is_spread_by_speed_and_over_no_slots(policy: str) -> None:
    """The beats are stale within the burst: nothing but reservations tells what was placed before."""
    speeds = {f"edge-{n}": events for n, events in enumerate((12_000, 9_000, 6_000, 6_000, 3_000), 1)}
    nodes = tuple(device(name, beat=beat(age=9, free=0, events=events)) for name, events in speeds.items())
    wide = Installation(default_policy=policy, default_slots=40)
    counts = Counter(node for _, node in placed(nodes=nodes, jobs=many(100), installation=wide))
    assert sum(counts.values()) == 100
    assert max(counts.values()) <= 40
    loads = [counts[name] / events for name, events in speeds.items()]
    assert max(loads) / (sum(loads) / len(loads)) <= 1.10
    narrow = Installation(default_policy=policy, default_slots=4)
    assert Counter(node for _, node in placed(nodes=nodes, jobs=many(100), installation=narrow)) == dict.fromkeys(
        speeds, 4
    )


def test_slots_bound_a_burst() -> None:
    nodes = (device("edge-1"), device("edge-2", spec={"slots": 2}))
    counts = Counter(node for _, node in placed(nodes=nodes, jobs=many(30)))
    assert counts == {"edge-1": 4, "edge-2": 2}


def test_requests_bound_a_burst() -> None:
    hungry = app(resources={"requests": {"memory": "3Gi"}})
    assert len(placed(nodes=(device(),), apps=(hungry,), jobs=many(5))) == 2


def test_priority_then_age_orders_the_queue() -> None:
    jobs = (
        job("young", uid="1" * 8 + "-0000-4000-8000-000000000000", created_at=NOW - seconds(1)),
        job("old", uid="2" * 8 + "-0000-4000-8000-000000000000", created_at=NOW - seconds(9)),
        job("urgent", uid="3" * 8 + "-0000-4000-8000-000000000000", spec={"priority": 5}),
    )
    two_slots = (device(spec={"slots": 2}),)
    assert {name for name, _ in placed(nodes=two_slots, jobs=jobs)} == {"urgent", "old"}


def test_an_avoided_device_is_used_only_when_no_other_can() -> None:
    spec = {"placement": {"avoid": ["edge-2"]}}
    better, worse = device("edge-2", beat=FAST), device("edge-1", beat=SLOW)
    assert placed(nodes=(better, worse), jobs=(job(spec=spec),)) == [("run", "edge-1")]
    assert placed(nodes=(better,), jobs=(job(spec=spec),)) == [("run", "edge-2")]


def test_a_device_that_was_lost_of_late_is_used_only_when_no_other_can() -> None:
    shaky = EdgeNodeStatus(losses=2, avoided_until=NOW + seconds(1))
    better, worse = device("edge-2", beat=FAST, status=shaky), device("edge-1", beat=SLOW)
    assert placed(nodes=(better, worse), jobs=(job(),)) == [("run", "edge-1")]
    assert placed(nodes=(better,), jobs=(job(),)) == [("run", "edge-2")]
    steady = device("edge-2", beat=FAST, status=EdgeNodeStatus(losses=2, avoided_until=NOW))
    assert placed(nodes=(steady, worse), jobs=(job(),)) == [("run", "edge-2")]


FINISH = Installation(default_policy="ExpectedFinish")


def test_expected_finish_takes_the_device_that_would_be_done_first() -> None:
    fast, slow = device("edge-2", beat=FAST), device("edge-1", beat=SLOW)
    assert placed(nodes=(slow, fast), jobs=(job(),), installation=FINISH) == [("run", "edge-2")]
    decided = place(demand(job()), board(nodes=(slow, fast), installation=FINISH))
    assert "edge-2 would be done first, in 6" in decided.message
    assert "score" in decided.message, "the score explains"


def test_equal_times_are_decided_by_the_score() -> None:
    nodes = (device("edge-1", beat=beat(memory=20)), device("edge-2", beat=beat(memory=90)))
    assert placed(nodes=nodes, jobs=(job(),), installation=FINISH) == [("run", "edge-2")]


SHA256 = "a" * 64
BUNDLE = {"bundle": {"digest": f"sha256:{SHA256}"}}
CODE = {"configMap": {"name": "code"}}
IMAGE = kube(images=frozenset({"registry.example/faces:1"}))


@pytest.mark.parametrize("policy", ["Score", "ExpectedFinish"])
@pytest.mark.parametrize(
    ("source", "edge_1", "node", "chosen"),
    [
        (BUNDLE, beat(memory=79, bundles=(f"demo/{SHA256}",)), kube(), "edge-1"),
        (BUNDLE, beat(memory=79, bundles=(f"demo/{'b' * 64}",)), kube(), "edge-2"),
        (BUNDLE, beat(memory=79, bundles=(f"other/{SHA256}",)), kube(), "edge-2"),
        (BUNDLE, beat(events=6_000, bundles=(f"demo/{SHA256}",)), IMAGE, "edge-2"),
        (CODE, beat(memory=79, bundles=(f"demo/{SHA256}",)), kube(), "edge-2"),
        (CODE, beat(memory=79), IMAGE, "edge-1"),
        (CODE, beat(memory=79), kube(images=frozenset({"registry.example/faces:2"})), "edge-2"),
        (CODE, beat(events=6_000), IMAGE, "edge-2"),
    ],
    ids=["bundle", "other bundle", "other namespace", "much worse", "no bundle", "image", "other image", "much slower"],
)
def test_of_devices_alike_the_one_that_has_the_bundle_and_the_image(
    policy: str, source: dict[str, Any], edge_1: BeatView, node: KubeNode, chosen: str
) -> None:
    nodes = (device("edge-1", beat=edge_1, kube=node), device("edge-2", beat=beat(memory=80)))
    installation = Installation(default_policy=policy)
    apps = (app(source=source),)
    assert placed(nodes=nodes, jobs=(job(),), apps=apps, installation=installation) == [("run", chosen)]


@pytest.mark.parametrize("nearly", [one / 1000 for one in range(955, 1000, 5)])
@pytest.mark.parametrize("events", [9_000, 9_300, 9_700, 10_000])
@pytest.mark.parametrize("policy", ["Score", "ExpectedFinish"])
def test_within_five_percent_the_image_always_decides(policy: str, events: float, nearly: float) -> None:
    """Wherever the two lie: no boundary between classes of devices runs between them."""
    nodes = (
        device("edge-1", beat=beat(events=events * nearly), kube=IMAGE),
        device("edge-2", beat=beat(events=events)),
        device("edge-3", beat=beat(events=20_000), kube=kube(ready=False)),
    )
    installation = Installation(default_policy=policy)
    assert placed(nodes=nodes, jobs=(job(),), installation=installation) == [("run", "edge-1")]


def test_the_message_says_what_decided() -> None:
    nodes = (device("edge-1", beat=beat(memory=79), kube=IMAGE), device("edge-2", beat=beat(memory=80)))
    view = snapshot(nodes=nodes, jobs=(job(),), installation=Installation(default_policy="Score"))
    demand = Demand(job().key, job().uid, job().spec, app().spec, {})
    decision = place(demand, Board(view, usage_of(view.nodes, ()), NOW))
    assert decision.message.startswith("edge-1 has the image already and scores nearly best, ")


@pytest.mark.parametrize(
    ("written", "full"),
    [
        ("python", "docker.io/library/python:latest"),
        ("python:3.13-slim", "docker.io/library/python:3.13-slim"),
        ("ada/faces:1", "docker.io/ada/faces:1"),
        ("docker.io/library/python:3.13", "docker.io/library/python:3.13"),
        ("edgewise.local/vision:dev", "edgewise.local/vision:dev"),
        ("localhost/faces", "localhost/faces:latest"),
        ("registry:5000/faces", "registry:5000/faces:latest"),
        ("python@sha256:ab", "docker.io/library/python@sha256:ab"),
        ("python:3.13@sha256:ab", "docker.io/library/python@sha256:ab"),
    ],
)
def test_names_of_images_are_compared_in_full(written: str, full: str) -> None:
    assert full_name(written) == full
    assert full_name(full) == full


def test_a_job_waits_for_a_busy_device_that_would_still_be_done_first() -> None:
    """A device of a hundredth of the speed is free, but no help."""
    fast, slow = device("edge-1", beat=FAST, spec={"slots": 1}), device("edge-2", beat=beat(events=120))
    plan = planned(nodes=(fast, slow), jobs=many(2), installation=FINISH)
    assert placed(nodes=(fast, slow), jobs=many(2), installation=FINISH) == [("run-0", "edge-1")]
    told = next(
        EdgeJobStatus.model_validate(one.new)
        for one in plan.actions
        if isinstance(one, PatchStatus) and one.key.name == "run-1"
    )
    assert told.placement is not None
    assert "waits for edge-1" in told.placement.message
    assert "edge-2, which is free, would take" in told.placement.message
    assert told.placement.score is None, "nothing is chosen yet"
    assert [(one.node, one.expected_seconds is not None) for one in told.placement.candidates] == [
        ("edge-1", True),
        ("edge-2", True),
    ]
    assert plan.wake_at is not None
    assert plan.wake_at <= NOW + seconds(5), "the work there may take longer than expected"


def test_an_avoided_device_is_taken_rather_than_waiting_for_longer() -> None:
    hung = pod(node="edge-1", created_at=NOW - seconds(36_001), started_at=NOW - seconds(36_000), job_uid="other")
    full, failed_before = device("edge-1", beat=FAST, spec={"slots": 1}), device("edge-2", beat=SLOW)
    wants = job(spec={"placement": {"avoid": ["edge-2"]}})
    queue = {"nodes": (full, failed_before), "jobs": (wants,), "pods": (hung,), "installation": FINISH}
    assert placed(**queue) == [("run", "edge-2")]


def test_nobody_waits_for_a_device_that_could_never_take_the_job() -> None:
    closed, slow = device("edge-1", beat=FAST, spec={"slots": 0}), device("edge-2", beat=beat(events=120))
    assert placed(nodes=(closed, slow), jobs=(job(),), installation=FINISH) == [("run", "edge-2")]
    hungry = app(resources={"requests": {"cpu": "5"}})
    decided = place(demand(job(), hungry), board(nodes=(device(),), installation=FINISH))
    assert decided.candidates == ()
    assert "DoesNotFit" in decided.message


def test_a_job_names_its_policy() -> None:
    busy = device("edge-1", beat=beat(cpu=0))
    assert placed(nodes=(busy,), jobs=(job(),)) == [], "a score of 0 takes no work"
    asks = job(spec={"placement": {"policy": "ExpectedFinish"}})
    assert placed(nodes=(busy,), jobs=(asks,)) == [("run", "edge-1")]


def demand(view: JobView, what: AppView | None = None) -> Demand:
    spec = (what or app()).spec
    return Demand(view.key, view.uid, view.spec, spec, requested(spec))


def board(**values: Any) -> Board:
    world = snapshot(**values)
    return Board(world, usage_of(world.nodes, ()), NOW)


def test_a_job_counts_until_a_beat_has_measured_it() -> None:
    running = pod(running_since=NOW - seconds(15))
    node = device(beat=beat(age=1))  # its window began 11 s ago, after the pod had started
    assert usage_of({"edge-1": node}, [running])["edge-1"].unreflected == 0
    late = pod(running_since=NOW - seconds(5))
    assert usage_of({"edge-1": node}, [late])["edge-1"].unreflected == 1
    assert usage_of({"edge-1": node}, [pod(PodPhase.SUCCEEDED)])["edge-1"].jobs == 0


def test_reserved_memory_is_taken_from_the_free_memory() -> None:
    node = device(beat=beat(events=None, free=2 * GIB))
    reserved = Usage()
    reserved.take({"memory": GIB}, reflected=False)
    assert device_score(node, Usage()).factors.performance == pytest.approx(0.2)
    assert device_score(node, reserved).factors.performance == pytest.approx(0.1)
    assert "not benchmarked yet" in device_score(node, reserved).notes
