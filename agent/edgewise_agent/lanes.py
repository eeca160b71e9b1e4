"""Which volumes are sent at once: results of ended pods first, the oldest of them before others, and one lane kept for
small ones.

Pure bookkeeping: this module neither waits nor sends. docs/decisions/upload-lanes.md says why it is so.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from edgewise_agent.volumes.table import WAITING, Held
from edgewise_agent.wire import VolumeState

SMALL_BYTES: Final = 4 * 2**20
"""What goes in one request, or a few: seconds on a usual link, so that whoever is behind it does not wait long."""

MANY_FILES: Final = 10_000
"""Plans with more files take memory that the device does not have twice: one at a time."""

PATIENCE_SECONDS: Final = 600.0
"""What comes after others for so long comes before them for once, so that nothing waits for ever."""


def in_order(due: Iterable[Held], waited: Mapping[str, float]) -> list[Held]:
    """Who goes first: results of ended pods, then finished files of running ones, then logs alone; each as in `due`.

    What is only asked about takes a moment, and comes with its like. `waited` is for how many seconds, by volume ID;
    over `PATIENCE_SECONDS`, the last are the first.
    """

    def rank(held: Held) -> int:
        last = is_ahead(held) or held.entry.logs_only
        if last and waited.get(held.entry.volume_id, 0.0) > PATIENCE_SECONDS:
            return 0
        return 3 if held.entry.logs_only else 2 if last else 1

    return sorted(due, key=rank)


def is_ahead(held: Held) -> bool:
    """Whether what is sent of it goes ahead of its pod's end."""
    return held.state is VolumeState.LIVE


@dataclass(frozen=True, slots=True)
class _Place:
    in_small_lane: bool
    many_files: bool
    aside: bool = False


class Lanes:
    """`count` lanes. With two or more, the last one takes small volumes only; the others take what comes first.

    Of volumes that may have very many files only one is under way at a time. Safe to use from several threads.
    """

    def __init__(self, count: int) -> None:
        self._ordinary = max(1, count - 1)
        self._reserved = count > 1
        self._taken: dict[str, _Place] = {}
        self._lock = threading.Lock()
        self._results_wait = False

    @property
    def results_wait(self) -> bool:
        """Whether the results of an ended pod found no lane when lanes were last given."""
        return self._results_wait

    def take(self, due: Iterable[Held]) -> list[Held]:
        """The volumes of `due` that may start now, the first before others; each holds its lane until `leave`."""
        started = []
        with self._lock:
            self._results_wait = False
            for held in due:
                if held.entry.volume_id in self._taken:
                    continue
                many_files = held.entry.asked.max_files > MANY_FILES and held.state in WAITING
                if many_files and any(place.many_files for place in self._taken.values()):
                    continue
                if (place := self._place_for(held, many_files=many_files)) is not None:
                    self._taken[held.entry.volume_id] = place
                    started.append(held)
                elif held.state in WAITING and not held.entry.logs_only:
                    self._results_wait = True
        return started

    def _place_for(self, held: Held, *, many_files: bool) -> _Place | None:
        taken = [place for place in self._taken.values() if not place.aside]
        small_lanes_taken = sum(place.in_small_lane for place in taken)
        if len(taken) - small_lanes_taken < self._ordinary:
            return _Place(in_small_lane=False, many_files=many_files)
        if self._reserved and not small_lanes_taken and held.bytes_ <= SMALL_BYTES:
            return _Place(in_small_lane=True, many_files=many_files)
        return None

    @contextmanager
    def aside(self, held: Held) -> Iterator[None]:
        """Meanwhile others may have the volume's lane. Afterwards there may be one more under way than lanes."""
        self._put(held, aside=True)
        try:
            yield
        finally:
            self._put(held, aside=False)

    def _put(self, held: Held, *, aside: bool) -> None:
        with self._lock:
            place = self._taken[held.entry.volume_id]
            self._taken[held.entry.volume_id] = replace(place, aside=aside)

    def leave(self, held: Held) -> None:
        """The volume is not under way any more."""
        with self._lock:
            del self._taken[held.entry.volume_id]
