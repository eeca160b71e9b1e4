"""Which volumes are sent at once: the oldest first, and one lane kept for small ones.

Pure bookkeeping: this module neither waits nor sends. docs/decisions/upload-lanes.md says why it is so.
"""

from collections.abc import Iterable
from typing import Final

from edgewise_agent.volumes.table import Held

SMALL_BYTES: Final = 4 * 2**20
"""What goes in one request, or a few: seconds on a usual link, so that whoever is behind it does not wait long."""


class Lanes:
    """`count` lanes. With two or more, the last one takes small volumes only; the others take what is oldest."""

    def __init__(self, count: int) -> None:
        self._ordinary = max(1, count - 1)
        self._reserved = count > 1
        self._taken: dict[str, bool] = {}
        """the volumes under way, and whether each is in the lane for small ones"""

    def take(self, due: Iterable[Held]) -> list[Held]:
        """The volumes of `due`, which is oldest first, that may start now; each holds its lane until `leave`."""
        started = []
        for held in due:
            volume_id = held.entry.volume_id
            if volume_id in self._taken:
                continue
            in_small_lane = list(self._taken.values()).count(True)
            if len(self._taken) - in_small_lane < self._ordinary:
                self._taken[volume_id] = False
            elif self._reserved and not in_small_lane and held.bytes_ <= SMALL_BYTES:
                self._taken[volume_id] = True
            else:
                continue
            started.append(held)
        return started

    def leave(self, held: Held) -> None:
        """The volume is not under way any more."""
        del self._taken[held.entry.volume_id]
