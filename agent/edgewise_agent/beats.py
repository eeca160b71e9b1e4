"""The device's beats: what it measured, when it is due, and what the operator answered.

This module owns the rhythm. A beat goes out right after the start, at each interval, and soon after a volume changed;
a failing uplink is tried again with growing waits. It never blocks anything else and keeps no beat for later: an old
one is worth nothing.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from edgewise_agent import __version__
from edgewise_agent.backoff import Backoff
from edgewise_agent.benchmark import Benchmarker
from edgewise_agent.clock import Clock
from edgewise_agent.metrics import SHORTEST_WINDOW_SECONDS, Meter, MetricsUnreadable
from edgewise_agent.settings import Settings
from edgewise_agent.uplink.connection import Unreachable
from edgewise_agent.uplink.http import Uplink
from edgewise_agent.volumes.table import LivePods, VolumeTable
from edgewise_agent.wire import Beat, BeatAnswer

DEBOUNCE_SECONDS: Final = 0.2
"""Changes within this time travel in one beat."""
BOOT_CHARACTERS: Final = 12
"""Of a random id: enough to tell two processes of one device apart."""
LEAST_SECONDS: Final = 1.0
"""Between two beats, however much changes."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answered:
    """The operator's last answer, and when it came (monotonic seconds)."""

    answer: BeatAnswer
    at: float

    @property
    def age(self) -> float:
        """Seconds since it came."""
        return time.monotonic() - self.at

    @property
    def live_pods(self) -> LivePods | None:
        """The pods that live on the device, or None when the operator did not know."""
        uids = self.answer.live_pods
        return None if uids is None else LivePods(frozenset(uids), self.at)


class Beats:
    """Sends the beats of one device. `wake` it when a volume changed."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        meter: Meter,
        table: VolumeTable,
        benchmarker: Benchmarker,
        uplink: Uplink,
        on_contact: Callable[[], None],
        bundles: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        """`on_contact` is called when answers begin to come, or come again; `bundles` says which are held."""
        self._settings = settings
        self._clock = clock
        self._meter = meter
        self._table = table
        self._benchmarker = benchmarker
        self._uplink = uplink
        self._on_contact = on_contact
        self._bundles = bundles
        self._boot = uuid.uuid4().hex[:BOOT_CHARACTERS]
        self._sequence = 0
        self._wake = asyncio.Event()
        self._backoff = Backoff(1, max(1.0, settings.beat_seconds))
        self.last: Answered | None = None
        self.sent: Beat | None = None
        """The last beat that was made, whether it arrived or not."""
        self.failures = 0
        """Beats since the start that got no good answer."""

    def wake(self) -> None:
        """Something changed that the operator should know soon."""
        self._wake.set()

    async def run(self) -> None:
        """Send beats until cancelled."""
        await asyncio.sleep(SHORTEST_WINDOW_SECONDS)
        in_contact = False
        while True:
            started = time.monotonic()
            self._wake.clear()
            try:
                answer = await asyncio.to_thread(self._send)
            except (Unreachable, MetricsUnreadable) as error:
                self.failures += 1
                in_contact = False
                seconds = self._backoff.failed()
                _log.warning("no beat, trying again in %.1f s: %s", seconds, error)
                await asyncio.sleep(seconds)
                continue
            self._backoff.succeeded()
            self.last = Answered(answer, time.monotonic())
            if not in_contact:
                _log.info("the operator at %s answers", self._settings.operator_url)
                self._on_contact()
                in_contact = True
            await self._until_due(started)

    async def _until_due(self, started: float) -> None:
        """Wait for the next interval, or for a change and those that follow it at once."""
        rest = self._settings.beat_seconds - (time.monotonic() - started)
        try:
            async with asyncio.timeout(max(0.0, rest)):
                await self._wake.wait()
                await asyncio.sleep(max(DEBOUNCE_SECONDS, LEAST_SECONDS - (time.monotonic() - started)))
        except TimeoutError:
            pass

    def _send(self) -> BeatAnswer:
        beat = self._next_beat()
        self.sent = beat
        return self._uplink.send(beat)

    def _next_beat(self) -> Beat:
        self._sequence += 1
        return Beat(
            node=self._settings.node_name,
            boot=self._boot,
            sequence=self._sequence,
            sampled_at=self._clock.now(),
            interval_seconds=self._settings.beat_seconds,
            metrics=self._meter.sample(),
            spool=self._table.usage(),
            benchmark=self._benchmarker.result,
            volumes=self._table.reports(),
            agent_version=__version__,
            bundles=self._bundles(),
        )
