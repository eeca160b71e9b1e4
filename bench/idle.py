"""What a device spends while nothing runs on it: bytes over its link and bytes written to its flash, in a day.

Both are counted from outside. nftables counts, in the device's network namespace, the agent's packets that cross the
link, both ways and with their headers. What the agent's process has the kernel write to the disk is in /proc, and what
it logs is the growth of its log file. Kubelet and other pods count nothing: a cluster has them anyhow.
"""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from bench.errors import BenchError
from bench.rounds import Rounds
from bench.scale import Scale
from testbed import Fleet
from testbed.commands import run
from testbed.install import NAMESPACE
from testbed.network import namespace
from testbed.progress import step

DAY_SECONDS: Final = 86_400
MB: Final = 1e6
TABLE: Final = "edgewise_bench"
NO_TABLE: Final = f"add table ip {TABLE}\ndelete table ip {TABLE}\n"
"""Removes the table, whether it is there or not."""
LINK: Final = "eth0"


@dataclass(frozen=True, slots=True)
class Agent:
    """The agent of one device."""

    device: str
    address: str
    process: psutil.Process
    logs: Path

    def link_bytes(self) -> int:
        """What has crossed the link since counting began."""
        counters = json.loads(_nft(self.device, "list counters", "--json"))["nftables"]
        return sum(one["counter"]["bytes"] for one in counters if "counter" in one)

    def flash_bytes(self) -> int:
        """What it has had written so far."""
        logged = sum(file.stat().st_size for file in self.logs.rglob("*.log"))
        return self.process.io_counters().write_bytes + logged


async def measure(fleet: Fleet, scale: Scale, rounds: Rounds) -> None:
    """All rounds: the mean of the devices, scaled to a day. Raises `BenchError` when an agent does not run."""
    agents = await asyncio.to_thread(_agents, fleet)
    for number in range(1, scale.rounds + 1):
        with step(f"round {number}: {len(agents)} idle devices for {scale.idle_seconds} s") as current:
            with _counting(agents):
                began, before = time.monotonic(), [(one.link_bytes(), one.flash_bytes()) for one in agents]
                await asyncio.sleep(scale.idle_seconds)
                days = len(agents) * (time.monotonic() - began) / DAY_SECONDS
                after = [(one.link_bytes(), one.flash_bytes()) for one in agents]
            link, flash = (sum(b[i] - a[i] for a, b in zip(before, after, strict=True)) / days / MB for i in (0, 1))
            rounds.add(idle_link_mb_per_day=link, idle_flash_mb_per_day=flash)
            current.note = f"{link:.1f} MB over the link and {flash:.1f} MB to flash a device and day"


def _agents(fleet: Fleet) -> list[Agent]:
    told = fleet.kubectl(
        *("get", "pods", "--namespace", NAMESPACE, "--selector=app.kubernetes.io/component=agent", "--output=json")
    )
    found = []
    for pod in json.loads(told)["items"]:
        name, uid, device = pod["metadata"]["name"], pod["metadata"]["uid"], fleet.device(pod["spec"]["nodeName"])
        processes = [psutil.Process(pid) for pid in device.groups.processes(device.group)]
        mine = [one for one in processes if uid in Path(f"/proc/{one.pid}/cgroup").read_text() and _is_agent(one)]
        if not mine:
            raise BenchError(f"the agent of {device.name} does not run: kubectl -n {NAMESPACE} describe pod {name}")
        logs = device.root() / f"var/log/pods/{NAMESPACE}_{name}_{uid}"
        found.append(Agent(device.name, pod["status"]["podIP"], mine[0], logs))
    return found


def _is_agent(process: psutil.Process) -> bool:
    return "edgewise_agent.main" in process.cmdline()


@contextmanager
def _counting(agents: list[Agent]) -> Iterator[None]:
    """Counters of each agent's packets over its device's link."""
    try:
        for one in agents:
            rules = f"""{NO_TABLE}
                table ip {TABLE} {{
                    counter up {{}}
                    counter down {{}}
                    chain forward {{
                        type filter hook forward priority filter
                        ip saddr {one.address} oifname {LINK} counter name up
                        ip daddr {one.address} iifname {LINK} counter name down
                    }}
                }}
            """
            _nft(one.device, "--file -", stdin=rules)
        yield
    finally:
        for one in agents:
            _nft(one.device, "--file -", stdin=NO_TABLE)


def _nft(device: str, command: str, *options: str, stdin: str | None = None) -> str:
    return run("nsenter", f"--net={namespace(device)}", "nft", *options, *command.split(), stdin=stdin)
