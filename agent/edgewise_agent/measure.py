"""How big the live volumes are, and their regular way to the disk.

No quota of kubelet's holds an app back from filling its output volume, so every few seconds this module measures each
and says which are over their limit, or that the device is under its free-space floor. Now and then it forces what
changed to disk, so that a power cut costs an app that does not do so itself little. It ends no pod: the operator does.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from edgewise_agent.metrics import free_bytes
from edgewise_agent.settings import Settings
from edgewise_agent.tree import Found, walk
from edgewise_agent.volumes.table import Held, VolumeTable

MOST_ENTRIES: Final = 200_000
"""Files in one volume that are looked at; more is over the limit, whatever their size."""
_SLACK_NS: Final = 2_000_000_000
"""File times lag behind the clock by up to a tick, on some filesystems by up to two seconds."""

_log = logging.getLogger(__name__)


class Measurer:
    """Measures the table's volumes every `measure_seconds`, and more rarely where that takes long."""

    def __init__(self, settings: Settings, table: VolumeTable, give_way: Callable[[], None] = lambda: None) -> None:
        """`give_way` frees space on a device that is under its floor, where something can be spared."""
        self._settings = settings
        self._table = table
        self._give_way = give_way
        self._synced_at: float | None = None
        self._synced_until_ns = 0

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            started = time.monotonic()
            await asyncio.to_thread(self.measure_all)
            # At most a twentieth of the time goes into measuring, however much there is.
            await asyncio.sleep(max(self._settings.measure_seconds, 20 * (time.monotonic() - started)))

    def measure_all(self) -> None:
        """Measure every live volume once, and force changes to disk when that is due."""
        started_ns, now = time.time_ns(), time.monotonic()
        self._make_room()
        sync = self._synced_at is None or now - self._synced_at >= self._settings.sync_seconds
        for held in self._table.live():
            try:
                self._measure(held, self._synced_until_ns if sync else None)
            except FileNotFoundError:
                continue  # unpublished meanwhile, or not made yet
            except OSError as error:
                _log.warning("volume of pod %s/%s: %s", held.entry.namespace, held.entry.pod_name, error)
        if sync:
            self._synced_at, self._synced_until_ns = now, started_ns - _SLACK_NS
        measure_spooled(self._table)

    def _make_room(self) -> None:
        """Before any pod is said to be over its limit, what is only kept for safety or speed must have gone."""
        for make_room, what in (
            (self._give_way, "idle bundles"),
            (self._table.make_room, "copies of acknowledged results, or files of unknown volumes"),
        ):
            try:
                make_room()
            except OSError as error:
                _log.warning("%s can't be removed, trying again: %s", what, error)

    def _measure(self, held: Held, changed_since_ns: int | None) -> None:
        bytes_ = entries = 0
        synced_folder = ""
        for found in walk(Path(held.entry.target)):
            entries += 1
            if entries > MOST_ENTRIES:
                break
            if not found.is_regular:
                continue
            bytes_ += found.status.st_size
            if changed_since_ns is not None and found.status.st_ctime_ns >= changed_since_ns:
                folder = found.name.rpartition("/")[0] + "/"
                _sync(found, with_folder=folder != synced_folder)
                synced_folder = folder
        too_large, no_room = self._too_large(held, bytes_, entries), self._no_room()
        self._table.note_size(
            held, bytes_, over_limit=bool(too_large), no_room=bool(no_room), message=too_large or no_room
        )

    @staticmethod
    def _too_large(held: Held, bytes_: int, entries: int) -> str:
        limit = held.entry.asked.size_limit_bytes
        if bytes_ > limit:
            return f"{bytes_} bytes written, sizeLimit is {limit}: write less or raise the app's outputs.sizeLimit"
        if entries > MOST_ENTRIES:
            return f"more than {MOST_ENTRIES} files: write fewer, larger ones"
        return ""

    def _no_room(self) -> str:
        free, floor = free_bytes(self._settings.kubelet_root), self._settings.free_space_floor_bytes
        return f"the device has {free} bytes free, its floor is {floor}: free some space on it" if free < floor else ""


def measure_spooled(table: VolumeTable) -> None:
    """Measure what came into the spool since it was last measured. What can't be is tried again by the next call."""
    for held in table.unmeasured():
        try:
            table.note_size(held, table.spool.size(held.entry.volume_id))
        except OSError as error:
            _log.warning("spooled volume %s: %s", held.entry.volume_id, error)


def _sync(found: Found, *, with_folder: bool) -> None:
    """Force a file to disk. One that vanished or turned into something else meanwhile is passed over."""
    try:
        descriptor = found.open()
    except OSError:
        return
    try:
        os.fsync(descriptor)
        if with_folder:
            os.fsync(found.folder)
    except OSError as error:
        _log.warning("%s can't be forced to disk: %s", found.name, error)
    finally:
        os.close(descriptor)
