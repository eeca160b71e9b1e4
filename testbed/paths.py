"""Where the testbed keeps things.

Three places: the checkout's .testbed/ (settings, keys, logs, disks; gone after
`fleet down`), the cache (binaries and images by the hash of what they are made
from; shared by all checkouts), and /run/edgewise-testbed, a tmpfs of our own
with what describes the running fleet. That one does not survive a restart of
the machine, so a record in it is never about an earlier life.
"""

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
SOURCES = CHECKOUT / "testbed"

STATE = CHECKOUT / ".testbed"
BIN = STATE / "bin"
KUBECONFIG = STATE / "kubeconfig"
SETTINGS = STATE / "fleet.json"
KEYS = STATE / "pki"
ETCD = STATE / "etcd"
LOGS = STATE / "logs"
IMAGES = STATE / "images"
DISKS = STATE / "disks"
MOUNTS = STATE / "mounts"
SPECS = STATE / "boot"

RUN = Path("/run/edgewise-testbed")
OWNER = RUN / "owner"
PROCESSES = RUN / "processes"
NETWORKS = RUN / "networks"
DEVICES = RUN / "devices"
LOCK = Path("/run/lock/edgewise-testbed.lock")


def cache() -> Path:
    """The cache's folder: $EDGEWISE_CACHE, or `edgewise` under the user's cache."""
    if chosen := os.environ.get("EDGEWISE_CACHE"):
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "edgewise"
