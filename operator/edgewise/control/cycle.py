"""The cycle: wait for a touch, freeze a snapshot, plan, apply. One at a time, once per short debounce."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from edgewise.control.world import World
from edgewise.control.writer import Writer
from edgewise.domain.actions import Action, CreatePod, DeletePod, PatchStatus
from edgewise.domain.massloss import MassLoss
from edgewise.domain.plan import plan

DEBOUNCE_SECONDS: Final = 0.05
"""How long after a pass events are gathered for the next one. A new job does not wait for it."""

RETRY_SECONDS: Final = 1.0
"""How soon after a failed write the next plan is made."""

MOST_STARTED: Final = 256
"""How many pods one pass starts or ends, with the writes that such decisions wait for.

What is left is planned anew: by then, something more urgent may have come.
"""

MOST_TOLD: Final = 32
FEWEST_TOLD: Final = 1
BEHIND_SECONDS: Final = 15.0
"""How many other writes one pass carries out: fewest while it starts or ends pods, unless some have waited this long.

They tell of something, and a status costs the API server five times what a new pod does. So a burst is placed first and
told of afterwards, no new job waits behind many of them, and under a load that does not end both go on.
"""

BEATS_SECONDS: Final = 1.0
"""How long beats are gathered: a pass looks at every job, and a large fleet reports many times a second."""

IDLE_SECONDS: Final = 30.0
"""A plan is made at least this often, so that nothing depends on a single event."""

PASSES = Histogram("edgewise_cycle_seconds", "Duration of a planning pass", ["step"])
FAILURES = Counter("edgewise_cycle_failures_total", "Planning passes that ended in an unexpected error")

PAUSED = Gauge("edgewise_evictions_paused", "1 while no job is moved, because too many devices fell silent at once")
FAULTS = Counter("edgewise_decision_faults_total", "Objects that a planning pass failed on", ["kind"])

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Cycle:
    """Runs the one way through the code, for as long as `run` runs."""

    world: World
    writer: Writer
    wall: Callable[[], datetime] = lambda: datetime.now(UTC)
    passed_at: float = field(default_factory=time.monotonic)
    """when the last pass ended, on the monotonic clock"""
    paused: bool = False
    """whether evictions are paused"""
    behind_since: float | None = None
    """since when there have always been statuses to write, on the monotonic clock"""

    async def run(self) -> None:
        """Plan and apply, without end."""
        delay = 0.0
        while True:
            await self._wait(delay)
            await self._gather()
            self.world.touched.clear()
            self.world.pressing.clear()
            self.world.stirred = False
            try:
                delay = await self.once()
            except Exception:  # the loop's edge: one bad object must not stop all the others for good
                FAILURES.inc()
                logger.exception("a planning pass failed; the next one starts in %s s", RETRY_SECONDS)
                delay = RETRY_SECONDS
            self.passed_at = time.monotonic()

    async def _wait(self, delay: float) -> None:
        """Wait for a touch, `delay` seconds at most; beats alone start a pass at most every `BEATS_SECONDS`."""
        until = time.monotonic() + delay
        while not self.world.touched.is_set():
            rest = until - time.monotonic()
            if rest <= 0 or (self.world.stirred and time.monotonic() - self.passed_at >= BEATS_SECONDS):
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(min(rest, BEATS_SECONDS)):
                    await self.world.touched.wait()

    async def _gather(self) -> None:
        """Let what belongs together come together: until a debounce after the last pass, or until a job presses."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self.passed_at + DEBOUNCE_SECONDS - time.monotonic())):
                await self.world.pressing.wait()

    def _tell(self, losses: MassLoss | None) -> None:
        """Show that evictions are paused, and log when that changes."""
        PAUSED.set(losses is not None)
        if losses is not None and not self.paused:
            logger.warning("%s", losses.message)
        if losses is None and self.paused:
            logger.warning("enough devices report again: jobs are moved as usual")
        self.paused = losses is not None

    async def once(self) -> float:
        """One pass. Returns how many seconds the next one may wait when nothing happens."""
        now = self.wall()
        with PASSES.labels("plan").time():
            planned = plan(self.world.snapshot(), now)
        self._tell(planned.mass_loss)
        for fault in planned.faults:
            FAULTS.labels(fault.what.split()[0]).inc()
            logger.error("%s can't be decided about", fault.what, exc_info=fault.error)
        with PASSES.labels("apply").time():
            chosen = most_urgent(planned.actions, MOST_TOLD if self._is_behind() else FEWEST_TOLD)
            failed = await self.writer.apply(chosen)
        if len(chosen) == len(planned.actions):
            self.behind_since = None
        elif self.behind_since is None:
            self.behind_since = time.monotonic()
        if failed:
            return RETRY_SECONDS
        if len(chosen) < len(planned.actions):
            return 0.0
        if planned.wake_at is None:
            return IDLE_SECONDS
        return min(IDLE_SECONDS, max(0.0, (planned.wake_at - self.wall()).total_seconds()))

    def _is_behind(self) -> bool:
        """Whether something has waited for too long to be told."""
        return self.behind_since is not None and time.monotonic() - self.behind_since > BEHIND_SECONDS


def most_urgent(actions: Sequence[Action], beside: int) -> list[Action]:
    """What one pass carries out: what starts or frees a device, and where there is such, `beside` other writes."""
    shuffled = random.sample(actions, len(actions))  # so that writes that are refused each time hold up no others
    urgent = sorted((action for action in shuffled if not _only_tells(action)), key=_urgency)
    told = [action for action in shuffled if _only_tells(action)]
    works = any(isinstance(action, CreatePod | DeletePod) for action in urgent)
    return [*urgent[:MOST_STARTED], *told[: beside if works else MOST_TOLD]]


def _only_tells(action: Action) -> bool:
    return isinstance(action, PatchStatus) and not action.awaited


def _urgency(action: Action) -> int:
    match action:
        case DeletePod():
            return 0
        case PatchStatus():
            return 1
        case _:
            return 2
