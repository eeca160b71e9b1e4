"""What EdgeNodes and EdgeApps say of themselves, and how rarely it is written."""

from dataclasses import replace
from datetime import datetime, timedelta

from edgewise.api import EdgeAppStatus, EdgeNodeStatus
from edgewise.domain.actions import CreateNode, PatchStatus, Plan
from edgewise.domain.verdicts import verdict
from edgewise.domain.views import BeatView, NodeView, PodPhase
from edgewise_agent import wire

from tests.domain.builders import NOW, app, beat, device, job, kube, manifest, planned, pod, seconds
from tests.domain.reading import after


def written(plan: Plan) -> EdgeNodeStatus | None:
    patches = [one for one in plan.actions if isinstance(one, PatchStatus) and one.plural == "edgenodes"]
    return EdgeNodeStatus.model_validate(patches[0].new) if patches else None


def settled(node: NodeView) -> NodeView:
    status = written(planned(nodes=(node,)))
    assert status is not None
    return replace(node, status=status)


def at(later: timedelta, node: NodeView, newer: BeatView) -> EdgeNodeStatus | None:
    return written(planned(NOW + later, nodes=(replace(node, beat=newer),)))


def test_a_device_that_reports_gets_an_edge_node() -> None:
    plan = planned(nodes=(), newcomers=("edge-9",))
    assert [one for one in plan.actions if isinstance(one, CreateNode)] == [CreateNode("edge-9", "node")]


def test_the_first_status_says_everything() -> None:
    status = settled(device()).status
    assert status.score == 31.761
    assert [(one.status, one.reason) for one in status.conditions if one.type == "Ready"] == [("True", "Fresh")]
    assert status.metrics is not None
    assert status.metrics.celsius == 45
    assert status.architecture == "amd64"


def test_beats_alone_are_not_written() -> None:
    node = settled(device())
    assert at(seconds(5), node, beat(cpu=60, now=NOW + seconds(5))) is None, "within a minute"
    assert at(seconds(65), node, beat(cpu=92, now=NOW + seconds(65))) is None, "moved by less than a tenth"
    moved = at(seconds(65), node, beat(cpu=60, now=NOW + seconds(65)))
    assert moved is not None
    assert moved.score is not None
    assert moved.score < 31


def test_readiness_is_written_at_once() -> None:
    node = settled(device())
    hot = at(seconds(1), node, beat(celsius=91))
    assert hot is not None
    assert [(one.status, one.reason) for one in hot.conditions if one.type == "Ready"] == [("False", "TooHot")]
    stale = at(seconds(16), node, beat(age=16, now=NOW + seconds(16)))
    assert stale is not None
    dead = written(planned(NOW + seconds(60), nodes=(replace(node, kube=kube(ready=None), beat=beat(age=60)),)))
    assert dead is not None
    assert "powered" in next(one.message for one in dead.conditions if one.type == "Ready")


def spool_full(status: EdgeNodeStatus | None) -> tuple[str, str, str]:
    assert status is not None
    return next((one.status, one.reason, one.message) for one in status.conditions if one.type == "SpoolFull")


def test_a_spool_that_fills_or_empties_is_written_at_once() -> None:
    node = settled(device())
    assert spool_full(node.status)[:2] == ("False", "Fine")
    full = at(seconds(1), node, beat(full="1 byte is free, the floor is 2"))
    assert spool_full(full) == ("True", "SpoolFull", "1 byte is free, the floor is 2")
    assert full is not None
    node = replace(node, status=full)
    assert at(seconds(2), node, beat(full="0 bytes are free, the floor is 2")) is None, "moving figures are no news"
    assert spool_full(at(seconds(3), node, beat()))[:2] == ("False", "Fine")


def test_a_spool_that_fills_on_a_device_that_is_not_ready_anyhow_is_told() -> None:
    node = settled(device(spec={"maintenance": True}))
    full = at(seconds(1), node, beat(spool=(10, 10)))
    assert spool_full(full)[:2] == ("True", "SpoolFull")
    assert full is not None
    assert next(one.reason for one in full.conditions if one.type == "Ready") == "Maintenance"


def test_a_spool_is_as_it_was_while_its_device_has_not_reported_again() -> None:
    node = settled(device(beat=beat(full="1 byte is free, the floor is 2")))
    silent = written(planned(nodes=(replace(node, beat=None, leading_for=seconds(15)),)))
    assert spool_full(silent) == ("True", "SpoolFull", "1 byte is free, the floor is 2")


def dead(node: NodeView, now: datetime) -> NodeView:
    """The device once its death is written."""
    status = written(planned(now, nodes=(replace(node, kube=kube(ready=None), beat=beat(age=61, now=now)),)))
    assert status is not None
    return replace(node, status=status)


def test_a_device_that_is_lost_again_and_again_is_avoided_for_longer_and_longer() -> None:
    node, now, avoided = settled(device()), NOW, []
    for _ in range(8):
        now += seconds(300)
        now = max(now, node.status.avoided_until or now)
        back = written(planned(now, nodes=(replace(dead(node, now), beat=beat(now=now)),)))
        assert back is not None
        assert back.avoided_until is not None
        avoided.append((back.avoided_until - now).total_seconds())
        node = replace(node, status=back)
    assert avoided == [30, 60, 120, 240, 480, 960, 1800, 1800]
    assert node.status.losses == 8
    early = node.status.avoided_until + timedelta(minutes=59) if node.status.avoided_until else now
    remembered = written(planned(early, nodes=(replace(dead(node, early), beat=beat(now=early)),)))
    assert remembered is not None
    assert remembered.losses == 9
    later = now + timedelta(hours=2)
    forgiven = written(planned(later, nodes=(replace(dead(node, later), beat=beat(now=later)),)))
    assert forgiven is not None
    assert forgiven.losses == 1


def test_a_reboot_is_a_loss_although_the_kubelet_is_back_before_the_agent() -> None:
    node = dead(settled(device()), NOW)
    half = written(planned(NOW + seconds(5), nodes=(replace(node, beat=beat(age=66, now=NOW + seconds(5))),)))
    assert half is not None
    assert next(one.reason for one in half.conditions if one.type == "Ready") == "Stale"
    back = at(seconds(9), replace(node, status=half), beat(now=NOW + seconds(9)))
    assert back is not None
    assert (back.losses, back.avoided_until) == (1, NOW + seconds(39))


def test_a_first_benchmark_is_news() -> None:
    node = settled(device(beat=beat(events=None)))
    told = at(seconds(3), node, beat(events=9000))
    assert told is not None
    assert told.benchmark is not None
    assert told.benchmark.events_per_second == 9000


def test_what_is_not_supported_is_said() -> None:
    status = settled(device(spec={"data": [{"name": "photos", "path": "/srv/photos"}]})).status
    stalled = next(one for one in status.conditions if one.type == "Stalled")
    assert (stalled.status, stalled.reason) == ("True", "NotSupported")


def test_an_app_is_ready_or_says_why_not() -> None:
    plan = planned(apps=(app(), app("odd", inputs=[{"name": "photos", "mountPath": "/data"}])))
    patches = {one.key.name: one for one in plan.actions if isinstance(one, PatchStatus) and one.plural == "edgeapps"}
    ready = {
        name: next(one for one in EdgeAppStatus.model_validate(patch.new).conditions if one.type == "Ready")
        for name, patch in patches.items()
    }
    assert ready["faces"].status == "True"
    assert (ready["odd"].status, ready["odd"].reason) == ("False", "NotSupported")
    assert "ConfigMap" in ready["odd"].message


def test_verdicts_follow_what_is_written() -> None:
    done = pod(PodPhase.SUCCEEDED)
    mine, other = manifest(done), manifest(pod(PodPhase.SUCCEEDED, attempt=2))
    assert verdict(mine, None) is wire.Verdict.GONE
    assert verdict(mine, job(uid="99999999-0000-4000-8000-000000000001")) is wire.Verdict.GONE
    assert verdict(mine, job()) is wire.Verdict.PENDING
    published = after(planned(jobs=(job(),), pods=(done,), manifests=(mine,)), job())
    assert verdict(mine, published) is wire.Verdict.PUBLISHED
    assert verdict(other, published) is wire.Verdict.SUPERSEDED
    cancelled = after(planned(jobs=(job(spec={"cancel": True}),)), job())
    assert verdict(mine, cancelled) is wire.Verdict.SUPERSEDED


def test_a_new_leader_writes_nothing_before_it_could_have_heard() -> None:
    node = settled(device())
    assert written(planned(nodes=(replace(node, beat=None, leading_for=seconds(14)),))) is None
    silent = written(planned(nodes=(replace(node, beat=None, leading_for=seconds(15)),)))
    assert silent is not None
    assert next(one.reason for one in silent.conditions if one.type == "Ready") == "Stale"
