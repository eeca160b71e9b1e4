"""Which processes are a pod's, told by its UID in their control groups on either version, and their memory."""

from pathlib import Path

import pytest

from testbed.containers import peak_rss_bytes, processes_of

UID = "0f6a1c9e-3f0f-4a55-9d0c-5a5b6c7d8e9f"


def process(proc: Path, pid: int, groups: str, command: bytes = b"python3\0") -> None:
    """A process as /proc shows it."""
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "cgroup").write_text(groups)
    (folder / "cmdline").write_bytes(command)


@pytest.mark.parametrize(
    "groups",
    [
        f"4:memory:/edgewise/hub/kubepods/burstable/pod{UID}/abc\n1:name=systemd:/\n",
        f"0::/edgewise/hub/kubepods/pod{UID}/abc\n",
        f"0::/kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice/cri-containerd-abc.scope\n",
    ],
)
def test_the_processes_of_a_pod_without_its_sandbox(tmp_path: Path, groups: str) -> None:
    process(tmp_path, 10, groups)
    process(tmp_path, 11, groups)
    process(tmp_path, 12, groups, b"/pause\0")
    process(tmp_path, 15, groups, b"/bin/busybox\0sleep\0002147483647\0")
    process(tmp_path, 13, groups.replace("0f6a1c9e", "11111111"))
    (tmp_path / "self").mkdir()
    (tmp_path / "14").mkdir()  # has ended meanwhile

    assert sorted(processes_of(UID, tmp_path)) == [10, 11]


def test_a_pods_peak_memory_is_that_of_all_its_processes(tmp_path: Path) -> None:
    for pid, status in ((10, "VmPeak:\t  900 kB\nVmHWM:\t  100 kB\n"), (11, "VmHWM:\t   28 kB\n"), (12, "State: Z\n")):
        process(tmp_path, pid, f"0::/kubepods/pod{UID}/abc\n")
        (tmp_path / str(pid) / "status").write_text(status)
    process(tmp_path, 13, f"0::/kubepods/pod{UID}/abc\n")  # ended meanwhile
    assert peak_rss_bytes(UID, tmp_path) == 128 * 1024
