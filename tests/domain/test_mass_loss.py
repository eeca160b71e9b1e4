"""Many devices that fall silent at once: no job is moved until they are back, or an admin says that one is lost."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from edgewise.api import Condition, ConditionStatus, EdgeNodeStatus, Outcome, Phase
from edgewise.domain.actions import PatchStatus, Plan
from edgewise.domain.massloss import MassLoss, mass_loss
from edgewise.domain.views import NodeView, Taint

from tests.domain.builders import NOW, beat, device, job, kube, planned, seconds
from tests.domain.reading import RUNNING, after, conditions, created, reason, status

INTERVAL = seconds(10)
DECLARED = (Taint("node.kubernetes.io/out-of-service", "nodeshutdown", "NoExecute"),)


def dead(name: str, age: float = 61, **values: Any) -> NodeView:
    whole: dict[str, Any] = {"kube": kube(ready=None), "beat": beat(age=age)} | values
    return device(name, **whole)


def fleet(gone: int, of: int) -> tuple[NodeView, ...]:
    """`gone` dead devices, edge-1 among them, and the living."""
    return tuple(dead(f"edge-{n}") if n <= gone else device(f"edge-{n}") for n in range(1, of + 1))


def found(*nodes: NodeView) -> MassLoss | None:
    return mass_loss(nodes, INTERVAL, NOW)


@pytest.mark.parametrize(
    ("gone", "of", "paused"),
    [(5, 9, True), (5, 10, False), (6, 11, False), (6, 10, True), (4, 4, False), (4, 5, False), (5, 5, True)],
)
def test_it_takes_five_devices_and_more_than_55_percent(gone: int, of: int, paused: bool) -> None:
    assert found(*fleet(gone, of)) == (MassLoss(gone, of) if paused else None)


def test_devices_that_died_one_after_the_other_are_no_mass_loss() -> None:
    assert found(*(dead(f"edge-{n}", age=100 * n) for n in range(1, 10))) is None


def test_devices_that_were_long_gone_do_not_count() -> None:
    night = [dead(f"old-{n}", age=86_400 + 100 * n) for n in range(10)]
    assert found(*night, *(device(f"edge-{n}") for n in range(5))) is None
    today = [dead(f"new-{n}") for n in range(5)]
    assert found(*night, *today, device("edge-1")) == MassLoss(5, 6)


def test_the_first_to_die_of_many_waits_for_the_others() -> None:
    """All were cut off 11 s ago, up to ten seconds after their last beats: only one of them counts as dead yet."""
    first = dead("edge-1", age=21)
    late = [device(f"edge-{n}", beat=beat(age=11 + n)) for n in range(2, 7)]
    assert found(first, *late) == MassLoss(6, 6)
    assert found(first, *(device(f"edge-{n}", beat=beat(age=n)) for n in range(2, 7))) is None


def test_many_kubelets_that_lose_their_contact_are_a_loss_before_the_first_is_down() -> None:
    """All have lost it at once, which Kubernetes has seen within a quarter of a minute."""
    silent = [
        device(f"edge-{n}", kube=kube(ready=None), beat=beat(age=n), kubelet_lost_for=seconds(300 - 3 * n))
        for n in range(6)
    ]
    assert found(*silent, device("edge-9")) == MassLoss(6, 7)
    plan = planned(jobs=(job(),), pods=(RUNNING,), nodes=(replace(silent[0], name="edge-1"), *silent[2:], silent[1]))
    assert created(plan) == []
    soon = [replace(one, kubelet_lost_for=one.kubelet_lost_for - seconds(120)) for one in silent]
    assert found(*soon, device("edge-9")) is None


def test_dead_agents_on_living_devices_are_no_loss() -> None:
    assert found(*(device(f"edge-{n}", beat=beat(age=600)) for n in range(8))) is None


def test_devices_whose_silence_is_no_surprise_do_not_count() -> None:
    rest = fleet(4, 5)
    assert found(*rest, dead("edge-9")) is not None
    assert found(*rest, dead("edge-9", kube=kube(ready=None, unschedulable=True))) is None
    assert found(*rest, replace(dead("edge-9"), spec=device(spec={"maintenance": True}).spec)) is None
    assert found(*rest, dead("edge-9", kube=kube(ready=None, taints=DECLARED))) is None


def test_a_restarted_operator_knows_old_deaths_from_their_status() -> None:
    """It has no beats; what died long ago must not look like one loss at its start."""

    def known(name: str, hours: float) -> NodeView:
        since = NOW - timedelta(hours=hours)
        ready = Condition(
            type="Ready",
            status=ConditionStatus.FALSE,
            reason="Dead",
            message="",
            observed_generation=1,
            last_transition_time=since,
        )
        status = EdgeNodeStatus(observed_generation=1, conditions=(ready,))
        return device(name, kube=kube(ready=None), beat=None, leading_for=seconds(60), status=status)

    assert found(*(known(f"edge-{n}", n) for n in range(1, 9))) is None
    assert found(*(known(f"edge-{n}", 3) for n in range(1, 9))) == MassLoss(8, 8)


PATIENT = job(spec={"disconnect": {"replaceAfterSeconds": 10}})


def shown(plan: Plan, name: str) -> EdgeNodeStatus:
    patch = next(one for one in plan.actions if isinstance(one, PatchStatus) and one.key.name == name)
    return EdgeNodeStatus.model_validate(patch.new)


def test_no_job_is_moved_and_everybody_is_told() -> None:
    plan = planned(jobs=(PATIENT,), pods=(RUNNING,), nodes=fleet(6, 10))
    told = status(plan)
    assert (told.phase, told.attempts[0].outcome) == (Phase.RUNNING, Outcome.RUNNING)
    assert "so many other devices at once that no job is moved" in reason(told, "Reconciling")[1]
    assert plan.mass_loss == MassLoss(6, 10)
    paused = next(one for one in shown(plan, "edge-1").conditions if one.type == "EvictionsPaused")
    assert paused.status is ConditionStatus.TRUE
    assert "6 of 10 devices fell silent at once" in paused.message
    assert "kubectl taint node NAME" in paused.message
    alive = {one.type for one in shown(plan, "edge-10").conditions if one.status is ConditionStatus.TRUE}
    assert "EvictionsPaused" not in alive


def test_a_loss_that_grows_costs_no_writes() -> None:
    nodes = fleet(6, 10)
    plan = planned(jobs=(PATIENT,), pods=(RUNNING,), nodes=nodes)
    known = tuple(replace(node, status=shown(plan, node.name)) for node in nodes)
    more = (*known[:6], replace(known[6], kube=kube(ready=None), beat=beat(age=61)), *known[7:])
    later = planned(NOW + seconds(1), jobs=(after(plan, PATIENT),), pods=(RUNNING,), nodes=more)
    assert later.mass_loss == MassLoss(7, 10)
    written = [one.key.name for one in later.actions if isinstance(one, PatchStatus) and one.plural != "edgeapps"]
    assert written == ["edge-7"]


def test_jobs_move_again_when_enough_devices_are_back() -> None:
    view = after(planned(jobs=(PATIENT,), pods=(RUNNING,), nodes=fleet(6, 10)), PATIENT)
    plan = planned(jobs=(view,), pods=(RUNNING,), nodes=fleet(4, 10))
    assert status(plan).attempts[0].outcome is Outcome.LOST
    assert plan.mass_loss is None


def test_devices_that_are_still_silent_when_a_mass_loss_ends_are_waited_for() -> None:
    """The first of many to report again ends the loss; the others' beats are about to come."""
    nodes = fleet(6, 10)
    plan = planned(jobs=(PATIENT,), pods=(RUNNING,), nodes=nodes)
    view = after(plan, PATIENT)
    known = [replace(node, status=shown(plan, node.name)) for node in nodes]
    some = (*known[:4], *(replace(node, kube=kube(), beat=beat()) for node in known[4:6]), *known[6:])
    ended = planned(NOW + seconds(10), jobs=(view,), pods=(RUNNING,), nodes=some)
    assert ended.mass_loss is None
    assert status(ended).attempts[0].outcome is Outcome.RUNNING
    assert shown(ended, "edge-1").losses == 0
    waited = tuple(replace(node, status=shown(ended, node.name)) for node in some[:6]) + some[6:]
    view = after(ended, view)
    early = planned(NOW + seconds(69), jobs=(view,), pods=(RUNNING,), nodes=waited)
    assert not [one for one in early.actions if isinstance(one, PatchStatus) and one.plural == "edgejobs"]
    late = planned(NOW + seconds(70), jobs=(view,), pods=(RUNNING,), nodes=waited)
    assert status(late).attempts[0].outcome is Outcome.LOST


def test_an_admin_can_declare_a_device_lost_at_any_time() -> None:
    """Kubernetes' own taint of a node that is out of service: no patience, and no brake."""
    first, *others = fleet(6, 10)
    declared = replace(first, kube=kube(ready=None, taints=DECLARED))
    patient = job(spec={"disconnect": {"replaceAfterSeconds": None}})
    plan = planned(jobs=(patient,), pods=(RUNNING,), nodes=(declared, *others))
    assert (status(plan).attempts[0].outcome, status(plan).attempts[0].reason) == (Outcome.LOST, "NodeLost")
    view = after(plan, patient)
    assert created(planned(jobs=(view,), pods=(RUNNING,), nodes=(declared, *others))) == ["run-7bcca-2"]
    powered = replace(declared, kube=kube(taints=DECLARED), beat=beat())
    again = planned(jobs=(view,), pods=(RUNNING,), nodes=(powered, *others))
    assert created(again) == ["run-7bcca-2"], "until the taint goes, its word does not count"
    assert "Failed" not in conditions(view.status)
