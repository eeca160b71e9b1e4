"""Tars as users make them, for tests of bundles."""

import gzip
import io
import tarfile

APP = {"main.py": b"print('faces')\n", "lib/größe.py": b"X = 1\n", "lib/model.bin": bytes(range(256)) * 40}


def tar_of(files: dict[str, bytes], *, mtime: int = 0, kind: int = tarfile.PAX_FORMAT) -> bytes:
    """A plain tar of these files, in the dictionary's order."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=kind) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime, entry.uid, entry.mode = len(content), mtime, mtime % 1000, 0o640
            archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def tar_with(kind: bytes, name: str = "thing", target: str = "main.py") -> bytes:
    """A tar with one entry of that kind behind an ordinary file."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        ordinary = tarfile.TarInfo("main.py")
        archive.addfile(ordinary)
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, target
        archive.addfile(entry)
    return made.getvalue()


def packed(content: bytes) -> bytes:
    """The content as one gzip member."""
    return gzip.compress(content, mtime=0)


def files_in(tar: bytes) -> dict[str, bytes]:
    """The regular files of a tar."""
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return {entry.name: _content(archive, entry) for entry in archive if entry.isreg()}


def _content(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(entry)
    assert file is not None
    return file.read()
