"""What the agent knows of kubelet's folders: where a volume's target is, and kubelet's own record beside it.

This module owns the facts about `{kubelet root}/pods/…/volumes/kubernetes.io~csi/{volume}/`: the folder `mount` is the
target that kubelet asks for, `vol_data.json` what kubelet must be able to read to unpublish the volume. It repairs that
record and nothing else of kubelet's.
"""

import hashlib
from pathlib import Path, PurePosixPath
from typing import Final

from msgspec import DecodeError, json

from edgewise_agent.files import sync_file, sync_folder, write_durably
from edgewise_agent.wire import CSI_DRIVER

RECORD_NAME: Final = "vol_data.json"


def target_problem(target: str, kubelet_root: Path) -> str | None:
    """Why a target path is none that kubelet would ask for, or None. Nothing outside its pods' folders is touched."""
    path, pods = PurePosixPath(target), kubelet_root / "pods"
    if ".." in path.parts or not path.is_relative_to(pods) or len(path.parts) < len(pods.parts) + 2:
        return f"target path {target!r} is not below {pods}: is EDGEWISE_KUBELET_ROOT the kubelet's root folder?"
    return None


def sync_record(target: Path) -> None:
    """Force to disk what kubelet wrote before it asked for the volume: its record, and the folders down to the target.

    kubelet does not do so itself, and without its record it can't unpublish the volume after a power cut. Raises
    `OSError`.
    """
    record = target.parent / RECORD_NAME
    if record.exists():
        sync_file(record)
    # .../pods/{uid}/volumes/kubernetes.io~csi/{volume}: each may be new.
    for folder in list(target.parents)[:5]:
        sync_folder(folder)


def record_is_broken(target: Path) -> bool:
    """Whether kubelet has a folder for the volume but no usable record in it. Raises `OSError`."""
    if not target.is_dir():
        return False
    try:
        record = json.decode((target.parent / RECORD_NAME).read_bytes(), type=dict[str, str])
    except (FileNotFoundError, DecodeError, UnicodeDecodeError):
        return True
    return not record.get("volumeHandle") or not record.get("driverName")


def restore_record(target: Path, volume_id: str, node_name: str) -> None:
    """Write kubelet's record as kubelet itself would have written it. Raises `OSError`."""
    attachment = hashlib.sha256(f"{volume_id}{CSI_DRIVER}{node_name}".encode()).hexdigest()
    record = {
        "attachmentID": f"csi-{attachment}",
        "driverName": CSI_DRIVER,
        "nodeName": node_name,
        # kubelet writes `/` in a volume's name as `~` in its folder's.
        "specVolID": target.parent.name.replace("~", "/"),
        "volumeHandle": volume_id,
        "volumeLifecycleMode": "Ephemeral",
    }
    write_durably(target.parent / RECORD_NAME, json.encode(record) + b"\n")


def forget_volume(target: Path) -> None:
    """Remove kubelet's record and the folder around it, once the target itself is gone; whatever is left stays."""
    (target.parent / RECORD_NAME).unlink(missing_ok=True)
    if not any(target.parent.iterdir()):
        target.parent.rmdir()
