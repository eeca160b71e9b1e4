"""A blob on its way in. Owns the two files that one has in the staging area and what 'safely held' means.

Beside the bytes (`<sha256>.part`) stands a record of how many of them are known to be on the disk (`<sha256>.offset`),
written only after an fsync of the bytes. After a crash the file may be longer or, worse, hold zeros that were never
written; the record is what is believed, and the rest is cut off.
"""

import os
from pathlib import Path
from types import TracebackType

from edgewise.gateway.durable import noticing_full_volume, sync_folder, write_all

_DIGITS = 20


class PartialBlob:
    """The two files of one blob in the folder of one upload. Never verifies content."""

    def __init__(self, folder: Path, sha256: str) -> None:
        self.sha256 = sha256
        self.data = folder / f"{sha256}.part"
        self._record = folder / f"{sha256}.offset"

    def offset(self) -> int:
        """How many bytes are safely held; 0 if there are none or if the record can't be believed."""
        try:
            recorded = self._record.read_bytes()
            length = self.data.stat().st_size
        except FileNotFoundError:
            return 0
        if len(recorded) != _DIGITS or not recorded.isdigit() or int(recorded) > length:
            return 0
        return int(recorded)

    def cut_to(self, size: int) -> None:
        """Drops what a crash left behind the first `size` bytes, all of which are safely held."""
        with self.data.open("r+b", buffering=0) as file:
            if os.fstat(file.fileno()).st_size > size:
                os.ftruncate(file.fileno(), size)
                os.fsync(file.fileno())

    def remove(self) -> None:
        """Forgets the blob. The record goes first, so that no length is ever believed of other bytes."""
        self._record.unlink(missing_ok=True)
        self.data.unlink(missing_ok=True)

    def append(self) -> "BlobWriter":
        """Opens the blob for writing behind what is safely held. One writer at a time: the caller sees to it.

        Raises `VolumeFull`.
        """
        return BlobWriter(self.data, self._record, self.offset())


class BlobWriter:
    """Appends to a partial blob. What was not committed when it is closed is cut off."""

    def __init__(self, data: Path, record: Path, offset: int) -> None:
        self.committed = offset
        """How many bytes are safely held."""
        self.position = offset
        self._data = -1
        self._record = -1
        with noticing_full_volume():
            try:
                self._data = os.open(data, os.O_RDWR | os.O_CREAT, 0o600)
                self._record = os.open(record, os.O_RDWR | os.O_CREAT, 0o600)
                os.ftruncate(self._data, offset)
                os.lseek(self._data, offset, os.SEEK_SET)
                if offset == 0:
                    self._write_record(0)
                    sync_folder(data.parent)
            except OSError:
                self._close_files()
                raise

    def __enter__(self) -> "BlobWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def write(self, content: bytes | bytearray) -> None:
        """Appends `content`; not safe before `commit`. Raises `VolumeFull`."""
        with noticing_full_volume():
            write_all(self._data, content)
        self.position += len(content)

    def commit(self) -> int:
        """Brings all that was written to the disk and returns how many bytes the blob now holds safely.

        Raises `VolumeFull`; as after any failure, only what was committed before is then believed.
        """
        if self.position > self.committed:
            with noticing_full_volume():
                os.fdatasync(self._data)
                self._write_record(self.position)
            self.committed = self.position
        return self.committed

    def close(self) -> None:
        """Cuts off what was not committed."""
        if self._data >= 0:
            try:
                os.ftruncate(self._data, self.committed)
            finally:
                self._close_files()

    def _write_record(self, offset: int) -> None:
        """Twenty digits in place: they never cross a disk sector, so a power cut leaves the old or the new ones."""
        os.lseek(self._record, 0, os.SEEK_SET)
        write_all(self._record, f"{offset:0{_DIGITS}d}".encode())
        os.fdatasync(self._record)

    def _close_files(self) -> None:
        for descriptor in (self._data, self._record):
            if descriptor >= 0:
                os.close(descriptor)
        self._data = self._record = -1
