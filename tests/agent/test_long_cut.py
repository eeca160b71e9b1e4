"""Hours without network, on a clock that the test moves: rare tries, nothing sent twice, home soon after the end."""

import os

import pytest
from edgewise_agent import uploader as module
from edgewise_agent.settings import Settings
from edgewise_agent.uploader import CHUNK_BYTES, Uploader
from edgewise_agent.volumes.table import VolumeTable
from edgewise_agent.wire import VolumeState

from tests.agent.cluster import Cluster, Fault
from tests.agent.test_uploader import Device
from tests.agent.waiting import until
from tests.figures import Figures, Tally

CUT_SECONDS = 8 * 3600
LONGEST_WAIT_SECONDS = 60
ARRIVED_BEFORE = 1_000_000
BIG = os.urandom(2 * CHUNK_BYTES + 12_345)


class CutOff:
    """The uploader's clock, and a network that is cut until a certain time on it."""

    def __init__(self, cluster: Cluster) -> None:
        self.seconds = 0.0
        self.tried_again_at: float | None = None
        """when the first request after the cut was due; later waits are for the operator's decision"""
        self._cluster = cluster

    def monotonic(self) -> float:
        return self.seconds

    def wait(self, seconds: float) -> None:
        """Let so much time pass; while the network is cut, the next request gets no answer."""
        self.seconds += seconds
        if self.tried_again_at is None and self.seconds >= CUT_SECONDS:
            self.tried_again_at = self.seconds
        self._cluster.faults[:] = [Fault("PUT")] if self.seconds < CUT_SECONDS else []


@pytest.fixture
def cut_off(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> CutOff:
    """The uploader waits on this clock, and for its own threads on the real one."""
    clock = CutOff(cluster)
    really_pause = Uploader._pause

    async def pause(uploader: Uploader, seconds: float | None) -> None:
        if seconds is None:
            await really_pause(uploader, None)
        else:
            clock.wait(seconds)

    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(Uploader, "_pause", pause)
    return clock


async def test_a_cut_of_hours_amid_an_upload(
    reachable: Settings, cluster: Cluster, cut_off: CutOff, figures: Figures
) -> None:
    table = VolumeTable(reachable, lambda: None)
    table.load()
    device = Device(reachable, table, cluster)
    pod = device.pod(big_csv=BIG, small_csv="photo,x\n")
    cluster.faults.append(Fault("PATCH", keep_bytes=ARRIVED_BEFORE))
    async with device.uploading(concurrency=1):
        await until(lambda: device.report(pod).state is VolumeState.DONE, "the results to come home", 60)
    written = {"big.csv": BIG, "small.csv": b"photo,x\n"}
    assert device.home(pod).files() == written
    assert sum(length for _, length in cluster.patched) == sum(map(len, written.values())) - ARRIVED_BEFORE
    tries = sum(method == "PUT" for method, _ in cluster.requests)
    assert CUT_SECONDS / LONGEST_WAIT_SECONDS < tries < 2 * CUT_SECONDS / LONGEST_WAIT_SECONDS + 20
    assert cut_off.tried_again_at is not None
    late = cut_off.tried_again_at - CUT_SECONDS
    assert late <= LONGEST_WAIT_SECONDS
    figures("a network cut of 8 h amid an upload: tries meanwhile", tries)
    figures("a network cut of 8 h amid an upload: its end to the next try", late, LONGEST_WAIT_SECONDS, "s")
    resumed = sum(offset == ARRIVED_BEFORE for offset, _ in cluster.patched)
    Tally(len(written), 1, resumed, len(written)).tell(figures, "a network cut of 8 h amid an upload")
