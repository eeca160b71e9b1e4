"""The first process of a device: mounts its disk, writes its configuration, starts its services.

Runs by itself inside the device's namespaces (`python boot.py SPEC`), where it
is process 1: so it takes in orphans, starts a service again when it ends, and
takes the whole device with it when it is killed. It imports nothing of the
testbed and little else, because its memory counts as the device's.

The device's /var and /srv are folders of its disk and its /run is a new tmpfs,
so whatever a pod mounts from there belongs to this device alone and what is in
/run is lost with the power, as on a real machine.
"""

import json
import os
import socket
import sys
import time
from typing import Any

RESTART_SECONDS = 1.0


def main(spec_file: str) -> None:
    """Boots the device that the JSON in `spec_file` describes; never returns."""
    with open(spec_file, encoding="utf-8") as file:  # noqa: PTH123 - pathlib costs a device 2 MiB
        spec = json.load(file)
    socket.sethostname(spec["name"])
    mount_all(spec)
    for path, text in spec["files"].items():
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.write(descriptor, text.encode())
        os.close(descriptor)
    services: dict[str, list[str]] = dict(spec["services"])
    running = {spawn(services.pop("containerd"), spec["logs"], "containerd"): "containerd"}
    preload(spec)
    running |= {spawn(command, spec["logs"], name): name for name, command in services.items()}
    while True:
        pid, status = os.wait()
        name = running.pop(pid, None)
        if name is not None:
            print(f"{name} ended with {os.waitstatus_to_exitcode(status)}: starting it again", flush=True)
            time.sleep(RESTART_SECONDS)
            running[spawn(spec["services"][name], spec["logs"], name)] = name


def mount_all(spec: dict[str, Any]) -> None:
    """Mounts the disk and lays the device's own folders over the host's.

    `barrier=0`: the disk's medium is the host's page cache. A sync still reaches
    it before it returns, as on a real disk, but does not wait for the host's.
    """
    disk, host_root = spec["mountpoint"], spec["mountpoint"] + ".host"
    call("mount", "-o", "loop,noatime,barrier=0", spec["disk"], disk)
    call("mount", "--bind", spec["host_root"], host_root)
    for folder in ("var/lib/kubelet", "var/lib/containerd", "var/lib/cni", "var/log/pods", "var/tmp", "srv/photos"):
        os.makedirs(f"{disk}/{folder}", exist_ok=True)  # noqa: PTH103
    call("mount", "--bind", f"{disk}/var", "/var")
    call("mount", "--bind", f"{disk}/srv", "/srv")
    call("mount", "--bind", "/var/lib/kubelet", "/var/lib/kubelet")
    call("mount", "--make-rshared", "/var/lib/kubelet")
    call("mount", "-t", "tmpfs", "-o", "mode=755,size=64m", "tmpfs", "/run")
    os.mkdir("/run/cni")  # noqa: PTH102
    call("mount", "--bind", "/run/cni", "/var/lib/cni")  # half-written after a power cut it would block every pod
    os.mkdir("/run/edgewise-host")  # noqa: PTH102
    call("mount", "--move", host_root, "/run/edgewise-host")
    set_boot_id(spec["boot_id"])


def set_boot_id(boot_id: str) -> None:
    """Gives this boot an id of its own: the kubelet tells a reboot by it."""
    with open("/run/boot_id", "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(f"{boot_id}\n")
    call("mount", "--bind", "/run/boot_id", "/proc/sys/kernel/random/boot_id")


def preload(spec: dict[str, Any]) -> None:
    """Imports the images that pods can't start without, before the kubelet starts."""
    importing = ["ctr", "--namespace", "k8s.io", "images", "import"]
    for archive in spec["preload"]:
        deadline = time.monotonic() + 120
        while run([*importing, archive], spec["logs"]) != 0:
            if time.monotonic() > deadline:
                sys.exit(f"{archive} can't be imported")
            time.sleep(0.2)
    os.sync()


def call(*command: str) -> None:
    """Runs a command of the boot; the device stays off when it fails."""
    status = os.waitstatus_to_exitcode(os.waitpid(os.posix_spawnp(command[0], command, os.environ), 0)[1])
    if status != 0:
        sys.exit(f"{' '.join(command)}: exit code {status}")


def run(command: list[str], logs: str) -> int:
    """The exit code of a command, its output in the boot's log."""
    return os.waitstatus_to_exitcode(os.waitpid(spawn(command, logs, "preload"), 0)[1])


def spawn(command: list[str], logs: str, name: str) -> int:
    """Starts a program with its output appended to its log; its process id."""
    return os.posix_spawnp(
        command[0],
        command,
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 1, f"{logs}/{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )


if __name__ == "__main__":
    main(sys.argv[1])
