"""The agent's start and stop: puts the parts together, runs their loops as one group, and ends them on SIGTERM.

This module owns the wiring and the order; it decides nothing of what the parts do. A loop that fails unexpectedly ends
the agent with its traceback, so that kubelet starts it anew: everything that matters is on the disk.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Final

from edgewise_agent import __version__, health
from edgewise_agent.beats import Beats
from edgewise_agent.benchmark import Benchmarker, Idleness
from edgewise_agent.bundles import Bundles
from edgewise_agent.clock import Clock
from edgewise_agent.measure import Measurer
from edgewise_agent.metrics import Meter, MetricsUnreadable
from edgewise_agent.podlogs import LOOK_SECONDS, PodLogs
from edgewise_agent.settings import Settings, SettingsError
from edgewise_agent.telemetry import Telemetry
from edgewise_agent.uplink.connection import Connection
from edgewise_agent.uplink.gateway import Gateway
from edgewise_agent.uplink.http import HttpUplink
from edgewise_agent.uplink.pace import Pace
from edgewise_agent.uploader import Uploader
from edgewise_agent.volumes import server
from edgewise_agent.volumes.csi import NodeService
from edgewise_agent.volumes.registration import RegistrationService
from edgewise_agent.volumes.table import VolumeTable

THREADS: Final = 9
"""For what blocks, besides one an upload: beats, measuring, reconciling, fetching, logs one each, kubelet the rest."""
BEAT_READ_SECONDS: Final = 10.0
UPLOAD_READ_SECONDS: Final = 30.0

_log = logging.getLogger("edgewise_agent.main")  # as a program the module is called __main__


def main() -> None:
    """The command `edgewise-agent`. Exits 2 on wrong settings or an unusable host, 0 after SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        asyncio.run(run(os.environ))
    except (SettingsError, MetricsUnreadable) as problem:
        for line in str(problem).splitlines():
            _log.error("%s", line)
        sys.exit(2)


async def run(environment: Mapping[str, str]) -> None:
    """Run the agent until SIGTERM or SIGINT. Raises `SettingsError`, `MetricsUnreadable`, `OSError`."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    settings = Settings.from_environment(environment)
    logging.getLogger("edgewise_agent").setLevel(settings.log_level)
    await Agent(settings).run(stop)


class Agent:
    """All parts of one agent, wired."""

    def __init__(self, settings: Settings) -> None:
        """Reads the host's figures once. Raises `MetricsUnreadable`, and `OSError` when kubelet's root is unusable."""
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._loop.set_default_executor(
            ThreadPoolExecutor(THREADS + settings.upload_concurrency, thread_name_prefix="agent")
        )
        clock = Clock(timedelta(seconds=settings.clock_offset_seconds))
        self._table = VolumeTable(settings, self._volume_changed)
        self._benchmarker = Benchmarker(settings, clock, self._idleness)
        self._operator = self._connection(settings.operator_url, BEAT_READ_SECONDS)
        self._gateway = self._connection(settings.gateway_url, UPLOAD_READ_SECONDS, settings.upload_concurrency + 1)
        self._bundles = Bundles(settings, self._gateway)
        gateway = Gateway(self._gateway, Pace(settings.upload_bytes_per_second))
        self._uploader = Uploader(self._table, gateway, concurrency=settings.upload_concurrency)
        self._answered = asyncio.Event()
        self._beats = Beats(
            settings,
            clock,
            Meter(settings.host_root, settings.kubelet_root),
            self._table,
            self._benchmarker,
            HttpUplink(self._operator),
            self._in_contact,
            self._bundles.held,
        )
        self._pod_logs = PodLogs(settings, self._table)
        self._measurer = Measurer(settings, self._table, self._bundles.give_way)
        self._node = NodeService(settings, self._table, self._bundles)
        self._registration = RegistrationService(settings)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve kubelet, beat, measure and upload until `stop` is set."""
        _log.info("edgewise-agent %s on node %s starts", __version__, self._settings.node_name)
        await asyncio.to_thread(self._take_up)
        telemetry = Telemetry(self._beats, self._table, self._uploader, self._node, self._registration)
        async with (
            health.serve(self._settings.http_port, telemetry.exposition) as port,
            server.serve(self._settings, self._node, self._registration),
            asyncio.TaskGroup() as group,
        ):
            _log.info("serving kubelet on %s, probes and metrics on port %d", self._settings.plugin_socket, port)
            loops = [
                group.create_task(loop, name=name)
                for name, loop in (
                    ("beats", self._beats.run()),
                    ("measure", self._measurer.run()),
                    ("reconcile", self._reconcile()),
                    ("logs", self._watch_logs()),
                    ("upload", self._uploader.run()),
                    ("benchmark", self._benchmarker.run()),
                )
            ]
            await stop.wait()
            _log.info("edgewise-agent stops; what is not sent stays in the spool")
            for task in loops:
                task.cancel()
            await asyncio.to_thread(self._operator.close)
            await asyncio.to_thread(self._gateway.close)

    def _take_up(self) -> None:
        self._table.load()
        self._bundles.load()
        self._benchmarker.load()
        self._table.reconcile(None)
        self._bundles.reconcile(None)
        self._table.spool.sweep()

    async def _reconcile(self) -> None:
        """Compare journal, disk and live pods: once the operator has answered, then at each interval."""
        await self._answered.wait()
        while True:
            last = self._beats.last
            live = None if last is None else last.live_pods
            await asyncio.to_thread(self._table.reconcile, live)
            await asyncio.to_thread(self._bundles.reconcile, live)
            await asyncio.sleep(self._settings.reconcile_seconds)

    async def _watch_logs(self) -> None:
        """Look at the logs of the pods that the operator names, and of those that it has named."""
        await self._answered.wait()
        while True:
            last = self._beats.last
            named = None if last is None else last.answer.logs_of
            if named or not self._pod_logs.idle:
                await asyncio.to_thread(self._pod_logs.look, named)
            await asyncio.sleep(LOOK_SECONDS)

    def _connection(self, url: str, read_seconds: float, kept: int = 1) -> Connection:
        settings = self._settings
        return Connection(
            url, ca_file=settings.ca_file, token_file=settings.token_file, read_seconds=read_seconds, kept=kept
        )

    def _in_contact(self) -> None:
        self._answered.set()
        self._uploader.try_now()

    def _idleness(self) -> Idleness:
        sent, last = self._beats.sent, self._beats.last
        return Idleness(
            cpu_free_percent=None if sent is None else sent.metrics.cpu_free_percent,
            live_volumes=len(self._table.live()),
            running=None if last is None or last.age > 2.5 * self._settings.beat_seconds else last.answer.running,
        )

    def _volume_changed(self) -> None:
        """Wake who waits for volumes; called from any thread."""
        with suppress(RuntimeError):  # the loop is closed: the agent has stopped, nobody waits any more
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._beats.wake()
        self._uploader.wake()


if __name__ == "__main__":
    main()
