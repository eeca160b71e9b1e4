"""The results volume as a whole: taken by one gateway at a time, with a room for uploads and one for results."""

import fcntl
import os
from pathlib import Path

from edgewise.gateway.durable import make_folder
from edgewise.gateway.early import Early
from edgewise.gateway.layout import Layout
from edgewise.gateway.names import Names
from edgewise.gateway.records import StoreBusy
from edgewise.gateway.results import Results
from edgewise.gateway.staging import Staging
from edgewise.gateway.usage import Usage


class Store:
    """Everything that the gateway keeps, under one folder."""

    def __init__(self, root: Path) -> None:
        self._at = Layout(root)
        names, usage = Names(self._at), Usage(self._at)
        self.early = Early(self._at)
        self.results = Results(self._at, names, usage, self.early)
        self.staging = Staging(self._at, names, usage, self.results, self.early)
        self._lock = -1

    def open(self) -> None:
        """Makes the folders, takes the volume for this process and drops what a crash left unfinished.

        Raises `StoreBusy` while another process has it.
        """
        at = self._at
        for folder in (at.staging, at.jobs, at.names, at.streams, at.bundles, at.scratch):
            make_folder(folder)
        lock = os.open(self._at.lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise StoreBusy(f"{self._at.root} is in use by another gateway") from error
        self._lock = lock
        for leftover in self._at.scratch.iterdir():
            leftover.unlink()

    def close(self) -> None:
        """Gives the volume free. Idempotent."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def free_bytes(self) -> int:
        """How much more the volume takes."""
        volume = os.statvfs(self._at.root)
        return volume.f_bavail * volume.f_frsize
