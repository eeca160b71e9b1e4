"""Devices that must give work up, and jobs that wait for one: heat, cordon, drain, and reasons that name the remedy."""

from collections.abc import Iterator
from typing import Final

import pytest

from testbed import Fleet, wait_until
from tests.figures import Figures
from tests.fleet.faults import edge_devices, now, only_on, ready_reasons, wait_fresh
from tests.fleet.work import make_app, start

pytestmark = pytest.mark.usefixtures("edgewise")

PLACED_WITHIN_SECONDS: Final = 1.0
HOT: Final = "edge-1"
SLEEP: Final = "import sys, time\ntime.sleep(float(sys.argv[1]))\nprint('done')"


@pytest.fixture
def as_before(fleet: Fleet) -> Iterator[None]:
    """Every device is cool and uncordoned after the test."""
    yield
    fleet.heat(HOT, 45)
    for name in edge_devices(fleet):
        fleet.kubectl("uncordon", name)
    wait_fresh(fleet, *edge_devices(fleet))


@pytest.mark.usefixtures("as_before")
def test_heat_takes_work_away_where_the_job_allows(fleet: Fleet, namespace: str, figures: Figures) -> None:
    make_app(fleet, namespace, "sleep", SLEEP, outputs=None)
    placement = only_on(HOT, fleet)
    moves = start(fleet, namespace, "moves", "sleep", args=["60"], placement=placement | {"evictWhenHot": True})
    stays = start(fleet, namespace, "stays", "sleep", args=["25"], placement=placement)
    for job in (moves, stays):
        assert job.until_phase("Running")["node"] == HOT
    heated_at = now()
    fleet.heat(HOT, 95)
    wait_until(lambda: len(moves.status()["attempts"]) == 2, "the job has left", seconds=60)
    took = (now() - heated_at).total_seconds()
    status = moves.until_phase("Running")
    assert (status["attempts"][0]["outcome"], status["attempts"][0]["reason"]) == ("Disrupted", "Hot")
    assert status["node"] != HOT
    assert [one["outcome"] for one in stays.until("Complete")["attempts"]] == ["Succeeded"]
    late = start(fleet, namespace, "late", "sleep", args=["0"], placement=placement)
    assert late.until("Complete")["node"] != HOT, "a hot device takes no new work"
    moves.delete()
    figures("a device heated to its job's next attempt elsewhere, at 10 s beats", took, 25, "s")
    assert took <= 25


@pytest.mark.usefixtures("as_before")
def test_cordon_and_drain_are_honoured(fleet: Fleet, namespace: str) -> None:
    make_app(fleet, namespace, "sleep", SLEEP, outputs=None)
    job = start(fleet, namespace, "steady", "sleep", args=["30"], placement=only_on("edge-2", fleet))
    assert job.until_phase("Running")["node"] == "edge-2"
    fleet.kubectl("cordon", "edge-2")
    wait_until(lambda: ready_reasons(fleet)["edge-2"] == "Maintenance", "the cordon is seen", seconds=10)
    new = start(fleet, namespace, "new", "sleep", args=["0"], placement=only_on("edge-2", fleet))
    assert new.until("Complete")["node"] != "edge-2"
    assert [one["outcome"] for one in job.status()["attempts"]] == ["Running"], "a cordon leaves running work alone"
    fleet.kubectl("drain", "edge-2", "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=60s")
    wait_until(lambda: len(job.status()["attempts"]) == 2, "the drained job goes elsewhere", seconds=60)
    status = job.status()
    assert (status["attempts"][0]["outcome"], status["attempts"][0]["reason"]) == ("Disrupted", "Deleted")
    assert status["attempts"][1]["node"] != "edge-2"
    job.delete()


@pytest.mark.usefixtures("as_before")
def test_a_job_that_fits_nowhere_names_what_would_unblock_it(fleet: Fleet, namespace: str, figures: Figures) -> None:
    make_app(fleet, namespace, "sleep", SLEEP, outputs=None)
    for name in edge_devices(fleet):
        fleet.kubectl("cordon", name)
    wait_until(
        lambda: all(ready_reasons(fleet)[name] == "Maintenance" for name in edge_devices(fleet)),
        "all are seen",
        seconds=10,
    )
    job = start(fleet, namespace, "waits", "sleep", args=["0"])
    wait_until(lambda: job.status().get("placement"), "the job says why it waits", seconds=10)
    said = job.status()["placement"]["message"]
    assert "no device can take the job" in said
    assert "edge-1 Maintenance (it is cordoned (kubectl uncordon gives it back))" in said
    fleet.kubectl("uncordon", "edge-1")
    unblocked_at = now()
    wait_until(job.pods, "the job is placed", seconds=10, every_seconds=0.05)
    took = (now() - unblocked_at).total_seconds()
    assert job.until("Complete")["node"] == "edge-1"
    figures("what a job waited for has happened, to its pod", took, PLACED_WITHIN_SECONDS, "s")
    assert took <= PLACED_WITHIN_SECONDS
