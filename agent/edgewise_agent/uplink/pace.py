"""The bandwidth cap: how fast uploads may leave the device, all connections together.

This module owns the token bucket and the size of what is sent at once. It blocks the thread that sends, never for much
over a second, and knows nothing of what is sent.
"""

import threading
import time
from collections.abc import Iterable, Iterator
from typing import Final

LEAST_BYTES_PER_SECOND: Final = 1024
"""A slower link could not keep a connection alive."""
MOST_PIECE_BYTES: Final = 128 * 1024
_LEAST_PIECE_BYTES: Final = 256
_PIECES_A_SECOND: Final = 8


class Pace:
    """Lets `bytes_per_second` through, and half a second's worth at once after a pause; 0 lets everything through.

    Safe to share between threads: they take turns, so a large upload leaves others their part.
    """

    def __init__(self, bytes_per_second: int) -> None:
        self._rate = bytes_per_second
        self._piece = MOST_PIECE_BYTES
        if bytes_per_second:
            self._piece = min(MOST_PIECE_BYTES, max(_LEAST_PIECE_BYTES, bytes_per_second // _PIECES_A_SECOND))
        self._lock = threading.Lock()
        self._free_at = 0.0
        """monotonic time from which the next byte may leave"""

    def pieces(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """The same bytes, in pieces that are no larger than what may leave at once, each when it may."""
        for block in blocks:
            for start in range(0, len(block), self._piece):
                piece = block[start : start + self._piece]
                self._wait(len(piece))
                yield piece

    def _wait(self, length: int) -> None:
        if not self._rate:
            return
        with self._lock:
            now = time.monotonic()
            # What was not used in the last half second may leave now, older silence is lost.
            self._free_at = max(self._free_at, now - 0.5) + length / self._rate
            seconds = self._free_at - now
        if seconds > 0:
            time.sleep(seconds)
