"""With beats each second and a kubelet Lease of 4 s a device's death shows within seconds."""

from collections.abc import Iterator
from typing import Final

import pytest

from testbed import Fleet, wait_until
from testbed.install import install
from tests.figures import Figures
from tests.fleet.faults import added, bound_at, edge_devices, now, only_on, wait_fresh
from tests.fleet.work import make_app, start

REPLACED_WITHIN_SECONDS: Final = 10.0
DEVICE: Final = "edge-quick"


@pytest.fixture
def quick_beats(fleet: Fleet, edgewise: None) -> Iterator[None]:
    """Edgewise at 1 s beats, and as it was before after the test."""
    at_once = "agent.maxUnavailable=100%"
    install(fleet, "beatSeconds=1", at_once)
    yield
    install(fleet, at_once)
    wait_fresh(fleet, *edge_devices(fleet))


@pytest.mark.usefixtures("quick_beats")
def test_a_dead_device_loses_its_job_to_another_within_10_seconds(
    fleet: Fleet, namespace: str, figures: Figures
) -> None:
    script = "import os, time\ntime.sleep(600 if os.environ['EDGEWISE_ATTEMPT'] == '1' else 0)"
    make_app(fleet, namespace, "mover", script, outputs=None)
    with added(fleet, DEVICE, lease_seconds=4, status_seconds=1):
        job = start(
            fleet,
            namespace,
            "mover",
            "mover",
            placement=only_on(DEVICE, fleet),
            disconnect={"replaceAfterSeconds": 5},
        )
        assert job.until_phase("Running")["node"] == DEVICE
        cut_at = now()
        fleet.power_off(DEVICE)
        job.until("Complete", 60)
        bound = wait_until(lambda: bound_at(job.pods()[-1]), "the replacement is bound", seconds=10)
        assert bound is not None
        took = (bound - cut_at).total_seconds()
    assert [one["outcome"] for one in job.status()["attempts"]] == ["Lost", "Succeeded"]
    figures("power cut to the replacement bound, at 1 s beats and a 4 s Lease", took, REPLACED_WITHIN_SECONDS, "s")
    assert took <= REPLACED_WITHIN_SECONDS
