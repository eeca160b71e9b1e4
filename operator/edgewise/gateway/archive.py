"""A job's results as one tar or zip, made while it is sent. Owns the formats; reads content only through its caller."""

import tarfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from datetime import UTC
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from edgewise_agent.wire import Manifest, ResultFile

_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)

InThread = Callable[[Callable[[bytes], int], bytes], Awaitable[int]]
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


class _Sink:
    """What the zip's writer has made and nobody has taken yet."""

    def __init__(self) -> None:
        self._made = bytearray()

    def write(self, content: bytes) -> int:
        self._made += content
        return len(content)

    def flush(self) -> None:
        """Nothing is held back."""

    def take(self) -> bytes:
        made, self._made = bytes(self._made), bytearray()
        return made


async def zip_pieces(manifest: Manifest, contents: Contents, in_thread: InThread) -> AsyncGenerator[bytes, None]:
    """The zip, piece by piece, compressed by `in_thread`; memory grows with the number of files, not with their size.

    Files of over 4 GiB and more than 65,535 of them make it a zip64.
    """
    sink = _Sink()
    stored_at = manifest.completed_at.astimezone(UTC).timetuple()[:6]
    with ZipFile(sink, "w") as archive:  # type: ignore[call-overload]  # it needs no more of a file than a sink has
        for file in manifest.files:
            entry = ZipInfo(file.name, stored_at)
            entry.compress_type = ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            entry.file_size = file.bytes_
            with archive.open(entry, "w") as writer:
                async with aclosing(contents(manifest, file)) as pieces:
                    async for piece in pieces:
                        await in_thread(writer.write, piece)
                        if made := sink.take():
                            yield made
    yield sink.take()


def _header(manifest: Manifest, file: ResultFile) -> bytes:
    entry = tarfile.TarInfo(file.name)
    entry.size = file.bytes_
    entry.mtime = int(manifest.completed_at.timestamp())
    entry.mode = 0o644
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
