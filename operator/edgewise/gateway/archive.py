"""A job's results as one tar, made while it is sent. Owns the format; reads content only through its caller."""

import tarfile
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from edgewise_agent.wire import Manifest, ResultFile

_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)

Contents = Callable[[Manifest, ResultFile], AsyncGenerator[bytes, None]]


def archive_length(manifest: Manifest) -> int:
    """The size of the tar, in bytes: known before the first one is sent, so that a cut is noticed."""
    return sum(len(_header(manifest, file)) + _padded(file.bytes_) for file in manifest.files) + len(_END)


async def archive_pieces(manifest: Manifest, contents: Contents) -> AsyncGenerator[bytes, None]:
    """The tar, piece by piece; the same bytes for the same manifest every time."""
    for file in manifest.files:
        yield _header(manifest, file)
        async with aclosing(contents(manifest, file)) as pieces:
            async for piece in pieces:
                yield piece
        if padding := _padded(file.bytes_) - file.bytes_:
            yield bytes(padding)
    yield _END


def _header(manifest: Manifest, file: ResultFile) -> bytes:
    entry = tarfile.TarInfo(file.name)
    entry.size = file.bytes_
    entry.mtime = int(manifest.completed_at.timestamp())
    entry.mode = 0o644
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
