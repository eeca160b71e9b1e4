"""Which processes are a pod's: told by its UID in their control groups, on either version and with either driver."""

from pathlib import Path

import pytest

from testbed.containers import processes_of

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
