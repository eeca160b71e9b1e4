"""What apps leave in their folder: hostile things beside good ones, a gigabyte in one file, and ten thousand files."""

import io
import os
import random
import stat
import tarfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest

from testbed import Fleet, containers, wait_until
from testbed.results import results
from tests.figures import Figures, Tally
from tests.fleet.faults import edgewise_pods, now, pinned
from tests.fleet.homecoming import live_volume
from tests.fleet.volume import usual_volume
from tests.fleet.work import make_app, start

pytestmark = pytest.mark.usefixtures("edgewise")

DEVICE: Final = "edge-1"
MIB: Final = 2**20
MAX_FILES: Final = 30

HOSTILE: Final = f"""
import os, pathlib, socket, sys, time
folder = pathlib.Path(os.environ["EDGEWISE_OUTPUTS"])
secret = sys.argv[1]
(folder / "good.csv").write_text("photo,x\\n1,2\\n")
(folder / "truncated.csv").write_text('photo,x\\n1,2\\n"3,')
(folder / "unreadable.csv").write_text("a\\n1\\n")
(folder / "unreadable.csv").chmod(0)
(folder / "..csv").write_text("a\\n1\\n")
(folder / ("n" * 251 + ".csv")).write_text("a\\n1\\n")
long = folder / ("f" * 150) / ("o" * 150)
long.mkdir(parents=True)
(long / "long.csv").write_text("a\\n1\\n")
with (folder / "hole.csv").open("wb") as hole:
    hole.truncate(8 * 2**20)
(folder / "absolute.csv").symlink_to("/var/lib/kubelet/" + secret)
(folder / "relative.csv").symlink_to("../../../../../" + secret)
(folder / "passwords.csv").symlink_to("/etc/passwd")
(folder / "itself.csv").symlink_to("itself.csv")
(folder / "linked").symlink_to("../../../../..")
(folder / "one.csv").write_text("a\\n1\\n")
os.link(folder / "one.csv", folder / "other.csv")
os.mkfifo(folder / "fifo.csv")
socket.socket(socket.AF_UNIX).bind(str(folder / "socket.csv"))
for name in (b"\\xff\\xfe.csv", b"\\x1b[2J.csv", b"two\\nlines.csv"):
    open(bytes(folder) + b"/" + name, "w").close()
deep = folder
for _ in range(5):
    deep /= "d" * 250
    deep.mkdir()
(deep / "x.csv").write_text("a\\n1\\n")
bottom = os.open(folder, os.O_RDONLY)
for _ in range(70):
    os.mkdir("e", dir_fd=bottom)
    bottom = os.open("e", os.O_RDONLY, dir_fd=bottom)
os.close(os.open("x.csv", os.O_CREAT | os.O_WRONLY, dir_fd=bottom))
for number in range({MAX_FILES}):
    (folder / f"z{{number:02}}.csv").write_text(f"n\\n{{number}}\\n")
(folder / "ready").touch()
while not (folder / "go").exists():
    time.sleep(0.1)
"""
"""Leaves all that an app without privileges can, then waits for what only the device's root can leave.

Its relative links lead to kubelet's folder from where the agent reads: the spool.
"""

GOOD: Final = {
    "good.csv": b"photo,x\n1,2\n",
    "truncated.csv": b'photo,x\n1,2\n"3,',
    "unreadable.csv": b"a\n1\n",
    "..csv": b"a\n1\n",
    "n" * 251 + ".csv": b"a\n1\n",
    f"{'f' * 150}/{'o' * 150}/long.csv": b"a\n1\n",
    "hole.csv": bytes(8 * MIB),
}
MANY: Final = {f"z{number:02}.csv": f"n\n{number}\n".encode() for number in range(MAX_FILES)}
REFUSED: Final = {
    "absolute.csv": "Symlink",
    "relative.csv": "Symlink",
    "passwords.csv": "Symlink",
    "itself.csv": "Symlink",
    "one.csv": "HardLink",
    "other.csv": "HardLink",
    "secret.csv": "HardLink",
    "fifo.csv": "NotAFile",
    "socket.csv": "NotAFile",
    "disk.csv": "NotAFile",
    "terminal.csv": "NotAFile",
    "\ufffd\ufffd.csv": "BadName",
    "\ufffd[2J.csv": "BadName",
    "two\ufffdlines.csv": "BadName",
    "/".join(["d" * 250] * 5)[:1024]: "BadName",
    "/".join("e" * 65): "BadName",
}


@pytest.fixture
def secret(fleet: Fleet) -> Iterator[Path]:
    """A file of the device's that the agent could read, beside the folders of the pods."""
    file = fleet.device(DEVICE).root() / "var/lib/kubelet" / f"secret-{uuid4().hex}.csv"
    file.write_text(f"the secret is {uuid4().hex}\n")
    yield file
    file.unlink()


def plant(folder: Path, secret: Path) -> None:
    """Leave what only root can: device files, and another name of a file outside of the folder."""
    os.link(secret, folder / "secret.csv")
    os.mknod(folder / "disk.csv", 0o666 | stat.S_IFBLK, os.makedev(7, 0))
    os.mknod(folder / "terminal.csv", 0o666 | stat.S_IFCHR, os.makedev(5, 1))


def test_hostile_outputs_stay_and_the_good_ones_arrive(
    fleet: Fleet, namespace: str, secret: Path, figures: Figures
) -> None:
    """Each refused file is named with its reason, the app's limits hold, and nothing else of the device is read."""
    make_app(fleet, namespace, "hostile", HOSTILE, outputs={"maxFiles": MAX_FILES, "sizeLimit": "64Mi"})
    job = start(fleet, namespace, "hostile", "hostile", args=[secret.name], placement=pinned(DEVICE))
    job.until_phase("Running")
    folder = live_volume(fleet, DEVICE, job)
    wait_until((folder / "ready").exists, "the app has left its things", seconds=30)
    plant(folder, secret)
    (folder / "go").touch()
    status = job.until("Complete")
    kept = {name: (GOOD | MANY)[name] for name in sorted(GOOD | MANY)[:MAX_FILES]}
    too_many = dict.fromkeys((GOOD | MANY).keys() - kept.keys(), "TooMany")
    assert status["results"]["state"] == "Partial"
    assert status["results"]["refusedCount"] == len(REFUSED | too_many)
    with results(fleet, namespace) as reader:
        listing = reader.listing(namespace, "hostile")
        assert {file["name"]: file["reason"] for file in listing["refused"]} == REFUSED | too_many
        assert {file["name"]: file["sha256"] for file in listing["files"]} == {
            name: sha256(content).hexdigest() for name, content in kept.items()
        }
        for name, content in kept.items():
            assert reader.file(namespace, "hostile", name) == content
    home = usual_volume(fleet).kept(job)
    assert home
    assert not [file for file in home if secret.read_bytes() in file.read_bytes()]
    figures("hostile outputs: refused by name", len(REFUSED | too_many))
    Tally(len(kept), 0, 0, len(kept)).tell(figures, "hostile outputs")


BLOCKS: Final = 1000
BLOCK_BYTES: Final = 1_000_000
ONE_LARGE: Final = f"""
import os, pathlib, random
block = bytearray(random.Random(1).randbytes({BLOCK_BYTES}))
with pathlib.Path(os.environ["EDGEWISE_OUTPUTS"], "large.bin").open("wb") as file:
    for number in range({BLOCKS}):
        block[:8] = number.to_bytes(8)
        file.write(block)
"""
SMALL_FILES: Final = 10_000
MANY_SMALL: Final = f"""
import os, pathlib
folder = pathlib.Path(os.environ["EDGEWISE_OUTPUTS"])
for number in range({SMALL_FILES}):
    (folder / f"{{number:05}}.csv").write_text(f"number,square\\n{{number}},{{number**2}}\\n")
"""
AGENT_MIB: Final = 47.0
"""The aim is 40 MiB. A plan of 10,000 files takes some 6 MiB on top of an idle agent's 37 MiB (docs/agent.md)."""
GATEWAY_MIB: Final = 120.0
HOME_WITHIN_SECONDS: Final = 240.0


def _large() -> str:
    """The SHA-256 of what ONE_LARGE writes."""
    block, digest = bytearray(random.Random(1).randbytes(BLOCK_BYTES)), sha256()  # noqa: S311
    for number in range(BLOCKS):
        block[:8] = number.to_bytes(8)
        digest.update(block)
    return digest.hexdigest()


def test_a_gigabyte_and_ten_thousand_files(fleet: Fleet, namespace: str, figures: Figures) -> None:
    """At once from one device, with bounded memory on both sides."""
    outputs = {"include": ["*"], "sizeLimit": "1100M", "maxFiles": SMALL_FILES}
    make_app(fleet, namespace, "large", ONE_LARGE, outputs=outputs)
    make_app(fleet, namespace, "small", MANY_SMALL, outputs=outputs)
    [gateway] = edgewise_pods(fleet, "gateway")
    [agent] = [pod for pod in edgewise_pods(fleet, "agent") if pod["spec"]["nodeName"] == DEVICE]
    for pod in (gateway, agent):
        containers.forget_peaks(pod["metadata"]["uid"])
    restarts = _restarts(fleet)
    started_at = now()
    jobs = [start(fleet, namespace, name, name, placement=pinned(DEVICE)) for name in ("large", "small")]
    for job in jobs:
        job.until("Complete", HOME_WITHIN_SECONDS)
    took = (now() - started_at).total_seconds()
    assert _restarts(fleet) == restarts, "the peaks are those of all this time"
    peaks = {name: _peak_mib(pod) for name, pod in (("agent", agent), ("gateway", gateway))}
    with results(fleet, namespace) as reader:
        assert reader.sha256(namespace, "large", "large.bin") == _large()
        with tarfile.open(fileobj=io.BytesIO(reader.request(_archive(namespace, "small")).data)) as archive:
            home = {entry.name: archive.extractfile(entry) for entry in archive}
            assert {name: file.read() for name, file in home.items() if file is not None} == {
                f"{number:05}.csv": f"number,square\n{number},{number**2}\n".encode() for number in range(SMALL_FILES)
            }
    figures("1 GB in one file and 10,000 small ones, made and brought home", took, HOME_WITHIN_SECONDS, "s")
    figures("… peak memory of the device's agent, whose aim is 40 MiB", peaks["agent"], AGENT_MIB, "MiB")
    figures("… peak memory of the gateway", peaks["gateway"], GATEWAY_MIB, "MiB")
    Tally(SMALL_FILES + 1, 0, 0, len(home) + 1).tell(figures, "1 GB and 10,000 files")
    assert peaks["agent"] <= AGENT_MIB
    assert peaks["gateway"] <= GATEWAY_MIB


def _restarts(fleet: Fleet) -> int:
    pods = [pod for part in ("agent", "gateway") for pod in edgewise_pods(fleet, part)]
    return sum(one["restartCount"] for pod in pods for one in pod["status"]["containerStatuses"])


def _peak_mib(pod: dict[str, Any]) -> float:
    return containers.peak_rss_bytes(pod["metadata"]["uid"]) / MIB


def _archive(namespace: str, job: str) -> str:
    return f"/v1/namespaces/{namespace}/jobs/{job}/archive.tar"
