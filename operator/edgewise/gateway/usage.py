"""How much each namespace takes on the results volume. Counts; judges nothing.

What a job has stored is counted once and remembered until it changes: a volume may hold a million files.
"""

import logging
import os
import threading
from pathlib import Path

from edgewise.gateway.layout import Layout
from edgewise.gateway.records import JobIdentity, StoreDamaged, read_record

logger = logging.getLogger(__name__)


class Usage:
    """Sizes of jobs, by namespace. May be asked by several threads at once."""

    def __init__(self, layout: Layout) -> None:
        self._at = layout
        self._stored: dict[str, tuple[str, int]] = {}
        self._changes = 0
        self._lock = threading.Lock()

    def changed(self, job_uid: str) -> None:
        """The job's stored content is not what it was."""
        with self._lock:
            self._changes += 1
            self._stored.pop(job_uid, None)

    def held_bytes(self, namespace: str, without: frozenset[tuple[str, str]]) -> int:
        """What the namespace's jobs and bundles have stored, and its uploads under way that are not in `without`."""
        held = _size(self._at.bundles / namespace, ".tar")
        for folder in self._at.jobs.iterdir():
            owner, size = self._stored_of(folder.name)
            if owner == namespace:
                held += size
        for upload in self._at.staging.glob("*/*"):
            job_uid = upload.parent.name
            if (job_uid, upload.name) not in without and self._stored_of(job_uid)[0] == namespace:
                held += _size(upload, ".part")
        return held

    def _stored_of(self, job_uid: str) -> tuple[str, int]:
        known = self._stored.get(job_uid)
        if known is not None:
            return known
        changes = self._changes
        try:
            job = read_record(self._at.job(job_uid), JobIdentity)
        except StoreDamaged as error:  # whose it is can't be known; it must not stop all others
            logger.error("%s", error)  # noqa: TRY400 - the text says all
            return "", 0
        if job is None:
            return "", 0
        counted = job.namespace, _size(self._at.jobs / job_uid / "blobs", "")
        with self._lock:
            if changes == self._changes:
                self._stored[job_uid] = counted
        return counted


def _size(folder: Path, suffix: str) -> int:
    size = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(suffix):
                    try:
                        size += entry.stat().st_size
                    except FileNotFoundError:
                        continue  # just removed by another call
    except FileNotFoundError:
        return 0
    return size
