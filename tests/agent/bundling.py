"""Bundles as the gateway makes them and as pods ask for them, for tests."""

import hashlib
import io
import tarfile
from dataclasses import dataclass
from typing import Any

from edgewise_agent.bundles import Bundles
from edgewise_agent.settings import Settings
from edgewise_agent.uplink.connection import Connection
from edgewise_agent.volumes.proto import csi_pb2 as csi

from tests.agent.kubelet import Pod

APP = {"main.py": b"print(1)\n", "lib/model.bin": bytes(range(256)) * 64, "run.sh": b"#!/bin/sh\n"}


def tar_of(files: dict[str, bytes]) -> tuple[str, bytes]:
    """The canonical tar of these files, `*.sh` executable, and its SHA-256."""
    made = io.BytesIO()
    folders = {name.rpartition("/")[0] for name in files} - {""}
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(folders | set(files)):
            entry = tarfile.TarInfo(name)
            entry.mode = 0o555 if name in folders or name.endswith(".sh") else 0o444
            entry.type = tarfile.DIRTYPE if name in folders else tarfile.REGTYPE
            entry.size = len(files.get(name, b""))
            archive.addfile(entry, io.BytesIO(files.get(name, b"")))
    return hashlib.sha256(made.getvalue()).hexdigest(), made.getvalue()


def bundles_of(settings: Settings) -> Bundles:
    """The bundles of an agent with these settings, loaded."""
    connection = Connection(
        settings.gateway_url, ca_file=settings.ca_file, token_file=settings.token_file, read_seconds=5
    )
    bundles = Bundles(settings, connection)
    bundles.load()
    return bundles


@dataclass
class AppPod(Pod):
    """A pod with one volume that holds a bundle."""

    sha256: str = ""
    namespace: str = "demo"

    def attributes(self) -> dict[str, str]:
        own = {key: value for key, value in super().attributes().items() if key.startswith("csi.storage")}
        return {**own, "csi.storage.k8s.io/pod.namespace": self.namespace, "bundle": self.sha256}

    def request(self, **changes: Any) -> csi.NodePublishVolumeRequest:
        return super().request(**{"readonly": True, **changes})

    def files(self) -> dict[str, bytes]:
        """What the app finds."""
        return {
            str(path.relative_to(self.target)): path.read_bytes() for path in self.target.rglob("*") if path.is_file()
        }
