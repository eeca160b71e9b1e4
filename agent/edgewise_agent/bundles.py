"""Bundles: apps' own files, fetched once, kept in a bounded cache, and linked into the volumes of pods.

Owns `{plugin folder}/bundles`: `{namespace}.{sha256}` is a whole bundle, its time when it was last wanted; `.fetching`
holds what has come of the others, `.new-…` is being unpacked, `.gone-…` removed. A name without a dot in front is only
ever given by a rename after everything below it is on the disk, so a power cut leaves no half bundle in use. Nothing is
mounted, and nothing here is ever a result: the spool and the uploader do not know these volumes.
"""

import hashlib
import logging
import os
import secrets
import shutil
import tarfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from edgewise_agent import tree
from edgewise_agent.files import sync_file, sync_folder
from edgewise_agent.journal import BundleEntry, Journal
from edgewise_agent.metrics import free_bytes
from edgewise_agent.settings import Settings
from edgewise_agent.uplink.connection import Connection, Unreachable
from edgewise_agent.volumes import kubelet
from edgewise_agent.volumes.table import LivePods

RANGE_BYTES: Final = 2**20
"""Asked for at once: what a request costs in memory, and at most is fetched again after a cut."""
MOST_ENTRIES: Final = 10_000
MOST_NAME_BYTES: Final = 1024
MOST_EXTENDED_BYTES: Final = 64 * 1024
"""The longest extended header, which is read into memory."""
MOST_REPORTED: Final = 32
BLOCK_BYTES: Final = 4096
"""What the smallest file or folder takes on the disk."""

_log = logging.getLogger(__name__)


class BundleUnavailable(RuntimeError):
    """The bundle can't be had now; the message names it and says why. Trying again later may help."""


class Bundles:
    """The bundles of one device. Methods block and may come from several threads; they raise `OSError`.

    Calls of `advance` must not overlap: the caller sees to that. Files are changed outside of the lock, so what only
    asks never waits for a disk or a network.
    """

    def __init__(self, settings: Settings, connection: Connection) -> None:
        """`connection` leads to the gateway."""
        self._settings = settings
        self._connection = connection
        self._folder = settings.plugin_dir / "bundles"
        self._incoming = self._folder / ".fetching"
        self._lock = threading.Lock()
        """of what is noted here"""
        self._targets = threading.Lock()
        """of the volumes' folders; taken before the other"""
        self._journal = Journal(settings.plugin_dir / "journal")
        self._entries: dict[str, BundleEntry] = {}
        self._sizes: dict[str, int] = {}
        """what each whole bundle takes on the disk, by its name there"""
        self._absent_since: dict[str, float] = {}
        self._restored: set[str] = set()

    def load(self) -> None:
        """Take up after a start: which volumes and bundles there are; what a crash left unfinished goes."""
        self._incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
        for leftover in (*self._folder.glob(".new-*"), *self._folder.glob(".gone-*")):
            tree.remove(leftover)
        entries = {entry.volume_id: entry for entry in self._journal.load_bundles()}
        sizes = {path.name: _room_below(path) for path in self._folder.glob("[!.]*")}
        with self._lock:
            self._entries, self._sizes = entries, sizes
        self._drop_unwanted()

    def entry(self, volume_id: str) -> BundleEntry | None:
        """The journal's entry of a bundle volume that is, or was to be, in a pod."""
        with self._lock:
            return self._entries.get(volume_id)

    def held(self) -> tuple[str, ...]:
        """The bundles that are here whole, as `namespace/sha256`, the last wanted first; at most 32."""
        with self._lock:
            newest = sorted(self._sizes, key=self._last_wanted, reverse=True)[:MOST_REPORTED]
        return tuple(name.replace(".", "/") for name in newest)

    def come(self, namespace: str, sha256: str) -> int:
        """How many bytes of a bundle's tar are here so far, while it is being fetched."""
        try:
            return self._part(_name(namespace, sha256)).stat().st_size
        except FileNotFoundError:
            return 0

    def claim(self, entry: BundleEntry) -> bool:
        """Note a volume, on the disk: its bundle is in use from now on. Returns whether the bundle is here."""
        with self._lock:
            if self._entries.get(entry.volume_id) != entry:
                self._journal.write(entry)
                self._entries[entry.volume_id] = entry
            return _name(entry.namespace, entry.sha256) in self._sizes

    def advance(self, namespace: str, sha256: str) -> bool:
        """Bring one range more of the bundle here, and unpack it after the last; whether it is here.

        Goes on where an earlier call, even of an earlier process, ended. Raises `BundleUnavailable`.
        """
        name = _name(namespace, sha256)
        with self._lock:
            if name in self._sizes:
                return True
            wanted = name in self._used()
        what = f"bundle sha256:{sha256} of namespace {namespace}"
        if not wanted:
            raise BundleUnavailable(f"{what} is not fetched: no pod waits for it any more")
        part = self._part(name)
        try:
            self._drop_unwanted()
            if not self._next_range(namespace, sha256, part):
                return False
            _verify(part, sha256)
            self._unpack(part, name)
        except (BundleUnavailable, Unreachable, OSError) as error:
            raise BundleUnavailable(f"{what} is not here yet: {error}") from error
        except tarfile.TarError as error:
            part.unlink(missing_ok=True)
            raise BundleUnavailable(f"{what} can't be read: {error}") from error
        part.unlink()
        _log.info("%s is here", what)
        return True

    def publish(self, entry: BundleEntry) -> None:
        """Put the bundle's files into the volume's target; again, when they are there already.

        Files are links to the cache's. They are root's and nobody may write them, and kubelet mounts such volumes
        read-only into every container (docs/decisions/bundles.md).
        """
        place, target = self._folder / _name(entry.namespace, entry.sha256), Path(entry.target)
        with self._targets:
            if self.entry(entry.volume_id) is None:
                raise OSError(f"volume {entry.volume_id} was given back meanwhile")
            os.utime(place)
            _mirror(place, target)
            kubelet.sync_record(target)

    def unpublish(self, volume_id: str) -> bool:
        """Take the volume from its pod; whether it was one of bundles. The cache keeps the bundle."""
        if self.entry(volume_id) is None:
            return False
        with self._targets:
            entry = self.entry(volume_id)
            if entry is not None:
                self._take_back(entry)
            return True

    def reconcile(self, live: LivePods | None) -> None:
        """Compare the volumes with kubelet's records and the pods that live, as `VolumeTable.reconcile` does."""
        with self._targets:
            with self._lock:
                entries = list(self._entries.values())
            for entry in entries:
                try:
                    self._reconcile_one(entry, live)
                except OSError as error:
                    _log.error("bundle volume %s can't be put in order, trying again: %s", entry.volume_id, error)

    def give_way(self) -> None:
        """Let idle bundles go while the device has less free space than its floor: outputs come first."""
        while free_bytes(self._settings.kubelet_root) < self._settings.free_space_floor_bytes:
            if not self._let_go_of_one():
                return

    def _reconcile_one(self, entry: BundleEntry, live: LivePods | None) -> None:
        target = Path(entry.target)
        if kubelet.record_is_broken(target):
            _log.warning("kubelet's record of volume %s was empty: restored", entry.volume_id)
            kubelet.restore_record(target, entry.volume_id, self._settings.node_name)
            self._restored.add(entry.volume_id)
        if live is None or entry.pod_uid in live.uids:
            self._absent_since.pop(entry.volume_id, None)
            return
        since = self._absent_since.setdefault(entry.volume_id, live.at)
        if live.at - since >= 0.9 * self._settings.reconcile_seconds:
            _log.warning("pod %s/%s is gone, its bundle was left behind", entry.namespace, entry.pod_name)
            restored = entry.volume_id in self._restored
            self._take_back(entry)
            if restored and target.parent.is_dir():
                # kubelet gave the volume up when it could not read its record, and will not ask again.
                kubelet.forget_volume(target)

    def _take_back(self, entry: BundleEntry) -> None:
        target = Path(entry.target)
        tree.remove(target)
        if target.parent.is_dir():
            sync_folder(target.parent)
        with self._lock:
            self._journal.remove(entry.volume_id)
            self._entries.pop(entry.volume_id, None)
        self._absent_since.pop(entry.volume_id, None)
        self._restored.discard(entry.volume_id)

    def _drop_unwanted(self) -> None:
        """Remove what has come of bundles that no volume waits for."""
        with self._lock:
            waited_for = {f"{name}.tar" for name in self._used() if name not in self._sizes}
        for part in self._incoming.iterdir():
            if part.name not in waited_for:
                part.unlink()

    def _next_range(self, namespace: str, sha256: str, part: Path) -> bool:
        """Fetch the next bytes of the tar; whether they were the last. Raises `Unreachable`, `BundleUnavailable`."""
        path = f"/v1/namespaces/{namespace}/bundles/sha256:{sha256}"
        with part.open("ab") as file:
            start = file.tell()
            self._make_room(part, RANGE_BYTES + (start + RANGE_BYTES))  # more of the tar, and as much unpacked
            asked = {"Range": f"bytes={start}-{start + RANGE_BYTES - 1}", "If-Match": f'"{sha256}"'}
            answer = self._connection.request("GET", path, headers=asked)
            if answer.status == 416 and start:
                return True
            if answer.status != 206 or len(answer.body) > RANGE_BYTES:
                raise BundleUnavailable(answer.explained(path))
            file.write(answer.body)
            return len(answer.body) < RANGE_BYTES

    def _unpack(self, part: Path, name: str) -> None:
        """Make of the tar, whose SHA-256 is right, a whole bundle under its name. Raises `tarfile.TarError`."""
        needed = sum(_room(member.size) for _, member in _members(part))
        self._make_room(part, needed)
        new = self._folder / f".new-{secrets.token_hex(8)}"
        try:
            _make_folder(new)
            for archive, member in _members(part):
                if member.isdir():
                    _make_folder(new / member.name)
                    continue
                source = archive.extractfile(member)
                with (new / member.name).open("xb") as file:
                    shutil.copyfileobj(source, file, 2**18)  # type: ignore[arg-type]  # a regular file has one
                    os.fchmod(file.fileno(), 0o555 if member.mode & 0o111 else 0o444)
            # All is written before any of it is waited for: the disk is then asked far less often.
            _sync_all(new)
            with self._lock:
                new.rename(self._folder / name)
                self._sizes[name] = needed
            sync_folder(self._folder)
        except BaseException:
            tree.remove(new)
            raise

    def _make_room(self, part: Path, needed: int) -> None:
        """Let go what no volume uses, then what has come of others, until `part` has room for so much more.

        Raises `BundleUnavailable`.
        """
        while (problem := self._too_little_for(needed)) is not None:
            if not self._let_go_of_one() and not self._let_go_of_other_parts(part, needed):
                raise BundleUnavailable(problem)

    def _let_go_of_other_parts(self, part: Path, needed: int) -> bool:
        """Remove what has come of other bundles, if `part` is the furthest on and then has room; whether it was done.

        Without this, bundles of which one would fit could wait for each other's room for ever.
        """
        with self._lock:
            claimed = [f"{_name(entry.namespace, entry.sha256)}.tar" for entry in self._entries.values()]
        sizes = {other: other.stat().st_size for other in self._incoming.iterdir()}
        furthest = min(
            sizes, key=lambda one: (-sizes[one], claimed.index(one.name) if one.name in claimed else len(claimed))
        )
        others = sizes.keys() - {part}
        if part != furthest or not others or self._too_little_for(needed - sum(sizes[one] for one in others)):
            return False
        for other in others:
            other.unlink()
            _log.info("what has come of bundle %s makes room for another, which is further on", other.stem)
        return True

    def _too_little_for(self, needed: int) -> str | None:
        """Why the cache can't take so much more, or None."""
        limit, floor = self._settings.bundle_cache_bytes, self._settings.free_space_floor_bytes
        with self._lock:
            taken = sum(self._sizes.values())
        taken += sum(part.stat().st_size for part in self._incoming.iterdir())
        if taken + needed > limit:
            return (
                f"the bundles that jobs on this device use take {taken} bytes, this one needs {needed} more, and the "
                f"cache may have {limit} (agent.bundles.cacheBytes)"
            )
        free = free_bytes(self._settings.kubelet_root)
        if free < floor + needed:
            return (
                f"the device has {free} bytes free, this one needs {needed} more, and {floor} must stay free: free "
                "some space on it"
            )
        return None

    def _let_go_of_one(self) -> bool:
        """Remove the bundle that was unwanted the longest of those that no volume uses; whether there was one."""
        gone = self._folder / f".gone-{secrets.token_hex(8)}"
        with self._lock:
            idle = self._sizes.keys() - self._used()
            if not idle:
                return False
            name = min(idle, key=self._last_wanted)
            (self._folder / name).rename(gone)
            del self._sizes[name]
        tree.remove(gone)
        _log.info("bundle %s makes room", name)
        return True

    def _used(self) -> set[str]:
        """The names of the bundles that volumes use or wait for."""
        return {_name(entry.namespace, entry.sha256) for entry in self._entries.values()}

    def _last_wanted(self, name: str) -> int:
        return (self._folder / name).stat().st_mtime_ns

    def _part(self, name: str) -> Path:
        return self._incoming / f"{name}.tar"


def _name(namespace: str, sha256: str) -> str:
    """A bundle's name on the disk. It is another namespace's only if that namespace could fetch it, too."""
    return f"{namespace}.{sha256}"


def _verify(part: Path, sha256: str) -> None:
    """Return if the file has that SHA-256; else remove it and raise `BundleUnavailable`."""
    with part.open("rb") as tar:
        found = hashlib.file_digest(tar, "sha256").hexdigest()
    if found != sha256:
        part.unlink()
        raise BundleUnavailable(f"what came has the SHA-256 {found}: fetching it anew")


class _Member(tarfile.TarInfo):
    """A tar's entry whose extended headers are bounded: tarfile takes them into memory, however long they are."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if not (header.isreg() or header.isdir()) and header.size > MOST_EXTENDED_BYTES:
            raise tarfile.ReadError(f"{header.name!r} has a header of {header.size} bytes")
        return header


def _members(part: Path) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """The files and folders of a tar, one at a time, each with the open tar. Raises `tarfile.TarError`."""
    with tarfile.open(part, "r:", tarinfo=_Member) as archive:
        number = 0
        while (member := archive.next()) is not None:
            # tarfile would keep all of them: too much memory for a small device.
            archive.members.clear()  # type: ignore[attr-defined]  # not in the stubs
            _check(member, number)
            yield archive, member
            number += 1


def _check(member: tarfile.TarInfo, number: int) -> None:
    """Return if a member, the tar's `number`th, may be unpacked; else raise `tarfile.TarError`.

    The gateway makes no tar that is refused here; nothing is taken on trust all the same.
    """
    parts = member.name.split("/")
    if number >= MOST_ENTRIES:
        problem = "is one file too many"
    elif not (member.isdir() or member.isreg()) or member.issparse():
        problem = "is neither a file nor a folder"
    elif any(part in ("", ".", "..") for part in parts) or "\0" in member.name:
        problem = "is no plain relative name"
    elif len(os.fsencode(member.name)) > MOST_NAME_BYTES or len(parts) > tree.DEEPEST:
        problem = "is too long or too deep a name"
    elif member.size < 0:
        problem = "has less than no bytes"
    else:
        return
    raise tarfile.TarError(f"{member.name!r} {problem}")


def _room(size: int) -> int:
    """What a file of that size takes on the disk; with 0, what a folder takes."""
    return max(1, -(-size // BLOCK_BYTES)) * BLOCK_BYTES


def _room_below(root: Path) -> int:
    """What all that is below a folder takes on the disk."""
    return sum(_room(0 if entry.is_dir() else entry.stat().st_size) for entry in _below(root))


def _below(root: Path | str) -> Iterator[os.DirEntry[str]]:
    """All that is below a folder, each folder after what is in it. No list of names is in memory, however many."""
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _below(entry.path)
            yield entry


def _sync_all(root: Path) -> None:
    """Force a folder and all that is below it to disk."""
    for entry in _below(root):
        (sync_folder if entry.is_dir() else sync_file)(entry.path)
    sync_folder(root)


def _make_folder(folder: Path) -> None:
    """Make a folder that every user may read, whatever this process's umask is, if it is not there."""
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)


def _mirror(source: Path | str, target: Path) -> None:
    """Make `target` hold what `source` does, by links; what is there already stays."""
    _make_folder(target)
    with os.scandir(source) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _mirror(entry.path, target / entry.name)
            else:
                with suppress(FileExistsError):
                    (target / entry.name).hardlink_to(entry.path)
    sync_folder(target)
