"""Bundles on the results volume: the canonical tars, by namespace and digest.

bundles/<namespace>/<sha256>.json    what it holds, for listings; written first, so it may be alone
bundles/<namespace>/<sha256>.tar     the bundle; it is there once this name is. Its time: when it was last wanted

All calls block: they are made in threads. `keep` and `remove` of one namespace must not overlap: the caller has a lock.
Never decides who may do what, nor which bundles are wanted.
"""

import os
from datetime import datetime
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from msgspec import Struct, json

from edgewise.gateway.durable import make_folder, move_file, noticing_full_volume, replace_file, sync_folder
from edgewise.gateway.layout import Layout
from edgewise.gateway.records import read_record
from edgewise.gateway.tarball import members, pack


class Bundle(Struct, frozen=True, kw_only=True, rename="camel"):
    """A stored bundle. `bytes` counts its files' content, `tarBytes` the tar that devices fetch."""

    digest: str
    bytes_: int
    tar_bytes: int
    files: int

    @property
    def sha256(self) -> str:
        return self.digest.removeprefix("sha256:")


class BundleStore:
    """The bundles below one volume, whose store is open."""

    def __init__(self, root: Path) -> None:
        self._at = Layout(root)

    def scratch(self) -> Path:
        """A new name for a file that is not finished; the store empties that folder at its start."""
        return self._at.scratch / uuid4().hex

    def pack(self, sent: Path, packed: Path, most_bytes: int) -> Bundle:
        """Makes of a tar that was sent the canonical one, on the disk. Raises `BadTar`, `VolumeFull`."""
        with sent.open("rb") as source:
            listed = members(source, most_bytes)
            with noticing_full_volume(), packed.open("wb") as target:
                sha256 = pack(source, listed, target)
                target.flush()
                os.fsync(target.fileno())
                size = target.tell()
        return Bundle(
            digest=f"sha256:{sha256}",
            bytes_=sum(member.bytes_ for member in listed),
            tar_bytes=size,
            files=sum(not member.folder for member in listed),
        )

    def keep(self, namespace: str, bundle: Bundle, packed: Path) -> bool:
        """Moves the packed tar to its place, and says whether it is new there. Wanted from now. Raises `VolumeFull`."""
        place = self._at.bundle(namespace, bundle.sha256)
        if place.exists():
            os.utime(place)
            return False
        make_folder(place.parent)
        replace_file(place.with_suffix(".json"), json.encode(bundle), self._at.scratch)
        move_file(packed, place)
        return True

    def get(self, namespace: str, sha256: str) -> Bundle | None:
        """The bundle of that digest, if the namespace has it."""
        place = self._at.bundle(namespace, sha256)
        return read_record(place.with_suffix(".json"), Bundle) if place.exists() else None

    def held(self, namespace: str) -> list[Bundle]:
        """The namespace's bundles, by digest."""
        names = sorted(path.stem for path in (self._at.bundles / namespace).glob("*.tar"))
        return [bundle for name in names if (bundle := self.get(namespace, name)) is not None]

    def count(self, namespace: str) -> int:
        """How many bundles the namespace has."""
        return sum(1 for _ in (self._at.bundles / namespace).glob("*.tar"))

    def open(self, namespace: str, sha256: str) -> BinaryIO:
        """The bundle's tar. Raises `FileNotFoundError`."""
        return self._at.bundle(namespace, sha256).open("rb")

    def want(self, namespace: str, sha256: str, now: datetime) -> None:
        """Notes that an EdgeApp names the bundle. One that is gone is passed over."""
        try:
            os.utime(self._at.bundle(namespace, sha256), (now.timestamp(), now.timestamp()))
        except FileNotFoundError:
            return

    def unwanted_since(self, before: datetime) -> list[tuple[str, str]]:
        """Namespace and SHA-256 of each bundle that was last wanted before that time."""
        return [
            (path.parent.name, path.stem)
            for path in self._at.bundles.glob("*/*.tar")
            if path.stat().st_mtime < before.timestamp()
        ]

    def remove(self, namespace: str, sha256: str, before: datetime) -> bool:
        """Removes a bundle unless it was wanted again meanwhile; whether it did."""
        place = self._at.bundle(namespace, sha256)
        if not place.exists() or place.stat().st_mtime >= before.timestamp():
            return False
        place.unlink()
        sync_folder(place.parent)
        place.with_suffix(".json").unlink(missing_ok=True)
        return True
