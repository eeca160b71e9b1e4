"""The newest beat of every device, in memory only. A beat is never written to the API."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from edgewise_agent import wire

from edgewise.domain.liveness import DEAD_INTERVALS
from edgewise.domain.views import BeatView


@dataclass(frozen=True, slots=True)
class Heard:
    """A beat, and when it arrived."""

    beat: wire.Beat
    received_at: datetime
    received_monotonic: float
    reporting_since: datetime
    """when the run of beats began that this one belongs to"""


@dataclass(slots=True)
class BeatTable:
    """What each device said last. Ages are on the monotonic clock."""

    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], datetime] = lambda: datetime.now(UTC)
    _heard: dict[str, Heard] = field(default_factory=dict)

    def take(self, beat: wire.Beat) -> datetime:
        """Keep the beat unless a newer one of the same agent process is there. Returns when it arrived."""
        received_at = self.wall()
        before = self._heard.get(beat.node)
        late = before is not None and before.beat.boot == beat.boot and before.beat.sequence > beat.sequence
        if not late:
            now = self.clock()
            since = before.reporting_since if before is not None and _goes_on(before, beat, now) else received_at
            self._heard[beat.node] = Heard(beat, received_at, now, since)
        return received_at

    def devices(self) -> Iterator[str]:
        """The devices that have reported."""
        return iter(self._heard)

    def forget(self, node: str) -> None:
        """Drop what a device that is no more has said."""
        self._heard.pop(node, None)

    def clock_offset(self, node: str) -> timedelta | None:
        """What to add to the device's clock to get the operator's, from its newest beat; None without one."""
        heard = self._heard.get(node)
        return None if heard is None else heard.received_at - heard.beat.sampled_at

    def view(self, node: str) -> BeatView | None:
        """The device's newest beat with its age now, or None."""
        heard = self._heard.get(node)
        if heard is None:
            return None
        beat = heard.beat
        return BeatView(
            age=timedelta(seconds=self.clock() - heard.received_monotonic),
            received_at=heard.received_at,
            interval=timedelta(seconds=beat.interval_seconds),
            metrics=beat.metrics,
            benchmark=beat.benchmark,
            spool=beat.spool,
            volumes={volume.pod_uid: volume for volume in beat.volumes},
            agent_version=beat.agent_version,
            bundles=frozenset(beat.bundles),
            reporting_since=heard.reporting_since,
        )


def _goes_on(before: Heard, beat: wire.Beat, now: float) -> bool:
    """Whether a beat follows the one before it without a gap in which the device could have died."""
    gap = timedelta(seconds=now - before.received_monotonic)
    return before.beat.boot == beat.boot and gap < timedelta(seconds=before.beat.interval_seconds) * DEAD_INTERVALS
