"""Fencing: devices that lose power, cable or pulse come back before, during and after their jobs' replacements run.

Each of three devices has a job for each moment. Whatever happens, one attempt's results are published, each byte as
that attempt wrote it, and no other attempt is left running.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, auto
from functools import partial
from typing import Final

import pytest

from testbed import Fleet, wait_until
from testbed.results import results
from tests.figures import Figures
from tests.fleet.faults import (
    OUTPUTS,
    WRITER,
    added,
    arguments,
    bound_at,
    check_published,
    now,
    only_on,
    put_right,
    wait_fresh,
)
from tests.fleet.work import Job, make_app, start

pytestmark = pytest.mark.usefixtures("edgewise")

REPLACED_WITHIN_SECONDS: Final = 25.0


class Cut(StrEnum):
    """How a device is lost."""

    POWER = auto()
    CABLE = auto()
    PULSE = auto()


class Return(StrEnum):
    """When it comes back, seen from a job's replacement."""

    BEFORE = auto()
    DURING = auto()
    AFTER = auto()


@dataclass(frozen=True)
class Moment:
    """How a job is made for its moment: seconds of the first attempt and of later ones, and how long it waits."""

    first: int
    later: int
    replace_after: int


MOMENTS: Final = {
    Return.BEFORE: Moment(70, 1, 600),
    Return.DURING: Moment(95, 95, 10),
    Return.AFTER: Moment(95, 1, 10),
}
SURVIVES: Final = frozenset({Cut.CABLE, Cut.PULSE})
"""What a running container outlives."""


def device_of(cut: Cut) -> str:
    """The device that suffers it."""
    return f"storm-{cut}"


@pytest.fixture
def victims(fleet: Fleet, edgewise: None) -> Iterator[tuple[str, ...]]:
    """Three more devices, so that half of the fleet is left when they are lost."""
    names = tuple(device_of(cut) for cut in Cut)
    with added(fleet, *names):
        yield names


def test_nine_jobs_in_a_storm(fleet: Fleet, namespace: str, victims: tuple[str, ...], figures: Figures) -> None:
    make_app(fleet, namespace, "writer", WRITER, outputs=OUTPUTS)
    jobs = {(cut, back): _start(fleet, namespace, cut, back) for cut in Cut for back in Return}
    doomed = _start(fleet, namespace, Cut.POWER, Return.BEFORE, name="doomed")
    for (cut, _), job in jobs.items():
        assert job.until_phase("Running")["node"] == device_of(cut)
    assert doomed.until_phase("Running")["node"] == device_of(Cut.POWER)
    replaced = [job for (_, back), job in jobs.items() if back is not Return.BEFORE]

    with put_right(fleet, *victims):
        lost_at = now()
        fleet.power_off(device_of(Cut.POWER))
        fleet.unplug(device_of(Cut.CABLE))
        fleet.hang(device_of(Cut.PULSE))
        doomed.delete()
        took = (max(_replacement_bound(job) for job in replaced) - lost_at).total_seconds()
        for cut in Cut:
            assert jobs[cut, Return.AFTER].until("Complete", 90)["results"]["attempt"] == 2
            jobs[cut, Return.DURING].until_phase("Running")
            assert [one["number"] for one in jobs[cut, Return.BEFORE].status()["attempts"]] == [1]

    for job in jobs.values():
        job.until("Complete", 240)
    wait_fresh(fleet, *victims)
    with results(fleet, namespace) as reader:
        published = {key: check_published(reader, job) for key, job in jobs.items()}
    assert published == {(cut, back): _winner(cut, back) for cut in Cut for back in Return}
    for job in jobs.values():
        wait_until(partial(_losers_have_ended, job), f"{job.name}: no other attempt is left", seconds=60)
    wait_until(lambda: not doomed.pods(), "the deleted job's pod is gone since its device is back", seconds=60)
    figures(
        "three devices lost at once to the last replacement bound, at 10 s beats", took, REPLACED_WITHIN_SECONDS, "s"
    )
    assert took <= REPLACED_WITHIN_SECONDS


def _start(fleet: Fleet, namespace: str, cut: Cut, back: Return, name: str = "") -> Job:
    moment = MOMENTS[back]
    return start(
        fleet,
        namespace,
        name or f"{cut}-{back}",
        "writer",
        args=arguments(moment.first, moment.later),
        placement=only_on(device_of(cut), fleet),
        disconnect={"replaceAfterSeconds": moment.replace_after},
    )


def _winner(cut: Cut, back: Return) -> int:
    """The attempt whose results are published: the first complete one; while both run, the one that has run longer."""
    if back is Return.AFTER:
        return 2
    return 1 if cut in SURVIVES else 2


def _replacement_bound(job: Job) -> datetime:
    """Wait until the second attempt is bound; when that was."""

    def bound() -> datetime | None:
        pods = job.pods()
        return bound_at(pods[1]) if len(pods) == 2 else None

    at = wait_until(bound, f"{job.name} is replaced", seconds=60)
    assert at is not None
    return at


def _losers_have_ended(job: Job) -> bool:
    """Whether all but the published attempt's pod have ended or are gone."""
    winner = job.status()["results"]["podUID"]
    losers = [pod for pod in job.pods() if pod["metadata"]["uid"] != winner]
    return all(pod["status"]["phase"] in ("Succeeded", "Failed") for pod in losers)
