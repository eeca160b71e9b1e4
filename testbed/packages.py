"""Installs the Debian packages that the testbed needs (packages.txt), only those that are missing.

Their services are never started: the testbed runs the programs itself. While
apt works, a policy file tells it so; where systemd runs, the services of newly
installed packages are disabled again afterwards.
"""

import subprocess
from pathlib import Path

from testbed import paths
from testbed.commands import installed, run
from testbed.errors import FleetError

_POLICY = Path("/usr/sbin/policy-rc.d")
_SERVICES = {"etcd-server": "etcd", "containerd": "containerd", "nftables": "nftables"}


def wanted() -> list[str]:
    """The packages in packages.txt."""
    return (paths.SOURCES / "packages.txt").read_text().split()


def missing() -> list[str]:
    """The packages that are not installed."""
    if not installed("dpkg-query"):
        raise FleetError("the testbed installs what it needs with apt-get: it runs on Debian and its relatives only")
    query = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *wanted()],
        capture_output=True,
        text=True,
        check=False,  # it exits with 1 when it does not know one of the names
    )
    present = {line.split()[0] for line in query.stdout.splitlines() if line.endswith(" installed")}
    return [package for package in wanted() if package not in present]


def install(packages: list[str], log: Path) -> None:
    """Installs `packages` without starting their services."""
    log.parent.mkdir(parents=True, exist_ok=True)
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", log=log, environment=quiet)
    ours = not _POLICY.exists()
    if ours:
        _POLICY.write_text("#!/bin/sh\nexit 101\n")
        _POLICY.chmod(0o755)
    try:
        run("apt-get", "install", "--yes", "--no-install-recommends", *packages, log=log, environment=quiet)
    finally:
        if ours:
            _POLICY.unlink()
    if Path("/run/systemd/system").is_dir():
        for package in set(packages) & set(_SERVICES):
            run("systemctl", "disable", _SERVICES[package], log=log)
