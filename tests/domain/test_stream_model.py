"""No run of a stream is doubled or lost, one runs at a time, and each end counts once: under random faults.

A script of steps drives `plan()` against a small API: passes that crash between any two writes or lose an answer, users
who edit, suspend and delete, runs that start and end, devices that are lost. In the end all is settled, and asked what
it came to.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum, auto
from random import Random
from typing import Any, Final

from edgewise.api import EdgeJobSpec, EdgeJobStatus, EdgeStreamSpec, EdgeStreamStatus, Outcome, Phase, StreamPhase
from edgewise.api.schema import merge_patch, spec_body
from edgewise.domain.actions import Action, CreateRun, DeleteRun, PatchSpec, PatchStatus
from edgewise.domain.plan import plan
from edgewise.domain.retention import SETTLING
from edgewise.domain.stream_runs import LONGEST_PAUSE, StreamRun, is_outdated, run_of
from edgewise.domain.views import JobView, Key, StreamView
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import SOAK
from tests.domain.builders import NOW, job, snapshot, stream
from tests.domain.test_streams import at_work, ended

ROUNDS: Final = 12
"""After how many plans at one instant nothing may be left to do."""


class Verb(StrEnum):
    """What can happen in a step."""

    PASS = auto()
    CRASHING_PASS = auto()
    PASS_WITH_LOST_ANSWERS = auto()
    WATCH = auto()
    SECONDS_GO_BY = auto()
    MINUTES_GO_BY = auto()
    RUN_STARTS = auto()
    RUN_ENDS = auto()
    DELETE_RUN = auto()
    EDIT = auto()

    def __repr__(self) -> str:
        return f"Verb.{self.name}"


@dataclass(slots=True)
class Small:
    """The API's objects as they are, and as the operator's caches know them."""

    now: datetime
    stream: StreamView
    runs: dict[Key, JobView] = field(default_factory=dict)
    known_stream: StreamView = field(init=False)
    known_runs: dict[Key, JobView] = field(default_factory=dict)
    version: int = 1
    created: list[str] = field(default_factory=list)
    """the name of every run that was ever made"""
    ends: int = 0
    """how many runs have ended by themselves, or were deleted"""

    def __post_init__(self) -> None:
        self.known_stream = self.stream

    def watch(self) -> None:
        """The operator learns everything."""
        self.known_stream, self.known_runs = self.stream, dict(self.runs)

    def planned(self) -> list[Action]:
        """The actions about runs and EdgeStreams that the operator plans by what it knows."""
        jobs = tuple(self.known_runs.values())
        made = plan(snapshot(nodes=(), apps=(), jobs=jobs, streams=(self.known_stream,)), self.now)
        assert not made.faults, made.faults
        about = (CreateRun, DeleteRun, PatchSpec)
        return [
            one
            for one in made.actions
            if isinstance(one, about) or (isinstance(one, PatchStatus) and one.plural == "edgestreams")
        ]

    def apply(self, action: Action, *, answered: bool = True) -> None:
        """One write, as the API server and the writer do it."""
        match action:
            case CreateRun(manifest=manifest):
                key = Key(manifest["metadata"]["namespace"], manifest["metadata"]["name"])
                if key not in self.runs:
                    assert not self.going_on(), f"{key} runs beside {self.going_on()}"
                    self.created.append(key.name)
                    view = job(key.name, uid=f"uid-{key.name}", stream_uid=self.stream.uid, created_at=self.now)
                    self._keep(replace(view, spec=EdgeJobSpec.model_validate(manifest["spec"])))
                self._answer(key, answered=answered)
            case PatchSpec(job=key, resource_version=version, spec=change):
                if key in self.runs and self.runs[key].resource_version == version:
                    one = self.runs[key]
                    spec = EdgeJobSpec.model_validate(spec_body(one.spec) | dict(change))
                    self._keep(replace(one, spec=spec))
                    self._answer(key, answered=answered)
            case DeleteRun(job=key, uid=uid):
                if key in self.runs and self.runs[key].uid == uid:
                    one = self.runs[key]
                    at = one.status.completion_time
                    assert at is not None
                    assert at + SETTLING <= self.now
                    assert self.number(key) < self.stream.status.run_number, "removed untold"
                    del self.runs[key]
                    if answered:
                        self.known_runs.pop(key, None)
            case PatchStatus(resource_version=version, new=new) if version == self.stream.resource_version:
                assert merge_patch(action.old, new), "a write that changes nothing"
                status = EdgeStreamStatus.model_validate(new)
                self.stream = replace(self.stream, status=status, resource_version=self._next())
                if answered:
                    self.known_stream = self.stream

    def number(self, key: Key) -> int:
        return int(key.name.rpartition("-")[2])

    def going_on(self) -> list[JobView]:
        return [one for one in self.runs.values() if not one.finished]

    def _keep(self, view: JobView) -> None:
        self.runs[view.key] = replace(view, resource_version=self._next())

    def _answer(self, key: Key, *, answered: bool) -> None:
        if answered:
            self.known_runs[key] = self.runs[key]

    def _next(self) -> str:
        self.version += 1
        return str(self.version)

    def step(self, verb: Verb, rng: Random) -> None:
        """One step of a script."""
        match verb:
            case Verb.PASS:
                for action in self.planned():
                    self.apply(action)
            case Verb.CRASHING_PASS:
                actions = self.planned()
                rng.shuffle(actions)
                for action in actions[: rng.randint(0, len(actions))]:
                    self.apply(action)
                self.watch()
            case Verb.PASS_WITH_LOST_ANSWERS:
                for action in self.planned():
                    self.apply(action, answered=rng.random() < 0.5)
            case Verb.WATCH:
                self.watch()
            case Verb.SECONDS_GO_BY:
                self.now += timedelta(seconds=rng.randint(1, 50))
            case Verb.MINUTES_GO_BY:
                self.now += timedelta(seconds=rng.randint(60, 1500))
            case Verb.RUN_STARTS:
                for one in self.going_on():
                    self._keep(replace(one, status=at_work()))
            case Verb.RUN_ENDS:
                for one in self.going_on():
                    self.end(one, rng)
            case Verb.DELETE_RUN:
                if told := [key for key in self.runs if self.number(key) <= self.stream.status.run_number]:
                    self.watch()
                    one = self.runs.pop(rng.choice(told))
                    self.ends += not one.finished
            case Verb.EDIT:
                self.edit(rng)

    def end(self, one: JobView, rng: Random) -> None:
        """A run ends: because it was cancelled, or else somehow."""
        if one.spec.cancel:
            self._keep(replace(one, status=self.over(outcome=Outcome.CANCELLED, phase=Phase.CANCELLED)))
            return
        self.ends += 1
        reason, outcome = rng.choice(
            (("AppError", Outcome.FAILED), ("NodeLost", Outcome.LOST), ("Hot", Outcome.DISRUPTED))
        )
        self._keep(replace(one, status=self.over(reason, outcome=outcome, lasted=rng.choice((1, 50, 700)))))

    def over(self, reason: str = "", **how: Any) -> EdgeJobStatus:
        return ended(reason, ago=(NOW - self.now).total_seconds(), **how)

    def edit(self, rng: Random) -> None:
        """Somebody changes the spec."""
        template = {"spec": {"appRef": {"name": "faces"}, "args": [rng.choice("ab")], "priority": rng.randint(0, 1)}}
        change: dict[str, Any] = rng.choice(
            (
                {"suspend": rng.random() < 0.5},
                {"jobTemplate": template},
                {"runsHistoryLimit": rng.randint(0, 2)},
            )
        )
        spec = EdgeStreamSpec.model_validate(spec_body(self.stream.spec) | change)
        generation = self.stream.generation + (spec != self.stream.spec)
        self.stream = replace(self.stream, spec=spec, generation=generation, resource_version=self._next())

    def settle(self) -> None:
        """Let the operator learn and do everything that there is to do now, and runs end that are to end."""
        for _ in range(ROUNDS):
            self.watch()
            actions = self.planned()
            leaving = [one for one in self.going_on() if one.spec.cancel]
            if not actions and not leaving:
                return
            for action in actions:
                self.apply(action)
            for one in leaving:
                self.end(self.runs[one.key], Random(0))  # noqa: S311
        raise AssertionError(f"after {ROUNDS} plans there is still {self.planned()}")

    def check(self) -> None:
        """What holds when everything is settled, and no pause is left."""
        spec, status = self.stream.spec, self.stream.status
        names = [f"scan-{number}" for number in range(1, status.run_number + 1)]
        assert self.created == names, "a run was doubled or left out"
        assert (status.restarts or 0) <= self.ends
        assert status.observed_generation == self.stream.generation
        going_on = [StreamRun(one, self.number(one.key)) for one in self.going_on()]
        if spec.suspend:
            assert (going_on, status.phase) == ([], StreamPhase.SUSPENDED)
        else:
            [one] = going_on
            assert (one.name, status.run) == (status.run, f"scan-{status.run_number}")
            assert not is_outdated(self.stream, one)
            assert one.job.spec.priority == spec.job_template.spec.priority
        over = [one for one in self.runs.values() if one.finished and self.number(one.key) < status.run_number]
        assert len([one for one in over if self._is_settled(one)]) <= spec.runs_history_limit
        assert all(run_of(self.stream, one) for one in self.runs.values())

    def _is_settled(self, one: JobView) -> bool:
        at = one.status.completion_time
        return at is not None and at + SETTLING <= self.now


steps = st.tuples(
    st.sampled_from([*Verb, *(Verb.PASS,) * 8, *(Verb.RUN_ENDS,) * 3, *(Verb.SECONDS_GO_BY,) * 3]),
    st.integers(0, 2**16),
)


@given(script=st.lists(steps, max_size=60), kept=st.integers(0, 2))
@settings(max_examples=SOAK or 200)
def test_whatever_happens_no_run_is_doubled_and_none_is_lost(script: list[tuple[Verb, int]], kept: int) -> None:
    world = Small(NOW, stream(spec={"runsHistoryLimit": kept}, created_at=NOW))
    for verb, seed in script:
        world.step(verb, Random(seed))  # noqa: S311
    world.settle()
    world.now += LONGEST_PAUSE + SETTLING
    world.settle()
    world.check()
