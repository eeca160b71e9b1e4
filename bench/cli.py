"""The command `python -m bench`: which parts run, how much they do, and what is left when they end."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from typing import Final

import uvloop
from edgewise.kube.client import Refused, Unreachable

from bench import binding, delivery, idle, makespan, report
from bench.cluster import Cluster, connected
from bench.errors import BenchError
from bench.reporters import reporting
from bench.rounds import Rounds
from bench.scale import QUICK, Scale
from testbed import Fleet, FleetError, simulation
from testbed.controlplane import API, require_running
from testbed.install import NAMESPACE
from testbed.kubeapi import KubeApi
from testbed.progress import say, step

PARTS: Final = ("idle", "csv", "makespan", "binding")


def main() -> None:
    """Run the bench; exits with 1 when a part could not be measured. Aims that are not met are told, not punished."""
    parser = argparse.ArgumentParser(prog="bench", description="Edgewise against plain Kubernetes, side by side.")
    parser.add_argument("--only", choices=PARTS, action="append", help="run this part (may be given again)")
    parser.add_argument("--rounds", type=int, help="how often everything is measured (3)")
    parser.add_argument("--quick", action="store_true", help="one small round, to see whether all works")
    arguments = parser.parse_args()
    scale = QUICK if arguments.quick else Scale()
    if arguments.rounds is not None:
        scale = replace(scale, rounds=max(1, arguments.rounds))
    rounds = Rounds()
    try:
        require_running()
        uvloop.run(run(arguments.only or PARTS, scale, rounds))
    except (BenchError, FleetError, Refused, Unreachable, KeyboardInterrupt) as error:
        _tell(rounds)
        sys.exit(f"bench: {error or 'interrupted'}")
    report.save(rounds.figures(), scale)
    _tell(rounds)
    say(f"\n{report.LATEST.relative_to(report.LATEST.parent.parent)} has these figures; bench/README.md explains them.")


def _tell(rounds: Rounds) -> None:
    if rounds.values:
        say("\n" + report.table(rounds.figures()))


async def run(parts: Sequence[str], scale: Scale, rounds: Rounds) -> None:
    """Run the parts in their order. Raises `BenchError` and what testbed and client raise."""
    fleet = Fleet()
    async with connected() as cluster:
        settings = await _settings(cluster)
        interval = timedelta(seconds=float(settings["EDGEWISE_BEAT_SECONDS"]))
        if "idle" in parts:
            await idle.measure(fleet, scale, rounds)
        if "csv" in parts:
            await delivery.measure(delivery.Delivery(cluster, fleet, scale), rounds)
        if "makespan" in parts:
            policy = settings["EDGEWISE_DEFAULT_POLICY"]
            await makespan.measure(makespan.Batch(cluster, fleet, scale, policy, interval), rounds)
        if "binding" in parts:
            await _bind(cluster, fleet, scale, interval, rounds)


async def _bind(cluster: Cluster, fleet: Fleet, scale: Scale, interval: timedelta, rounds: Rounds) -> None:
    """Run the part that needs simulated devices, and remove them."""
    devices = tuple(f"simulated-{number:03}" for number in range(1, scale.devices + 1))
    api = KubeApi(API)
    async with AsyncExitStack() as stack:
        stack.callback(simulation.end, api)
        with step(f"{scale.devices} simulated devices"):
            await asyncio.to_thread(fleet.limit_clients, binding.RAISED)
            await asyncio.to_thread(simulation.start, api, devices)
            await stack.enter_async_context(reporting(cluster, devices, interval))
        await binding.measure(binding.Bench(cluster, fleet, devices, scale), rounds)


async def _settings(cluster: Cluster) -> dict[str, str]:
    """The environment of the installed operator."""
    operator = await cluster.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/edgewise-operator")
    environment = operator["spec"]["template"]["spec"]["containers"][0]["env"]
    return {one["name"]: one["value"] for one in environment if "value" in one}
