"""How long a batch of CPU-bound jobs takes on three unequal devices, from the first creation to the last end.

A round: the batch as Jobs shared out by hand in proportion to the devices' CPU bounds, which shows how fast each
device really is; as Jobs left to the default scheduler; and as EdgeJobs with the installation's default policy, in the
first round with each other registered policy too. The optimum is computed from what the first of these showed: the
least makespan of as many jobs on devices of those speeds, for somebody who knows them beforehand.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain, repeat
from typing import Any, Final

from edgewise.domain.policies import POLICIES

from bench import contestants
from bench.cluster import Cluster
from bench.contestants import EDGE_JOBS, JOBS, Work
from bench.errors import BenchError
from bench.optimum import optimum
from bench.rounds import Rounds
from bench.scale import Scale
from bench.watch import PodWatch, watching
from testbed import Fleet
from testbed.nodeconfig import EDGE_LABEL
from testbed.progress import step

TURNS: Final = 20_000_000
"""Of the loop that each job goes through: about two seconds on one core of a machine of today."""

LOOP: Final = """
import sys
state = 1
for _ in range(int(sys.argv[1])):
    state = state * 69069 + 1 & 0xFFFFFFFF
print(state)
"""

WORK: Final = Work(
    name="batch",
    command=["python3", "-c", LOOP],
    args=[str(TURNS)],
    selector=dict([EDGE_LABEL.split("=")]),
    requests={"cpu": "10m", "memory": "16Mi"},
)

END_SECONDS: Final = 600


@dataclass(frozen=True, slots=True)
class Batch:
    """What this part works with."""

    cluster: Cluster
    fleet: Fleet
    scale: Scale
    default_policy: str
    beat_interval: timedelta


async def measure(batch: Batch, rounds: Rounds) -> None:
    """All rounds. Raises `BenchError` when a job fails or something is not done in time."""
    await contestants.prepare(batch.cluster, WORK)
    for number in range(1, batch.scale.rounds + 1):
        await _round(batch, rounds, number)


async def _round(batch: Batch, rounds: Rounds, number: int) -> None:
    jobs = batch.scale.batch
    shared = _share(batch)
    by_hand = await _run(batch, JOBS, _pinned(shared.items()), f"round {number}: {jobs} Jobs, shared out by hand")
    seconds = {name: by_hand.busy_seconds[name] / count for name, count in shared.items()}
    best = optimum(jobs, seconds)
    default = await _run(
        batch, JOBS, (WORK.job(f"batch-{index}") for index in range(jobs)), "  Jobs, by the default scheduler"
    )
    rounds.add(
        makespan_s_optimum=best.makespan_seconds,
        makespan_s_by_hand=by_hand.seconds,
        makespan_s_default=default.seconds,
    )
    default_first = sorted(POLICIES, key=lambda name: name != batch.default_policy)
    for policy in default_first if number == 1 else default_first[:1]:
        manifests = (WORK.edge_job(f"batch-{index}", policy) for index in range(jobs))
        await asyncio.sleep(2 * batch.beat_interval.total_seconds())  # until beats tell of idle devices
        edgewise = await _run(batch, EDGE_JOBS, manifests, f"  EdgeJobs, by policy {policy}")
        name = policy.lower()
        figures = {
            f"makespan_s_{name}": edgewise.seconds,
            f"makespan_vs_default_{name}": edgewise.seconds / default.seconds,
            f"makespan_vs_optimum_{name}": edgewise.seconds / best.makespan_seconds,
        }
        if policy == batch.default_policy:
            figures |= {
                "makespan_vs_default": edgewise.seconds / default.seconds,
                "makespan_vs_optimum": edgewise.seconds / best.makespan_seconds,
            }
        rounds.add(**figures)


def _share(batch: Batch) -> Mapping[str, int]:
    """How many jobs each device gets by hand: in proportion to its CPU bound."""
    quotas = {
        name: device.settings.quota_percent
        for name, device in batch.fleet.devices().items()
        if device.settings.edge and device.settings.quota_percent
    }
    if len(quotas) < 2:
        raise BenchError("the makespan needs at least two devices with CPU bounds: start a new fleet (make down up)")
    return optimum(batch.scale.batch, {name: 1 / quota for name, quota in quotas.items()}).jobs


def _pinned(shares: Iterable[tuple[str, int]]) -> Iterable[dict[str, Any]]:
    nodes = chain.from_iterable(repeat(name, count) for name, count in shares)
    return (WORK.job(f"batch-{index}", node) for index, node in enumerate(nodes))


@dataclass(frozen=True, slots=True)
class Run:
    """When the last job of a batch has ended, and the last one on each device, in seconds from the first creation."""

    seconds: float
    busy_seconds: Mapping[str, float]


async def _run(batch: Batch, path: str, jobs: Iterable[dict[str, Any]], title: str) -> Run:
    """Run one batch, and clear it."""
    with step(title) as current:
        async with watching(batch.cluster, contestants.NAMESPACE) as watch:
            began = time.monotonic()
            await batch.cluster.create_all(path, jobs)
            await watch.until(lambda: _over(watch, batch.scale.batch), "the batch has ended", seconds=END_SECONDS)
        if watch.failed:
            raise BenchError(f"pods have failed: {', '.join(sorted(watch.failed)[:5])}")
        busy: dict[str, float] = {}
        for name, ended in watch.ended.items():
            node = watch.nodes[name]
            busy[node] = max(busy.get(node, 0.0), ended - began)
        run = Run(max(busy.values()), busy)
        counts = Counter(watch.nodes.values())
        shares = [f"{counts[node]} on {node} until {busy[node]:.0f} s" for node in sorted(busy)]
        current.note = ", ".join(shares)
    await contestants.clear_jobs(batch.cluster)
    return run


def _over(watch: PodWatch, jobs: int) -> bool:
    return bool(watch.failed) or len(watch.ended) >= jobs
