"""Whether and how the body of an upload is compressed: only where it pays.

This module owns the choice and the gzip format; its memory is bounded by what a packed body may have, not by the
content. It reads no file and sends nothing.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

SAMPLE_BYTES: Final = 64 * 1024
LEAST_SAVING: Final = 0.1
"""A sample that becomes less than a tenth smaller, such as of a photo, is not worth the device's time."""
LEVEL: Final = 1
"""The fastest: a table of numbers became 2.8 times smaller, at level 6 3.2 times, for four times the CPU."""
BLOCK_BYTES: Final = 64 * 1024
MOST_PACKED_BYTES: Final = 2**20
"""What one packed body has at most, give or take a block: it is held in memory until it is sent."""
_GZIP: Final = 16 + zlib.MAX_WBITS


@dataclass(frozen=True, slots=True)
class Packed:
    """One gzip member of `body_bytes`, in blocks, that holds the content's next `length` bytes."""

    blocks: tuple[bytes, ...]
    body_bytes: int
    length: int


def pack(read: Callable[[int, int], bytes], offset: int, length: int) -> Packed | None:
    """Compress content from `offset` on: `length` bytes, or as many as fill a body; None where it does not pay.

    `read` gives the content's bytes at a position, at most so many and at least one. Whatever it raises is passed on.
    """
    sample = read(offset, min(SAMPLE_BYTES, length))
    if len(zlib.compress(sample, LEVEL)) > (1 - LEAST_SAVING) * len(sample):
        return None
    packer = zlib.compressobj(LEVEL, wbits=_GZIP)
    blocks: list[bytes] = []
    body_bytes = taken = 0
    while taken < length and body_bytes < MOST_PACKED_BYTES:
        content = read(offset + taken, min(BLOCK_BYTES, length - taken))
        taken += len(content)
        if block := packer.compress(content):
            blocks.append(block)
            body_bytes += len(block)
    blocks.append(packer.flush())
    return Packed(tuple(blocks), body_bytes + len(blocks[-1]), taken)
