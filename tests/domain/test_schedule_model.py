"""No scheduled time is run twice, none is missed that must be run, and nothing piles up: under random faults.

A script of steps drives `plan()` against a small API: passes that crash between any two writes or lose an answer, a
clock that jumps, users who edit and delete, runs that end. In the end all is settled, and asked what it came to.
"""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum, auto
from random import Random
from typing import Any, Final

from edgewise.api import EdgeCronJobSpec, EdgeCronJobStatus
from edgewise.api.schema import spec_body
from edgewise.domain.actions import Action, CreateRun, DeleteRun, PatchStatus
from edgewise.domain.plan import plan
from edgewise.domain.retention import SETTLING
from edgewise.domain.runs import run_of
from edgewise.domain.schedule import Schedule, read
from edgewise.domain.views import CronView, JobView, Key
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import SOAK
from tests.domain.builders import NOW, cron, job, snapshot
from tests.domain.test_schedule_runs import ended

ROUNDS: Final = 12
"""After how many plans at one instant nothing may be left to do."""
MINUTE: Final = timedelta(minutes=1)
SCHEDULES: Final = (
    ("* * * * *", None),
    ("*/5 * * * *", None),
    ("7,9 * * * *", "Asia/Kolkata"),
    ("30 2 * * *", "Europe/Berlin"),
    ("*/20 1-3 * * *", "America/New_York"),
)


class Verb(StrEnum):
    """What can happen in a step."""

    PASS = auto()
    CRASHING_PASS = auto()
    PASS_WITH_LOST_ANSWERS = auto()
    WATCH = auto()
    SECONDS_GO_BY = auto()
    MINUTES_GO_BY = auto()
    DAYS_GO_BY = auto()
    SET_BACK = auto()
    END_RUN = auto()
    DELETE_RUN = auto()
    EDIT = auto()
    RUN_NOW = auto()

    def __repr__(self) -> str:
        return f"Verb.{self.name}"


@dataclass(slots=True)
class Small:
    """The API's objects as they are, and as the operator's caches know them."""

    now: datetime
    cron: CronView
    runs: dict[Key, JobView] = field(default_factory=dict)
    known_cron: CronView = field(init=False)
    known_runs: dict[Key, JobView] = field(default_factory=dict)
    version: int = 1
    created: list[Key] = field(default_factory=list)
    """every run that was ever made"""
    tokens: int = 0

    def __post_init__(self) -> None:
        self.known_cron = self.cron

    def watch(self) -> None:
        """The operator learns everything."""
        self.known_cron, self.known_runs = self.cron, dict(self.runs)

    def planned(self) -> list[Action]:
        """The actions about runs and EdgeCronJobs that the operator plans by what it knows."""
        known = snapshot(nodes=(), apps=(), jobs=tuple(self.known_runs.values()), crons=(self.known_cron,))
        made = plan(known, self.now)
        assert not made.faults, made.faults
        return [
            one
            for one in made.actions
            if isinstance(one, CreateRun | DeleteRun) or (isinstance(one, PatchStatus) and one.plural == "edgecronjobs")
        ]

    def apply(self, action: Action, *, answered: bool = True) -> None:
        """One write, as the API server and the writer do it."""
        match action:
            case CreateRun(manifest=manifest):
                key = Key(manifest["metadata"]["namespace"], manifest["metadata"]["name"])
                if key not in self.runs:
                    self.created.append(key)
                    uid = manifest["metadata"]["ownerReferences"][0]["uid"]
                    view = job(key.name, uid=f"uid-{len(self.created)}", cron_uid=uid, created_at=self.now)
                    self.runs[key] = replace(view, resource_version=self._next())
                if answered:
                    self.known_runs[key] = self.runs[key]
            case DeleteRun(job=key, uid=uid):
                if key in self.runs and self.runs[key].uid == uid:
                    assert not self.runs[key].finished or self._is_settled(self.runs[key])
                    at, told = _minute(key), self.cron.status.last_schedule_time
                    assert at is None or (told is not None and at <= told), "removed untold"
                    del self.runs[key]
                    if answered:
                        self.known_runs.pop(key, None)
            case PatchStatus(resource_version=version, new=new) if version == self.cron.resource_version:
                status = EdgeCronJobStatus.model_validate(new)
                self.cron = replace(self.cron, status=status, resource_version=self._next())
                if answered:
                    self.known_cron = self.cron

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
                self.now += timedelta(seconds=rng.randint(60, 900))
            case Verb.DAYS_GO_BY:
                self.now += timedelta(hours=rng.randint(1, 100))
            case Verb.SET_BACK:
                self.now -= timedelta(seconds=rng.choice((5, 70, 4000)))
            case Verb.END_RUN:
                if going_on := [one for one in self.runs.values() if not one.finished]:
                    one = rng.choice(going_on)
                    end = ended(rng.choice(("Complete", "Complete", "Failed")), self.now)
                    self.runs[one.key] = replace(one, status=end, resource_version=self._next())
                    if rng.random() < 0.5:
                        self.watch()
            case Verb.DELETE_RUN:
                told = self.cron.status.last_schedule_time
                runs = [found for one in self.runs.values() if (found := run_of(self.cron, one))]
                settled = [one for one in runs if told and one.scheduled_time and one.scheduled_time <= told]
                if settled:
                    self.watch()
                    del self.runs[rng.choice(settled).job.key]
            case Verb.EDIT:
                self.edit(rng)
            case Verb.RUN_NOW:
                self.tokens += 1
                token = rng.choice(("a", "b", "c"))
                self.cron = replace(self.cron, run_now=token, resource_version=self._next())

    def edit(self, rng: Random) -> None:
        """Somebody changes the spec."""
        schedule, zone = rng.choice((*SCHEDULES, ("61 * * * *", None)))
        change: dict[str, Any] = rng.choice(
            (
                {"schedule": schedule, "timeZone": zone},
                {"suspend": rng.random() < 0.5},
                {"concurrencyPolicy": rng.choice(("Allow", "Forbid", "Replace"))},
                {"startingDeadlineSeconds": rng.choice((None, 30, 600))},
                {"successfulJobsHistoryLimit": rng.randint(0, 3), "failedJobsHistoryLimit": rng.randint(0, 2)},
            )
        )
        spec = EdgeCronJobSpec.model_validate(spec_body(self.cron.spec) | change)
        generation = self.cron.generation + (spec != self.cron.spec)
        self.cron = replace(self.cron, spec=spec, generation=generation, resource_version=self._next())

    def settle(self) -> None:
        """Let the operator learn and do everything that there is to do now."""
        for _ in range(ROUNDS):
            self.watch()
            actions = self.planned()
            if not actions:
                return
            for action in actions:
                self.apply(action)
        raise AssertionError(f"after {ROUNDS} plans there is still {self.planned()}")

    def check(self) -> None:
        """What holds when everything is settled."""
        spec, status = self.cron.spec, self.cron.status
        assert len(set(self.created)) == len(self.created), "a run was made twice"
        runs = [found for one in self.runs.values() if (found := run_of(self.cron, one))]
        assert len(runs) == len(self.runs)
        over = [one for one in runs if self._is_settled(one.job)]
        assert sum(one.succeeded for one in over) <= spec.successful_jobs_history_limit
        assert sum(not one.succeeded for one in over) <= spec.failed_jobs_history_limit
        active = [one for one in runs if not one.job.finished]
        assert status.active_count == len(active)
        assert {one.name for one in status.active} == {one.name for one in active[-20:]}
        assert status.observed_generation == self.cron.generation
        assert sum("-now-" in key.name for key in self.created) <= self.tokens
        if self.cron.run_now:
            assert status.run_now is not None
            assert status.run_now.token == self.cron.run_now
        schedule = read(spec.schedule, spec.time_zone)
        if isinstance(schedule, Schedule) and not spec.suspend:
            self.check_due(schedule, forbidden=spec.concurrency_policy == "Forbid" and bool(active))

    def _is_settled(self, job: JobView) -> bool:
        at = job.status.completion_time
        return at is not None and at + SETTLING <= self.now

    def check_due(self, schedule: Schedule, *, forbidden: bool) -> None:
        """Nothing that must be run is without a run."""
        times = [time for key in self.created if (time := _minute(key))]
        since, patience = self.cron.status.schedule_since, self.cron.spec.starting_deadline_seconds
        assert since is not None
        due = schedule.latest(max([since, *times]), self.now)
        if due is not None:
            late = patience is not None and self.now > due + timedelta(seconds=patience)
            assert late or forbidden, f"{due} has no run"
            assert self.cron.status.last_skipped_time is not None
            assert self.cron.status.last_skipped_time >= due


def _minute(key: Key) -> datetime | None:
    rest = key.name.removeprefix("nightly-")
    return datetime.fromtimestamp(60 * int(rest), UTC) if rest.isdigit() else None


def small(schedule: tuple[str, str | None], kept: int) -> Small:
    limits = {"successfulJobsHistoryLimit": kept, "failedJobsHistoryLimit": kept}
    return Small(NOW, cron(spec={"schedule": schedule[0], "timeZone": schedule[1], **limits}, created_at=NOW - MINUTE))


steps = st.tuples(st.sampled_from([*Verb, *(Verb.PASS,) * 8, *(Verb.MINUTES_GO_BY,) * 4]), st.integers(0, 2**16))


@given(script=st.lists(steps, max_size=60), schedule=st.sampled_from(SCHEDULES), kept=st.integers(0, 2))
@settings(max_examples=SOAK or 200)
def test_whatever_happens_no_time_is_run_twice_and_none_is_lost(
    script: list[tuple[Verb, int]], schedule: tuple[str, str | None], kept: int
) -> None:
    world = small(schedule, kept)
    for verb, seed in script:
        world.step(verb, Random(seed))  # noqa: S311
        assert len(set(world.created)) == len(world.created), "a run was made twice"
    world.settle()
    world.check()


faults = st.sampled_from(
    [Verb.CRASHING_PASS, Verb.CRASHING_PASS, Verb.PASS_WITH_LOST_ANSWERS, Verb.END_RUN, Verb.END_RUN]
)


@given(
    st.lists(st.lists(st.tuples(faults, st.integers(0, 2**16)), max_size=6), min_size=1, max_size=30), st.integers(0, 2)
)
def test_while_the_clock_goes_on_every_time_is_run_whatever_crashes(
    script: list[list[tuple[Verb, int]]], kept: int
) -> None:
    world = small(("* * * * *", None), kept)
    for minute in script:
        for verb, seed in minute:
            world.step(verb, Random(seed))  # noqa: S311
        world.settle()
        world.now += MINUTE
    times = sorted(time for key in world.created if (time := _minute(key)))
    assert times == [NOW + index * MINUTE for index in range(len(script))]
    world.settle()
    world.check()
