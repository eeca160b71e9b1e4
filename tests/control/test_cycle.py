"""What one pass carries out, and how long the next one waits."""

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from edgewise.api import EdgeJobStatus
from edgewise.control import cycle as module
from edgewise.control.cycle import BEHIND_SECONDS, FEWEST_TOLD, MOST_STARTED, MOST_TOLD, Cycle, most_urgent
from edgewise.control.world import World
from edgewise.domain.actions import Action, CreateNode, CreatePod, DeletePod, PatchStatus, Plan
from edgewise.domain.views import Installation, Key

KEY = Key("demo", "run")
STARTED, ENDED, JOINED = CreatePod(KEY, "uid", {}), DeletePod(KEY, "uid"), CreateNode("edge-9", "uid")


def told(plural: str = "edgejobs") -> PatchStatus:
    return PatchStatus(plural, KEY, "1", EdgeJobStatus(), EdgeJobStatus())


def job(version: str) -> dict[str, Any]:
    meta = {"name": "run", "namespace": "demo", "uid": "7bcca88b-0000-4000-8000-000000000001", "generation": 1}
    return {"metadata": meta | {"resourceVersion": version}, "spec": {"appRef": {"name": "faces"}}}


class Pen:
    """A writer that notes what it is asked for."""

    def __init__(self) -> None:
        self.passes: list[list[Action]] = []

    async def apply(self, actions: Iterable[Action]) -> int:
        self.passes.append(list(actions))
        return 0


def test_what_starts_or_frees_a_device_comes_first() -> None:
    awaited = replace(told(), awaited=True)
    chosen = most_urgent([told("edgenodes"), told(), JOINED, STARTED, awaited, ENDED], beside=3)
    assert chosen[:2] == [ENDED, awaited]
    assert STARTED in chosen[2:4]
    assert JOINED in chosen[2:4]
    assert len(chosen) == 6


def test_a_pass_has_its_bounds() -> None:
    many: list[Action] = [told()] * 100
    assert len(most_urgent([*many, STARTED, ENDED], beside=3)) == 2 + 3
    assert len(most_urgent(many, beside=3)) == MOST_TOLD, "nothing else is to be done"
    assert len(most_urgent([*many, JOINED], beside=3)) == 1 + MOST_TOLD, "no pod starts or ends"
    assert len(most_urgent([STARTED] * (MOST_STARTED + 1), beside=3)) == MOST_STARTED


def test_devices_are_told_of_beside_many_jobs() -> None:
    passes = [most_urgent([told()] * 60 + [told("edgenodes")] * 20, beside=3) for _ in range(20)]
    assert any(isinstance(one, PatchStatus) and one.plural == "edgenodes" for chosen in passes for one in chosen)


async def test_a_burst_is_told_of_afterwards_but_not_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    plan: list[Action] = [STARTED, *[told()] * (MOST_TOLD - 1)]
    monkeypatch.setattr(module, "plan", lambda *_: Plan(tuple(plan), None))
    pen: Any = Pen()
    cycle = Cycle(World(Installation()), pen)
    for _ in range(3):
        assert await cycle.once() == 0.0, "the rest is planned anew at once"
        assert len(pen.passes[-1]) == 1 + FEWEST_TOLD
    assert cycle.behind_since is not None
    cycle.behind_since -= BEHIND_SECONDS + 1
    await cycle.once()
    assert len(pen.passes[-1]) == len(plan)
    assert cycle.behind_since is None


async def test_a_new_job_waits_for_no_debounce() -> None:
    world = World(Installation())
    cycle = Cycle(world, Pen())  # type: ignore[arg-type]
    world.saw("edgejobs", job("1"))
    assert world.pressing.is_set()
    began = time.monotonic()
    cycle.passed_at = began + 60
    await cycle._gather()
    assert time.monotonic() - began < 1
    world.pressing.clear()
    world.saw("edgejobs", job("2"))
    assert not world.pressing.is_set(), "what happens to a job that is known may be gathered"
