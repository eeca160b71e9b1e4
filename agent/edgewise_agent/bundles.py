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
from pathlib import Path
from typing import Final

from edgewise_agent import tree
from edgewise_agent.files import sync_file, sync_folder
from edgewise_agent.journal import BundleEntry, Journal
from edgewise_agent.metrics import free_bytes
from edgewise_agent.settings import Settings
from edgewise_agent.uplink.connection import Connection, Unreachable
from edgewise_agent.volumes import kubelet
from edgewise_agent.volumes.table import LivePods

RANGE_BYTES: Final = 4 * 2**20
"""Asked for at once: what a request costs in memory, and at most is fetched again after a cut."""
MOST_ENTRIES: Final = 10_000
MOST_NAME_BYTES: Final = 1024
MOST_REPORTED: Final = 100

_log = logging.getLogger(__name__)


class BundleUnavailable(RuntimeError):
    """The bundle can't be had now; the message names it and says why. Trying again later may help."""


class Bundles:
    """The bundles of one device. Methods block and may come from several threads; they raise `OSError`.

    `fetch` of one bundle must not overlap: the caller sees to that.
    """

    def __init__(self, settings: Settings, connection: Connection) -> None:
        """`connection` leads to the gateway."""
        self._settings = settings
        self._connection = connection
        self._folder = settings.plugin_dir / "bundles"
        self._incoming = self._folder / ".fetching"
        self._lock = threading.RLock()
        self._journal = Journal(settings.plugin_dir / "journal")
        self._entries: dict[str, BundleEntry] = {}
        self._absent_since: dict[str, float] = {}

    def load(self) -> None:
        """Take up after a start: which volumes there are; what a crash left unfinished goes."""
        self._incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._lock:
            self._entries = {entry.volume_id: entry for entry in self._journal.load_bundles()}
        for leftover in (*self._folder.glob(".new-*"), *self._folder.glob(".gone-*")):
            tree.remove(leftover)

    def entry(self, volume_id: str) -> BundleEntry | None:
        """The journal's entry of a bundle volume that is, or was to be, in a pod."""
        with self._lock:
            return self._entries.get(volume_id)

    def held(self) -> tuple[str, ...]:
        """The SHA-256 of the bundles that are here whole, the last wanted first; at most 100."""
        with self._lock:
            newest = sorted(self._cached(), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        return tuple(dict.fromkeys(path.name.rpartition(".")[2] for path in newest))[:MOST_REPORTED]

    def claim(self, entry: BundleEntry) -> bool:
        """Note a volume, on the disk: its bundle is in use from now on. Returns whether the bundle is here."""
        with self._lock:
            if self._entries.get(entry.volume_id) != entry:
                self._journal.write(entry)
                self._entries[entry.volume_id] = entry
            return self._place(entry.namespace, entry.sha256).is_dir()

    def fetch(self, namespace: str, sha256: str) -> None:
        """Bring the bundle here, going on where an earlier call ended. Raises `BundleUnavailable`."""
        if self._place(namespace, sha256).is_dir():
            return
        name = f"{namespace}.{sha256}"
        part = self._incoming / f"{name}.tar"
        try:
            self._drop_unwanted(part)
            self._download(namespace, sha256, part)
            _verify(part, sha256)
            self._unpack(part, self._place(namespace, sha256))
        except (BundleUnavailable, Unreachable, OSError) as error:
            raise BundleUnavailable(
                f"bundle sha256:{sha256} of namespace {namespace} is not here yet: {error}"
            ) from error
        except tarfile.TarError as error:
            part.unlink(missing_ok=True)
            raise BundleUnavailable(
                f"bundle sha256:{sha256} of namespace {namespace} can't be read: {error}"
            ) from error
        part.unlink()
        _log.info("bundle sha256:%s of namespace %s is here", sha256, namespace)

    def publish(self, entry: BundleEntry) -> None:
        """Put the bundle's files into the volume's target; again, when they are there already.

        Files are links to the cache's, or copies where links can't be made. They are root's and nobody may write them,
        and kubelet mounts such volumes read-only into every container (docs/decisions/bundles.md).
        """
        place, target = self._place(entry.namespace, entry.sha256), Path(entry.target)
        with self._lock:
            if entry.volume_id not in self._entries:
                raise OSError(f"volume {entry.volume_id} was given back meanwhile")
            os.utime(place)
            target.mkdir(exist_ok=True)
            target.chmod(0o755)
            _mirror(place, target)
            kubelet.sync_record(target)

    def unpublish(self, volume_id: str) -> bool:
        """Take the volume from its pod; whether it was one of bundles. The cache keeps the bundle."""
        with self._lock:
            entry = self._entries.get(volume_id)
            if entry is None:
                return False
            target = Path(entry.target)
            tree.remove(target)
            if target.parent.is_dir():
                sync_folder(target.parent)
            self._journal.remove(volume_id)
            del self._entries[volume_id]
            self._absent_since.pop(volume_id, None)
            return True

    def reconcile(self, live: LivePods | None) -> None:
        """Compare the volumes with kubelet's records and the pods that live, as `VolumeTable.reconcile` does."""
        with self._lock:
            for entry in list(self._entries.values()):
                try:
                    self._reconcile_one(entry, live)
                except OSError as error:
                    _log.error("bundle volume %s can't be put in order, trying again: %s", entry.volume_id, error)

    def _reconcile_one(self, entry: BundleEntry, live: LivePods | None) -> None:
        target = Path(entry.target)
        if kubelet.record_is_broken(target):
            _log.warning("kubelet's record of volume %s was empty: restored", entry.volume_id)
            kubelet.restore_record(target, entry.volume_id, self._settings.node_name)
        if live is None or entry.pod_uid in live.uids:
            self._absent_since.pop(entry.volume_id, None)
            return
        since = self._absent_since.setdefault(entry.volume_id, live.at)
        if live.at - since >= 0.9 * self._settings.reconcile_seconds:
            _log.warning("pod %s/%s is gone, its bundle was left behind", entry.namespace, entry.pod_name)
            self.unpublish(entry.volume_id)
            if target.parent.is_dir():
                kubelet.forget_volume(target)

    def _drop_unwanted(self, wanted: Path) -> None:
        """Remove what has come of bundles that no volume waits for any more."""
        with self._lock:
            names = {f"{entry.namespace}.{entry.sha256}.tar" for entry in self._entries.values()}
        for part in self._incoming.iterdir():
            if part != wanted and part.name not in names:
                part.unlink()

    def _download(self, namespace: str, sha256: str, part: Path) -> None:
        """Fetch what is missing of the tar, range by range. Raises `Unreachable`, `BundleUnavailable`."""
        path = f"/v1/namespaces/{namespace}/bundles/sha256:{sha256}"
        with part.open("ab") as file:
            while True:
                start = file.tell()
                self._make_room(2 * (start + RANGE_BYTES))  # the tar, and as much unpacked
                asked = {"Range": f"bytes={start}-{start + RANGE_BYTES - 1}", "If-Match": f'"{sha256}"'}
                answer = self._connection.request("GET", path, headers=asked)
                if answer.status == 416 and start:
                    return
                if answer.status != 206 or len(answer.body) > RANGE_BYTES:
                    raise BundleUnavailable(answer.explained(path))
                file.write(answer.body)
                if len(answer.body) < RANGE_BYTES:
                    return

    def _unpack(self, part: Path, place: Path) -> None:
        """Make of the tar, whose SHA-256 is right, a whole bundle under its name. Raises `tarfile.TarError`."""
        new = self._folder / f".new-{secrets.token_hex(8)}"
        new.mkdir(mode=0o755)
        try:
            folders = [new]
            with tarfile.open(part, "r:") as archive:
                for number, member in enumerate(archive):
                    _check(member, number)
                    inner = new / member.name
                    if member.isdir():
                        inner.mkdir(mode=0o755)
                        folders.append(inner)
                        continue
                    source = archive.extractfile(member)
                    with inner.open("xb") as file:
                        shutil.copyfileobj(source, file, 2**18)  # type: ignore[arg-type]  # a regular file has one
                        os.fchmod(file.fileno(), 0o555 if member.mode & 0o111 else 0o444)
                        file.flush()
                        os.fsync(file.fileno())
            for folder in folders:
                sync_folder(folder)
            new.chmod(0o755)
            new.rename(place)
            sync_folder(self._folder)
        except BaseException:
            tree.remove(new)
            raise

    def _make_room(self, needed: int) -> None:
        """Let bundles go that no volume uses, the longest unwanted first. Raises `BundleUnavailable`."""
        limit = self._settings.bundle_cache_bytes
        with self._lock:
            used = {self._place(entry.namespace, entry.sha256) for entry in self._entries.values()}
            sizes = {path: tree.size_below(path) for path in self._cached()}
            idle = sorted((path for path in sizes if path not in used), key=lambda path: path.stat().st_mtime_ns)
            while sum(sizes.values()) + needed > limit and idle:
                path = idle.pop(0)
                gone = self._folder / f".gone-{secrets.token_hex(8)}"
                path.rename(gone)
                tree.remove(gone)
                del sizes[path]
                _log.info("bundle %s makes room", path.name)
        if sum(sizes.values()) + needed > limit:
            raise BundleUnavailable(
                f"the bundles that jobs on this device use take {sum(sizes.values())} bytes, this one needs {needed} "
                f"more, and the cache may have {limit} (agent.bundles.cacheBytes)"
            )
        free = free_bytes(self._settings.kubelet_root)
        if free < self._settings.free_space_floor_bytes + RANGE_BYTES:
            raise BundleUnavailable(f"{free} bytes are free on {self._settings.kubelet_root}: it waits for room")

    def _cached(self) -> list[Path]:
        return list(self._folder.glob("[!.]*"))

    def _place(self, namespace: str, sha256: str) -> Path:
        """A bundle is another namespace's only if that namespace could fetch it, too."""
        return self._folder / f"{namespace}.{sha256}"


def _verify(part: Path, sha256: str) -> None:
    """Return if the file has that SHA-256; else remove it and raise `BundleUnavailable`."""
    with part.open("rb") as tar:
        found = hashlib.file_digest(tar, "sha256").hexdigest()
    if found != sha256:
        part.unlink()
        raise BundleUnavailable(f"what came has the SHA-256 {found}: fetching it anew")


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
    else:
        return
    raise tarfile.TarError(f"{member.name!r} {problem}")


def _mirror(source: Path, target: Path) -> None:
    """Make `target` hold what `source` does, by links where they can be made; what is there already stays."""
    for folder, _, files in os.walk(source):
        here = target / Path(folder).relative_to(source)
        here.mkdir(mode=0o755, exist_ok=True)
        for name in files:
            original, link = Path(folder, name), here / name
            if link.exists():
                continue
            try:
                link.hardlink_to(original)
            except OSError:
                copy = here / f".{secrets.token_hex(8)}"
                shutil.copy(original, copy)
                sync_file(copy)
                copy.rename(link)
        sync_folder(here)
