"""Reading a blob from end to end to see that it is what it claims to be. Changes nothing on the disk."""

import hashlib
import threading
from pathlib import Path

from edgewise.gateway.rows import RowCounter

_CHUNK_BYTES = 256 * 1024


class Mismatch(Exception):
    """The bytes are not the ones that the SHA-256 names."""


def verify(path: Path, sha256: str, *, count_rows: bool, stop: threading.Event) -> int | None:
    """The rows of the blob at `path` (None if not asked for, or not UTF-8), once its SHA-256 is seen to be right.

    Memory stays bounded whatever the size. Raises `Mismatch`, and `InterruptedError` soon after `stop` is set.
    """
    digest = hashlib.sha256()
    counter = RowCounter() if count_rows else None
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK_BYTES):
            if stop.is_set():
                raise InterruptedError(f"reading {path.name} was ended")
            digest.update(chunk)
            if counter is not None:
                counter.feed(chunk)
    if digest.hexdigest() != sha256:
        raise Mismatch(f"the bytes have SHA-256 {digest.hexdigest()}, not {sha256}")
    return counter.rows() if counter is not None else None
