"""Tars that users send, read within bounds, and the one canonical tar that the same content always becomes.

Reads headers itself rather than by `tarfile`, which takes extended headers of any length into memory. Pure but for the
two open files that it is given; knows nothing of namespaces or requests.
"""

import hashlib
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from edgewise.gateway.plans import name_fault

MAX_ENTRIES: Final = 10_000
"""Files and folders of a bundle, the folders above its files included."""
MAX_DEPTH: Final = 64
"""Parts of a name: as deep as agents go."""
MAX_EXTENDED_BYTES: Final = 64 * 1024
"""The longest extended header; a name takes at most some 1,100 bytes of it."""
MAX_EXTENDED_TOTAL: Final = 4 * MAX_ENTRIES * 1024
"""All of them together: reading them costs far more than reading files."""
COPY_BYTES: Final = 512 * 1024

_BLOCK: Final = tarfile.BLOCKSIZE
_FILES: Final = frozenset({tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE})
_REFUSED: Final = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


class BadTar(ValueError):
    """The tar breaks a rule; the text says which, and what to do."""


class TooMuch(BadTar):
    """The tar holds more than a bundle may."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file of the tar, its bytes at `offset`; or a folder, without bytes."""

    name: str
    folder: bool
    executable: bool = False
    offset: int = 0
    bytes_: int = 0


def members(source: BinaryIO, most_bytes: int) -> list[Member]:
    """What a bundle of this tar holds, each folder before what is in it, sorted. Raises `BadTar`, `TooMuch`."""
    found: dict[str, Member] = {}
    total = 0
    for member in _raw(source):
        name = _plain(member.name)
        if not name and member.folder:
            continue  # the root itself, as `tar -c .` names it
        if fault := name_fault(name):
            raise BadTar(f"{member.name!r} {fault}: give the files plain names relative to the bundle")
        if name.count("/") >= MAX_DEPTH:
            raise BadTar(f"{name!r} is more than {MAX_DEPTH} folders deep")
        known = found.get(name)
        if known is not None and not (known.folder and member.folder):
            raise BadTar(f"{name!r} is there twice: name each file once")
        found[name] = Member(name, member.folder, member.executable, member.offset, member.bytes_)
        folder = name
        while folder := folder.rpartition("/")[0]:
            if not found.setdefault(folder, Member(folder, folder=True)).folder:
                raise BadTar(f"{folder!r} is a file and also the folder of {name!r}")
        total += member.bytes_
        if total > most_bytes:
            raise TooMuch(f"its files have more than the {most_bytes} bytes that a bundle may have")
        if len(found) > MAX_ENTRIES:
            raise TooMuch(f"it has more than the {MAX_ENTRIES} files and folders that a bundle may have")
    if all(member.folder for member in found.values()):
        raise BadTar("no file is in it")
    return [found[name] for name in sorted(found, key=lambda name: name.encode())]


def pack(source: BinaryIO, listed: list[Member], target: BinaryIO) -> str:
    """Writes the canonical tar of `members` and returns its SHA-256: sorted, without times, owners and other modes."""
    sha256 = hashlib.sha256()

    def put(piece: bytes) -> None:
        sha256.update(piece)
        target.write(piece)

    for member in listed:
        header = tarfile.TarInfo(f"{member.name}/" if member.folder else member.name)
        header.type = tarfile.DIRTYPE if member.folder else tarfile.REGTYPE
        header.mode = 0o555 if member.folder or member.executable else 0o444
        header.size = member.bytes_
        put(header.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict"))
        source.seek(member.offset)
        rest = member.bytes_
        while rest:
            piece = source.read(min(rest, COPY_BYTES))
            if not piece:
                raise BadTar(f"it ends within {member.name!r}: send it whole")
            put(piece)
            rest -= len(piece)
        put(bytes(-member.bytes_ % _BLOCK))
    put(bytes(2 * _BLOCK))
    return sha256.hexdigest()


def _raw(source: BinaryIO) -> Iterator[Member]:
    """The tar's entries as they are written, extended headers applied. Raises `BadTar`."""
    end = source.seek(0, 2)
    position = 0
    name: str | None = None
    size: int | None = None
    extended_total = 0
    for _ in range(4 * MAX_ENTRIES):
        source.seek(position)
        try:
            header = tarfile.TarInfo.frombuf(source.read(_BLOCK), "utf-8", "surrogateescape")
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # not in the stubs
            return
        except tarfile.HeaderError as error:
            raise BadTar(
                f"it is no whole tar ({error} at byte {position}): send a plain or gzip-compressed tar"
            ) from None
        start = position + _BLOCK
        extended = header.type in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
        length = header.size if extended or size is None else size
        if length < 0 or start + length > end:
            raise BadTar(f"it ends within {header.name!r}: send it whole")
        position = start + length + -length % _BLOCK
        if extended:
            if length > MAX_EXTENDED_BYTES:
                raise BadTar(f"an extended header has {length} bytes, more than {MAX_EXTENDED_BYTES}")
            extended_total += length
            if extended_total > MAX_EXTENDED_TOTAL:
                raise TooMuch(f"its extended headers have more than {MAX_EXTENDED_TOTAL} bytes: leave attributes out")
            content = source.read(length)
            if header.type == tarfile.XHDTYPE:
                records = _pax(content)
                name, size = records.get("path", name), _size(records.get("size"))
            elif header.type == tarfile.GNUTYPE_LONGNAME:
                name = content.rstrip(b"\0").decode("utf-8", "surrogateescape")
            continue
        called = header.name if name is None else name
        if header.type == tarfile.DIRTYPE:
            yield Member(called, folder=True)
        elif header.type in _FILES:
            yield Member(called, folder=False, executable=bool(header.mode & 0o111), offset=start, bytes_=length)
        else:
            kind = _REFUSED.get(header.type, f"of the unknown kind {header.type!r}")
            raise BadTar(f"{called!r} is {kind}: only regular files and folders can be in a bundle")
        name = size = None
    raise TooMuch(f"it has more than the {MAX_ENTRIES} files and folders that a bundle may have")


def _pax(content: bytes) -> dict[str, str]:
    """The records of an extended header. Raises `BadTar`."""
    records = {}
    start = 0
    while start < len(content):
        length = content[start : start + 7].partition(b" ")[0]
        if not length.isdigit() or len(length) > 6 or not len(length) + 2 < int(length) <= len(content) - start:
            raise BadTar("an extended header can't be read")
        end = start + int(length)
        key, _, value = content[start + len(length) + 1 : end - 1].partition(b"=")
        if key.startswith(b"GNU.sparse"):
            raise BadTar("a sparse file is in it: make the tar without --sparse")
        records[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        start = end
    return records


def _size(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise BadTar(f"an extended header gives the size {text!r}")
    return int(text)


def _plain(name: str) -> str:
    """The name without what tar puts around it: `./` before, and a folder's slash after."""
    while name.startswith("./"):
        name = name[2:].lstrip("/") if name.startswith(".//") else name[2:]
    name = name.rstrip("/") if not name.startswith("/") else name
    return "" if name == "." else name
