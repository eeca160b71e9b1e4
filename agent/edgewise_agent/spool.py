"""The spool: the folders of ended volumes, waiting to go home.

This module owns the layout below `{plugin folder}/spool`: `{volume}/files` is what the app wrote, `{volume}/logs` what
its pod's containers said, `{volume}/plan.json` what of both will be sent, `.gone-…` is being removed, `../orphans`
holds what no journal entry explains. A volume comes in by one rename, so it is never in two places nor in none. It
never decides when.
"""

import errno
import logging
import os
import secrets
import threading
from pathlib import Path
from typing import Final

from msgspec import DecodeError, json

from edgewise_agent.files import remove_durably, sync_folder, write_durably
from edgewise_agent.tree import remove, size_below
from edgewise_agent.wire import UploadPlan

_GONE: Final = ".gone-"

_log = logging.getLogger(__name__)


class Spool:
    """The spooled folders below `{plugin_dir}/spool`. Every change is on the disk when the method returns."""

    def __init__(self, plugin_dir: Path) -> None:
        self._folder = plugin_dir / "spool"
        self._orphans = plugin_dir / "orphans"
        self._sweeping = threading.Lock()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def files(self, volume_id: str) -> Path:
        """The folder that the app wrote, once it is in the spool."""
        return self._folder / volume_id / "files"

    def logs(self, volume_id: str) -> Path:
        """Where the logs of the volume's pod are kept; they may come before its files do."""
        return self._folder / volume_id / "logs"

    def holds(self, volume_id: str) -> bool:
        """Whether the volume is in the spool."""
        return self.files(volume_id).is_dir()

    def size(self, volume_id: str) -> int:
        """Bytes in the volume's files and logs. Raises `OSError`."""
        return size_below(self.files(volume_id)) + size_below(self.logs(volume_id))

    def take(self, volume_id: str, target: Path) -> None:
        """Move the folder `target` into the spool. One that is not there is taken as empty.

        Raises `OSError`; then the folder is still where it was.
        """
        folder = self._folder / volume_id
        folder.mkdir(mode=0o700, exist_ok=True)
        remove_durably(self._plan(volume_id))
        try:
            target.rename(folder / "files")
        except FileNotFoundError:
            (folder / "files").mkdir(exist_ok=True)
        except OSError as error:
            if error.errno == errno.EXDEV:
                raise OSError(
                    errno.EXDEV,
                    f"{target} and {folder} are not on one filesystem: the pods' folders and the plugins' folder of "
                    "kubelet must share one, and the agent must mount kubelet's root as a whole",
                ) from error
            raise
        self._sync(folder, self._folder, target.parent)

    def take_logs(self, volume_id: str) -> None:
        """Count the logs that were kept for `volume_id` as in the spool, without files. Raises `OSError`."""
        self.files(volume_id).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sync(self._folder / volume_id, self._folder)

    def volume_ids(self) -> list[str]:
        """What there is in the spool, or was begun to be."""
        return [folder.name for folder in self._folder.glob("[!.]*")]

    def give_back(self, volume_id: str, target: Path) -> None:
        """Move the volume's folder back to `target`, whose parent must exist. Raises `OSError`."""
        remove_durably(self._plan(volume_id))
        self.files(volume_id).rename(target)
        self._sync(target.parent, self._folder / volume_id)

    def let_go(self, volume_id: str) -> None:
        """Mark the volume's folder for removal, which `sweep` does. Raises `OSError`."""
        folder = self._folder / volume_id
        if folder.exists():
            folder.rename(self._folder / f"{_GONE}{secrets.token_hex(8)}")
            sync_folder(self._folder)

    def sweep(self) -> None:
        """Remove what was let go, as long as that takes; what can't be removed is tried again by the next call."""
        with self._sweeping:
            for folder in self._folder.glob(f"{_GONE}*"):
                try:
                    remove(folder)
                except OSError as error:
                    _log.error("%s can't be removed, it keeps its space: %s", folder, error)

    def set_aside(self, volume_id: str, target: Path) -> Path | None:
        """Clear the way of a volume that nothing is known about: an empty target is removed, a full one is kept aside.

        Returns the new place, or None when there was nothing to keep. Raises `OSError`.
        """
        try:
            target.rmdir()
        except FileNotFoundError:
            return None
        except OSError:
            self._orphans.mkdir(mode=0o700, exist_ok=True)
            place = self._orphans / f"{volume_id}-{secrets.token_hex(4)}"
            os.utime(target)
            target.rename(place)
            self._sync(self._orphans, target.parent)
            return place
        return None

    def unknown(self, now: float) -> list[tuple[Path, float]]:
        """What was set aside and how many seconds before `now` (Unix seconds) that was, the oldest first."""
        if not self._orphans.is_dir():
            return []
        places = [(place, max(0.0, now - place.lstat().st_mtime)) for place in self._orphans.iterdir()]
        return sorted(places, key=lambda one: -one[1])

    def drop_unknown(self, place: Path) -> None:
        """Remove what was set aside at `place`. Raises `OSError`; the next call goes on with it."""
        remove(place)

    def plan(self, volume_id: str) -> UploadPlan | None:
        """The plan that was kept for the volume, if there is a readable one. Raises `OSError`."""
        try:
            return json.decode(self._plan(volume_id).read_bytes(), type=UploadPlan)
        except (FileNotFoundError, DecodeError, UnicodeDecodeError):
            return None

    def keep_plan(self, volume_id: str, plan: UploadPlan) -> None:
        """Keep the plan, so that a restart need not read everything again. Raises `OSError`."""
        write_durably(self._plan(volume_id), json.encode(plan))

    def drop_plan(self, volume_id: str) -> None:
        """Forget the plan: the files are to be judged anew. Raises `OSError`."""
        remove_durably(self._plan(volume_id))

    def _plan(self, volume_id: str) -> Path:
        return self._folder / volume_id / "plan.json"

    @staticmethod
    def _sync(*folders: Path) -> None:
        for folder in dict.fromkeys(os.fspath(folder) for folder in folders):
            sync_folder(Path(folder))
