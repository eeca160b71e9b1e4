"""The journal: one small file for every volume, forced to disk before kubelet hears that the volume is there.

This module owns the files of the journal's folder. They are the agent's only memory of what a volume is for, so that
nothing depends on kubelet's own record, which a power cut may empty. It never touches a volume's content.
"""

import logging
from pathlib import Path
from typing import Annotated, Final, TypeVar

from msgspec import DecodeError, Meta, Struct, json

from edgewise_agent.files import remove_durably, write_durably
from edgewise_agent.wire import SHA256, UID, Message, OutputVolume, ShortName, VolumeState

KIND: Final = "outputs"
"""Volumes for results; entries carry their kind so that an agent knows what it does not understand."""
LOGS: Final = "logs"
"""No volume at all: the logs of a pod that had none for results."""
BUNDLE: Final = "bundle"
"""Volumes that hold an app's own files: nothing of them is ever sent."""

VolumeID = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
"""kubelet's id of a volume (`csi-` and a SHA-256); files are named after it."""

_log = logging.getLogger(__name__)


class Finish(Struct, frozen=True, kw_only=True, rename="camel"):
    """How a volume ended: Done or Discarded, and what the last beats about it say.

    `kept`: the spool still holds a copy of what the gateway has acknowledged, until that is settled.
    """

    state: VolumeState
    bytes_: int = 0
    message: Message = ""
    kept: bool = False


class Entry(Struct, frozen=True, kw_only=True, rename="camel"):
    """What the agent promised about one volume. `target` is the folder that kubelet mounts into the pod, if any.

    `finish` is set once nothing is left to send; what the volume held may then be removed at any time, but for a copy
    that is kept.
    """

    volume_id: VolumeID
    kind: str = KIND
    target: str
    namespace: ShortName
    pod_name: ShortName
    pod_uid: UID
    asked: OutputVolume
    finish: Finish | None = None

    @property
    def logs_only(self) -> bool:
        """Whether there is no volume, only the logs of a pod."""
        return self.kind == LOGS


class BundleEntry(Struct, frozen=True, kw_only=True, rename="camel"):
    """What the agent promised about a volume that holds a bundle. It is removed when the pod gives the volume back."""

    volume_id: VolumeID
    kind: str = BUNDLE
    target: str
    namespace: Annotated[str, Meta(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
    pod_name: ShortName
    pod_uid: UID
    sha256: SHA256


class _Kind(Struct, frozen=True):
    kind: str = KIND


_Any = TypeVar("_Any", Entry, BundleEntry)


class Journal:
    """The entries below `folder`, each in a file of its own named after the volume."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def load(self) -> list[Entry]:
        """Every readable entry of what is to be sent, oldest first by the time it was written. Raises `OSError`.

        An entry that can't be read (a damaged disk; a newer agent's kind) is left as it is, and told in the log.
        """
        return self._load(Entry, (KIND, LOGS))

    def load_bundles(self) -> list[BundleEntry]:
        """The same of the volumes that hold bundles."""
        return self._load(BundleEntry, (BUNDLE,))

    def _load(self, type_: type[_Any], kinds: tuple[str, ...]) -> list[_Any]:
        entries = []
        for path in sorted(self._folder.glob("[!.]*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name)):
            content = path.read_bytes()
            try:
                found = json.decode(content, type=_Kind).kind
                if found in kinds:
                    entries.append(json.decode(content, type=type_))
            except (DecodeError, UnicodeDecodeError) as error:
                _log.error(
                    "journal entry %s can't be read (%s): the files of that volume stay where they are", path, error
                )
                continue
            if found not in (KIND, LOGS, BUNDLE):
                _log.error("journal entry %s is of kind %r, which this agent does not know: left alone", path, found)
        return entries

    def write(self, entry: Entry | BundleEntry) -> None:
        """Write an entry; it is on the disk when this returns. Raises `OSError`."""
        write_durably(self._path(entry.volume_id), json.encode(entry))

    def remove(self, volume_id: str) -> None:
        """Forget a volume, if it is known. Raises `OSError`."""
        remove_durably(self._path(volume_id))

    def _path(self, volume_id: str) -> Path:
        return self._folder / f"{volume_id}.json"
