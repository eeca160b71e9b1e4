"""Which volumes are sent at once: the oldest first, and one lane kept for small ones.

Pure bookkeeping: this module neither waits nor sends. docs/decisions/upload-lanes.md says why it is so.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from edgewise_agent.volumes.table import Held

SMALL_BYTES: Final = 4 * 2**20
"""What goes in one request, or a few: seconds on a usual link, so that whoever is behind it does not wait long."""

MANY_FILES: Final = 10_000
"""Plans with more files take memory that the device does not have twice: one at a time."""


@dataclass(frozen=True, slots=True)
class _Place:
    in_small_lane: bool
    many_files: bool


class Lanes:
    """`count` lanes. With two or more, the last one takes small volumes only; the others take what is oldest.

    Of volumes that may have very many files only one is under way at a time.
    """

    def __init__(self, count: int) -> None:
        self._ordinary = max(1, count - 1)
        self._reserved = count > 1
        self._taken: dict[str, _Place] = {}

    def take(self, due: Iterable[Held]) -> list[Held]:
        """The volumes of `due`, which is oldest first, that may start now; each holds its lane until `leave`."""
        started = []
        for held in due:
            if held.entry.volume_id not in self._taken and (place := self._place_for(held)) is not None:
                self._taken[held.entry.volume_id] = place
                started.append(held)
        return started

    def _place_for(self, held: Held) -> _Place | None:
        taken = self._taken.values()
        many_files = held.entry.asked.max_files > MANY_FILES
        if many_files and any(place.many_files for place in taken):
            return None
        small_lanes_taken = sum(place.in_small_lane for place in taken)
        if len(taken) - small_lanes_taken < self._ordinary:
            return _Place(in_small_lane=False, many_files=many_files)
        if self._reserved and not small_lanes_taken and held.bytes_ <= SMALL_BYTES:
            return _Place(in_small_lane=True, many_files=many_files)
        return None

    def leave(self, held: Held) -> None:
        """The volume is not under way any more."""
        del self._taken[held.entry.volume_id]
