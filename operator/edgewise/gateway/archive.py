"""Files as one tar or zip, made while it is sent. Owns the formats; reads content only through its caller."""

import tarfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from edgewise_agent.wire import ResultFile

_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)

InThread = Callable[[Callable[[bytes], int], bytes], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Packed:
    """A file of an archive."""

    name: str
    """what it is called there"""
    at: datetime
    """when it came home"""
    job_uid: str
    """the job that has its content"""
    file: ResultFile


Contents = Callable[[Packed], AsyncGenerator[bytes, None]]


def archive_length(files: Iterable[Packed]) -> int:
    """The size of the tar, in bytes: known before the first one is sent, so that a cut is noticed."""
    return sum(len(_header(packed)) + _padded(packed.file.bytes_) for packed in files) + len(_END)


async def archive_pieces(files: Iterable[Packed], contents: Contents) -> AsyncGenerator[bytes, None]:
    """The tar, piece by piece; the same bytes for the same files every time."""
    for packed in files:
        yield _header(packed)
        async with aclosing(contents(packed)) as pieces:
            async for piece in pieces:
                yield piece
        if padding := _padded(packed.file.bytes_) - packed.file.bytes_:
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


async def zip_pieces(files: Iterable[Packed], contents: Contents, in_thread: InThread) -> AsyncGenerator[bytes, None]:
    """The zip, piece by piece, compressed by `in_thread`; memory grows with the number of files, not with their size.

    Files of over 4 GiB and more than 65,535 of them make it a zip64.
    """
    sink = _Sink()
    with ZipFile(sink, "w") as archive:  # type: ignore[call-overload]  # it needs no more of a file than a sink has
        for packed in files:
            entry = ZipInfo(packed.name, packed.at.astimezone(UTC).timetuple()[:6])
            entry.compress_type = ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            entry.file_size = packed.file.bytes_
            with archive.open(entry, "w") as writer:
                async with aclosing(contents(packed)) as pieces:
                    async for piece in pieces:
                        await in_thread(writer.write, piece)
                        if made := sink.take():
                            yield made
    yield sink.take()


def _header(packed: Packed) -> bytes:
    entry = tarfile.TarInfo(packed.name)
    entry.size = packed.file.bytes_
    entry.mtime = int(packed.at.timestamp())
    entry.mode = 0o644
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
