"""How fast jobs are bound: a backlog on simulated devices, and single jobs when nothing else goes on.

A round, with the same Jobs and EdgeJobs each time:

1. controllers with Kubernetes' own client limits: a backlog of each kind, until 40 % of it is bound (a stock control
   plane would take minutes for all, and the burst that its limits allow at first is in the figure). No pod ends.
2. controllers with raised limits: a backlog of each kind, timed from the first creation to the last binding, then on to
   the end of all jobs, with what that took of CPU, memory and writes.
3. single jobs of each kind in turn, timed from before their creation to their binding.

Who goes first changes with each round. Both kinds of jobs are pinned to a device when their pod is made; the default
scheduler binds both.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Final
from uuid import uuid4

from bench import contestants
from bench.cluster import Cluster
from bench.consumption import (
    MIB,
    controller_manager,
    device_writes,
    edge_job_writes,
    job_writes,
    leading_operator,
    write_counts,
)
from bench.contestants import EDGE_JOBS, JOBS, Work
from bench.figures import quantile
from bench.rounds import Rounds
from bench.scale import Scale
from bench.waiting import until
from bench.watch import PodWatch, watching
from testbed import Fleet, simulation
from testbed.controlplane import ClientLimits
from testbed.progress import step

RAISED: Final = ClientLimits(qps=2000, burst=4000, job_syncs=50)
"""What a control plane is given that shall not hold its own controllers back."""

STOCK_SHARE: Final = 0.4
"""Of the backlog that is waited for on a stock control plane."""

BOUND_SECONDS: Final = 400
FINISHED_SECONDS: Final = 300
PROBE_SECONDS: Final = 30
PROBE_PAUSE_SECONDS: Final = 0.15


def _work(name: str, seconds: int) -> Work:
    return Work(
        name=name,
        command=["simulated"],
        args=[f"{seconds}s"],
        selector={simulation.LABEL: "true"},
        requests={"cpu": "100m", "memory": "64Mi"},
    )


STAYING: Final = _work("staying", 600)
"""Jobs that outlast the measurement."""

ENDING: Final = _work("ending", 20)
"""Jobs that end after a backlog of them has been bound."""

SHORT: Final = _work("short", 1)

WORKS: Final = (STAYING, ENDING, SHORT)


@dataclass(frozen=True, slots=True)
class Bench:
    """What this part works with."""

    cluster: Cluster
    fleet: Fleet
    devices: tuple[str, ...]
    scale: Scale

    def edge_jobs(self, work: Work, number: int) -> Iterator[dict[str, Any]]:
        """EdgeJobs, to be placed by the operator."""
        return (work.edge_job(f"{work.name}-{index}") for index in range(number))

    def jobs(self, work: Work, number: int) -> Iterator[dict[str, Any]]:
        """Jobs, each pinned to the next device in turn."""
        devices = cycle(self.devices)
        return (work.job(f"{work.name}-{index}", next(devices)) for index in range(number))


async def measure(bench: Bench, rounds: Rounds) -> None:
    """All rounds. Raises `BenchError` when something is not done in time."""
    await contestants.prepare(bench.cluster, *WORKS)
    try:
        for number in range(1, bench.scale.rounds + 1):
            edgewise_first = number % 2 == 1
            await _limits(bench, None, f"round {number}: Kubernetes' own client limits")
            stock = await _stock(bench, rounds, edgewise_first)
            await _limits(bench, RAISED, f"round {number}: raised client limits")
            await contestants.clear_jobs(bench.cluster)
            await _raised(bench, rounds, edgewise_first, stock)
            await _probes(bench, rounds)
            await contestants.clear_jobs(bench.cluster)
    finally:
        await asyncio.to_thread(bench.fleet.limit_clients, None)


async def _limits(bench: Bench, limits: ClientLimits | None, title: str) -> None:
    """Restart the controllers, and wait until they have run a job."""
    with step(title):
        await asyncio.to_thread(bench.fleet.limit_clients, limits)
        async with watching(bench.cluster, contestants.NAMESPACE) as watch:
            name = f"controllers-work-{uuid4().hex[:8]}"
            await bench.cluster.create(JOBS, SHORT.job(name, bench.devices[0]))
            await watch.until(lambda: name in watch.ended, "the controllers work", seconds=60)


async def _stock(bench: Bench, rounds: Rounds, edgewise_first: bool) -> float:
    """Both backlogs; Jobs bound a second. EdgeJobs are cleared at once, for Jobs that takes as long as their making."""

    async def edgewise() -> float:
        with step(f"  {bench.scale.backlog} EdgeJobs") as current:
            rate = await _first_bound(bench, EDGE_JOBS, bench.edge_jobs(STAYING, bench.scale.backlog))
            current.note = f"{rate:.0f} bound a second"
        await contestants.clear_edge_jobs(bench.cluster)
        return rate

    async def kubernetes() -> float:
        with step(f"  {bench.scale.backlog} Jobs") as current:
            rate = await _first_bound(bench, JOBS, bench.jobs(STAYING, bench.scale.backlog))
            current.note = f"{rate:.0f} bound a second"
        return rate

    mine, theirs = 0.0, 0.0
    if edgewise_first:
        mine, theirs = await edgewise(), await kubernetes()
    else:
        theirs, mine = await kubernetes(), await edgewise()
    rounds.add(bound_per_s_stock=theirs, bound_per_s_on_stock=mine, bound_per_s_both_on_stock=mine / theirs)
    return theirs


async def _first_bound(bench: Bench, path: str, jobs: Iterator[dict[str, Any]]) -> float:
    """Make the backlog; jobs bound a second until the first ones of it are bound."""
    async with watching(bench.cluster, contestants.NAMESPACE) as watch:
        return await _bound(bench, watch, path, jobs, int(bench.scale.backlog * STOCK_SHARE))


async def _bound(bench: Bench, watch: PodWatch, path: str, jobs: Iterator[dict[str, Any]], number: int) -> float:
    """Make all jobs as fast as the API takes them; jobs bound a second until `number` of them are bound."""
    began = time.monotonic()
    making = asyncio.create_task(bench.cluster.create_all(path, jobs))
    try:
        await watch.until(lambda: len(watch.bound) >= number, f"{number} jobs are bound", seconds=BOUND_SECONDS)
        await making
    finally:
        making.cancel()
    return number / (sorted(watch.bound.values())[number - 1] - began)


async def _raised(bench: Bench, rounds: Rounds, edgewise_first: bool, stock: float) -> None:
    """Both backlogs, each to the end of its last job; `stock` is how many Jobs were bound a second without."""
    contests = [_edgewise_life, _jobs_life]
    rates = [await contest(bench, rounds) for contest in (contests if edgewise_first else reversed(contests))]
    mine, theirs = rates if edgewise_first else reversed(rates)
    rounds.add(bound_per_s_vs_pinned=mine / theirs, bound_per_s_vs_stock=mine / stock)


async def _edgewise_life(bench: Bench, rounds: Rounds) -> float:
    number = bench.scale.backlog
    with step(f"  {number} EdgeJobs, to their end") as current:
        counted, before = await write_counts(bench.cluster), await leading_operator(bench.cluster)
        async with watching(bench.cluster, contestants.NAMESPACE) as watch:
            rate = await _bound(bench, watch, EDGE_JOBS, bench.edge_jobs(ENDING, number), number)
            busy = await leading_operator(bench.cluster)
            await _finished(bench, watch, EDGE_JOBS, lambda job: job["status"].get("phase") == "Succeeded")
        after, made = await leading_operator(bench.cluster), await write_counts(bench.cluster)
        made.subtract(counted)
        per_job = edge_job_writes(made) / number
        rounds.add(bound_per_s=rate, writes_per_job=per_job, leader_changes=after.process != before.process)
        if after.process == before.process:
            rounds.add(
                operator_cpu_s_per_job=(after.usage.cpu_seconds - before.usage.cpu_seconds) / number,
                operator_rss_mib=max(busy.usage.rss_bytes, after.usage.rss_bytes) / MIB,
                writes_per_job_by_operator=(after.writes - before.writes - device_writes(made)) / number,
            )
        current.note = f"{rate:.0f} bound a second, {per_job:.2f} writes a job"
    await contestants.clear_jobs(bench.cluster)
    return rate


async def _jobs_life(bench: Bench, rounds: Rounds) -> float:
    number = bench.scale.backlog
    with step(f"  {number} Jobs, to their end") as current:
        counted, usage = await write_counts(bench.cluster), controller_manager()
        async with watching(bench.cluster, contestants.NAMESPACE) as watch:
            rate = await _bound(bench, watch, JOBS, bench.jobs(ENDING, number), number)
            await _finished(bench, watch, JOBS, lambda job: "completionTime" in job["status"])
        after, made = controller_manager(), await write_counts(bench.cluster)
        made.subtract(counted)
        per_job = job_writes(made) / number
        rounds.add(
            bound_per_s_pinned=rate,
            manager_cpu_s_per_job=(after.cpu_seconds - usage.cpu_seconds) / number,
            manager_rss_mib=after.rss_bytes / MIB,
            job_writes_per_job=per_job,
        )
        current.note = f"{rate:.0f} bound a second, {per_job:.2f} writes a job"
    await contestants.clear_jobs(bench.cluster)
    return rate


async def _finished(bench: Bench, watch: PodWatch, path: str, is_finished: Callable[[dict[str, Any]], bool]) -> None:
    """Wait until every pod has ended, and then until every job's status says so."""
    number = bench.scale.backlog
    await watch.until(lambda: len(watch.ended) >= number, f"{number} pods have ended", seconds=FINISHED_SECONDS)

    async def all_finished() -> bool:
        items = (await bench.cluster.get(path))["items"]
        return len(items) == number and all(is_finished(job) for job in items)

    await until(all_finished, f"{number} jobs have finished", seconds=FINISHED_SECONDS, every_seconds=2)


async def _probes(bench: Bench, rounds: Rounds) -> None:
    """Single jobs of each kind in turn, each after a pause."""
    mine: list[float] = []
    theirs: list[float] = []
    with step(f"  {bench.scale.probes} single jobs of each kind") as current:
        async with watching(bench.cluster, contestants.NAMESPACE) as watch:
            devices = cycle(bench.devices)
            for index in range(bench.scale.probes):
                edge_job, job = SHORT.edge_job(f"edgejob-{index}"), SHORT.job(f"job-{index}", next(devices))
                mine.append(await _probe(bench, watch, EDGE_JOBS, edge_job))
                theirs.append(await _probe(bench, watch, JOBS, job))
        rounds.add(
            p50_ms=quantile(mine, 0.5) * 1000,
            p99_ms=quantile(mine, 0.99) * 1000,
            job_p50_ms=quantile(theirs, 0.5) * 1000,
            job_p99_ms=quantile(theirs, 0.99) * 1000,
            p50_vs_job=quantile(mine, 0.5) / quantile(theirs, 0.5),
            p99_vs_job=quantile(mine, 0.99) / quantile(theirs, 0.99),
        )
        current.note = f"median {quantile(mine, 0.5) * 1000:.0f} ms and {quantile(theirs, 0.5) * 1000:.0f} ms"


async def _probe(bench: Bench, watch: PodWatch, path: str, job: dict[str, Any]) -> float:
    """Seconds from before a job's creation to its binding."""
    name = job["metadata"]["name"]
    await asyncio.sleep(PROBE_PAUSE_SECONDS)
    began = time.monotonic()
    await bench.cluster.create(path, job)
    await watch.until(lambda: name in watch.bound, f"{name} is bound", seconds=PROBE_SECONDS)
    return watch.bound[name] - began
