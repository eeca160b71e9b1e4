"""The whole agent as a process: start, beats, kubelet, upload, stop, and being killed."""

import asyncio
import os
import re
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from edgewise_agent import __version__
from edgewise_agent.settings import Settings
from edgewise_agent.wire import Beat, LoggedPod, VolumeReport, VolumeState
from msgspec import structs

from tests.agent.bundling import APP, AppPod, tar_of
from tests.agent.cluster import NODE, Cluster, Fault
from tests.agent.conftest import HOSTS
from tests.agent.kubelet import JOB_UID, Pod, connected, outputs, register
from tests.agent.waiting import until

REPOSITORY = Path(__file__).parents[2]
RSS_LIMIT_MIB = 48
"""The aim is 40 MiB; what another build of Python takes more must not fail the test."""


@dataclass
class Running:
    """One process of the agent."""

    process: asyncio.subprocess.Process
    log: Path

    def rss_mib(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def peak_mib(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024

    def threads(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))

    def page(self, path: str) -> str:
        """One of the agent's two web pages; blocks."""
        (port,) = re.findall(r"probes and metrics on port (\d+)", self.log.read_text())[-1:]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
            content: bytes = response.read()
        return content.decode()

    async def end(self, number: signal.Signals) -> int:
        """Send the signal and wait for the exit status."""
        self.process.send_signal(number)
        async with asyncio.timeout(30):
            return await self.process.wait()


@dataclass
class Bench:
    """A device on which agents are started one after the other."""

    device: Path
    environment: dict[str, str]
    cluster: Cluster
    settings: Settings

    @asynccontextmanager
    async def agent(self, **changes: str) -> AsyncIterator[Running]:
        """A running agent, killed at the end if it still runs; a failing assertion shows its log."""
        log = self.device / "agent.log"
        environment = self.environment | {f"EDGEWISE_{name}": value for name, value in changes.items()}
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "edgewise_agent.main"), env=environment, stdout=output, stderr=output
            )
        running = Running(process, log)
        try:
            yield running
        except AssertionError as error:
            error.add_note(log.read_text()[-5000:])
            raise
        finally:
            if process.returncode is None:
                await running.end(signal.SIGKILL)

    async def serving(self) -> None:
        """Wait for the plugin's sockets."""
        await until(self.settings.registration_socket.exists, "the registration socket", 30)

    async def beat(self, condition: Callable[[Beat], bool], what: str) -> Beat:
        """The first beat from now on for which `condition` holds."""
        seen = len(self.cluster.beats)
        await until(lambda: any(condition(beat) for beat in self.cluster.beats[seen:]), what, 30)
        return next(beat for beat in self.cluster.beats[seen:] if condition(beat))

    async def volume(self, pod: Pod, state: VolumeState) -> VolumeReport:
        """What the next beat says of the pod's volume once it is in `state`."""

        def told(beat: Beat) -> list[VolumeReport]:
            return [volume for volume in beat.volumes if (volume.pod_uid, volume.state) == (pod.uid, state)]

        return told(await self.beat(lambda beat: bool(told(beat)), f"{pod.name} to be {state.value}"))[0]


@pytest.fixture
def bench(device: Path, reachable: Settings, cluster: Cluster) -> Bench:
    script = device / "bin/sysbench"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\necho '    events per second:  1187.02'\n")
    script.chmod(0o755)
    environment = {
        "PATH": f"{script.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY / "agent"),
        "MALLOC_ARENA_MAX": "2",
        "EDGEWISE_NODE_NAME": NODE,
        "EDGEWISE_OPERATOR_URL": cluster.url,
        "EDGEWISE_GATEWAY_URL": cluster.url,
        "EDGEWISE_CA_FILE": str(reachable.ca_file),
        "EDGEWISE_TOKEN_FILE": str(reachable.token_file),
        "EDGEWISE_BEAT_SECONDS": "1",
        "EDGEWISE_HOST_ROOT": str(HOSTS / "raspberry"),
        "EDGEWISE_KUBELET_ROOT": str(reachable.kubelet_root),
        "EDGEWISE_FREE_SPACE_FLOOR_BYTES": "0",
        "EDGEWISE_RECONCILE_SECONDS": "1",
        "EDGEWISE_MEASURE_SECONDS": "0.5",
        "EDGEWISE_HTTP_PORT": "0",
    }
    return Bench(device, environment, cluster, reachable)


async def test_beats_pages_and_an_orderly_end(bench: Bench) -> None:
    async with bench.agent(CLOCK_OFFSET_SECONDS="7200") as agent:
        first = await bench.beat(lambda _: True, "the first beat")
        assert (first.node, first.sequence, first.agent_version) == (NODE, 1, __version__)
        assert first.metrics.celsius == 61.322
        assert timedelta(minutes=119) < first.sampled_at - datetime.now(UTC) < timedelta(minutes=121)
        assert first.spool.limit_bytes == 2 * 2**30
        second = await bench.beat(lambda beat: beat.sequence > 1, "the second beat")
        assert (second.boot, second.volumes) == (first.boot, ())

        measured = await bench.beat(lambda beat: beat.benchmark is not None, "a benchmark, as the device is idle")
        assert measured.benchmark is not None
        assert measured.benchmark.events_per_second == 1187.02

        assert await asyncio.to_thread(agent.page, "/healthz") == "ok\n"
        page = await asyncio.to_thread(agent.page, "/metrics")
        assert "edgewise_agent_celsius 61.322" in page
        assert 'edgewise_agent_volumes{state="Live"} 0.0' in page
        assert "edgewise_agent_benchmark_events_per_second 1187.02" in page
        assert "edgewise_agent_registered 0.0" in page
        await register(bench.settings)
        assert "edgewise_agent_registered 1.0" in await asyncio.to_thread(agent.page, "/metrics")
        assert await agent.end(signal.SIGTERM) == 0
    assert not bench.settings.registration_socket.exists()
    assert not bench.settings.plugin_socket.exists()
    assert "Traceback" not in agent.log.read_text()


async def test_results_go_home_as_soon_as_a_beat_does(bench: Bench) -> None:
    """After a long cut the gateway would be tried a minute later at worst, the operator within a beat."""
    pod = Pod(bench.settings.kubelet_root)
    async with bench.agent() as agent, connected(bench.settings) as kubelet:
        await bench.serving()
        await bench.beat(lambda _: True, "the first beat")
        bench.cluster.faults += [Fault(method) for _ in range(200) for method in ("PUT", "POST")]
        await kubelet.publish(pod)
        pod.write(faces_csv="photo,x\n1,2\n")
        await kubelet.unpublish(pod)

        def waits() -> list[float]:
            found = re.findall(r"results can't be sent now, trying again in ([0-9.]+) s", agent.log.read_text())
            return [float(seconds) for seconds in found]

        await until(lambda: waits() and waits()[-1] >= 8, "the waits to grow", 60)
        bench.cluster.faults.clear()
        back_at = time.monotonic()
        await bench.volume(pod, VolumeState.DONE)
        assert time.monotonic() - back_at < waits()[-1] / 2, "no try was due by itself yet"


async def test_a_pods_results_come_home(bench: Bench) -> None:
    pod = Pod(bench.settings.kubelet_root)
    async with bench.agent(BEAT_SECONDS="60") as agent, connected(bench.settings) as kubelet:
        await bench.serving()
        await bench.beat(lambda _: True, "the first beat")
        await kubelet.publish(pod)
        await bench.volume(pod, VolumeState.LIVE)
        pod.write(faces_csv="photo,x\n1,2\n")
        await kubelet.unpublish(pod)
        pod.clean()
        done = await bench.volume(pod, VolumeState.DONE)
        assert (done.job_uid, done.attempt, done.bytes_, done.sent_bytes) == (JOB_UID, 1, 12, 12)
        assert bench.cluster.uploads[f"{JOB_UID}/{pod.uid}"].files() == {"faces.csv": b"photo,x\n1,2\n"}
        assert await agent.end(signal.SIGTERM) == 0


async def test_logs_of_a_pod_without_volume_come_home(bench: Bench, device: Path) -> None:
    """Kubelet never calls for such a pod: what the operator's answer names is enough, also over a restart."""
    pod, logs = Pod(bench.settings.kubelet_root), device / "logs"
    named = LoggedPod(namespace="demo", pod_name=pod.name, pod_uid=pod.uid, job="faces", job_uid=JOB_UID, attempt=1)
    bench.cluster.logs_of = (named,)
    pod.say(logs, "working\n")
    async with bench.agent(POD_LOGS=str(logs)) as agent:
        first = await bench.beat(lambda beat: beat.sequence > 1, "a beat after the pod was named")
        assert first.volumes == ()
        await agent.end(signal.SIGKILL)
    pod.say(logs, "done\n")
    bench.cluster.logs_of = (structs.replace(named, ended=True),)
    async with bench.agent(POD_LOGS=str(logs)) as agent:
        done = await bench.volume(pod, VolumeState.DONE)
        assert (done.job_uid, done.attempt, done.bytes_) == (JOB_UID, 1, 13)
        assert await agent.end(signal.SIGTERM) == 0
    upload = bench.cluster.uploads[f"{JOB_UID}/{pod.uid}"]
    assert (upload.files(), upload.logs()) == ({}, {"app/0.log": b"working\ndone\n"})
    assert upload.manifest is not None
    assert upload.manifest.logs_only


async def test_memory_stays_small(bench: Bench) -> None:
    """All parts in use at once: beats, kubelet, an upload of 32 MiB, metrics, a benchmark."""
    pod = Pod(bench.settings.kubelet_root)
    async with bench.agent() as agent, connected(bench.settings) as kubelet:
        await bench.serving()
        await kubelet.publish(pod)
        (pod.target / "big.csv").write_bytes(os.urandom(32 * 2**20))
        await kubelet.unpublish(pod)
        await bench.volume(pod, VolumeState.DONE)
        await bench.beat(lambda beat: beat.benchmark is not None, "a benchmark")
        await asyncio.to_thread(agent.page, "/metrics")
        print(f"agent: {agent.rss_mib():.1f} MiB RSS, {agent.threads()} threads")
        assert agent.rss_mib() < RSS_LIMIT_MIB


async def test_a_million_files_cost_no_more_memory(bench: Bench) -> None:
    """Of an app that may have 1,000: those come home, the others are counted, 100 of them by name."""
    pod = Pod(bench.settings.kubelet_root)
    async with bench.agent() as agent, connected(bench.settings) as kubelet:
        await bench.serving()
        await kubelet.publish(pod)
        folder = os.open(pod.target, os.O_RDONLY)
        for number in range(1_000_000):
            os.mknod(f"{number:06}.csv", dir_fd=folder)
        os.close(folder)
        await kubelet.unpublish(pod)
        await until(lambda: bench.cluster.completed_order, "the files to come home", 120)
        print(f"agent: {agent.peak_mib():.1f} MiB RSS at its peak")
        assert agent.peak_mib() < RSS_LIMIT_MIB
    manifest = bench.cluster.uploads[f"{JOB_UID}/{pod.uid}"].manifest
    assert manifest is not None
    assert [file.name for file in manifest.files] == [f"{number:06}.csv" for number in range(1000)]
    assert (len(manifest.refused), manifest.refused_count) == (100, 999_000)
    assert {file.reason for file in manifest.refused} == {"TooMany"}


async def test_killed_while_sending(bench: Bench) -> None:
    pod, content = Pod(bench.settings.kubelet_root), os.urandom(9 * 2**20)
    async with bench.agent() as agent, connected(bench.settings) as kubelet:
        await bench.serving()
        bench.cluster.faults += [Fault("PATCH", keep_bytes=3_000_000), Fault("PATCH", status=503)]
        await kubelet.publish(pod)
        (pod.target / "big.csv").write_bytes(content)
        await kubelet.unpublish(pod)
        await until(lambda: not bench.cluster.faults, "the upload to be cut")
        await agent.end(signal.SIGKILL)
    async with bench.agent():
        await bench.volume(pod, VolumeState.DONE)
    assert bench.cluster.uploads[f"{JOB_UID}/{pod.uid}"].files() == {"big.csv": content}
    assert sum(length for _, length in bench.cluster.patched) <= len(content) - 3_000_000


async def test_killed_while_the_pod_ran_and_left_behind_by_kubelet(bench: Bench) -> None:
    """A power cut: agent and kubelet die, kubelet's record is empty afterwards, and the pod is gone from the API."""
    pod = Pod(bench.settings.kubelet_root)
    async with bench.agent() as agent, connected(bench.settings) as kubelet:
        await bench.serving()
        await kubelet.publish(pod)
        pod.write(faces_csv="photo,x\n")
        await agent.end(signal.SIGKILL)
    pod.record.write_bytes(b"")
    async with bench.agent():
        await bench.volume(pod, VolumeState.LIVE)
        await until(lambda: pod.record.read_bytes() != b"", "kubelet's record to be restored")
        bench.cluster.live_pods = ()
        await bench.volume(pod, VolumeState.DONE)
    assert bench.cluster.uploads[f"{JOB_UID}/{pod.uid}"].files() == {"faces.csv": b"photo,x\n"}
    assert not pod.volume_dir.exists()


async def test_a_volume_over_its_limit_is_told(bench: Bench) -> None:
    pod = Pod(bench.settings.kubelet_root, asked=outputs(size_limit_bytes=10))
    async with bench.agent(), connected(bench.settings) as kubelet:
        await bench.serving()
        await kubelet.publish(pod)
        pod.write(a_csv="x" * 11)
        told = await bench.beat(lambda beat: any(volume.over_limit for volume in beat.volumes), "the limit to be told")
        assert "11 bytes written, sizeLimit is 10" in told.volumes[0].message


async def test_kubelet_is_served_while_nobody_else_answers(bench: Bench) -> None:
    """Connections that are taken but never answered hold threads, not kubelet."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        async with (
            bench.agent(OPERATOR_URL=url, GATEWAY_URL=url) as agent,
            connected(bench.settings) as kubelet,
        ):
            await bench.serving()
            for number in range(1, 6):
                started = time.monotonic()
                await kubelet.run(Pod(bench.settings.kubelet_root, number), a_csv="1")
                assert time.monotonic() - started < 8, "kubelet waited for the network"
            assert await asyncio.to_thread(agent.page, "/healthz") == "ok\n"


async def test_wrong_settings_and_hosts_end_at_once(bench: Bench) -> None:
    for changes, told in (
        ({"BEAT_SECONDS": "never", "HTTP_PORT": "-1"}, "EDGEWISE_BEAT_SECONDS is 'never': must be a number"),
        ({"HOST_ROOT": "/nowhere"}, "the host's figures below /nowhere/proc can't be read"),
    ):
        async with bench.agent(**changes) as agent, asyncio.timeout(30):
            assert await agent.process.wait() == 2
        assert told in agent.log.read_text()
    assert "EDGEWISE_HTTP_PORT is '-1'" in agent.log.read_text()
    assert "Traceback" not in agent.log.read_text()


async def test_a_killed_agent_still_holds_its_bundles_and_beats_tell_them(bench: Bench) -> None:
    sha256, tar = tar_of(APP)
    bench.cluster.bundles["demo", sha256] = tar
    first, second = (AppPod(bench.settings.kubelet_root, number, sha256=sha256) for number in (1, 2))
    async with bench.agent() as agent:
        await bench.serving()
        assert (await bench.beat(lambda _: True, "the first beat")).bundles == ()
        async with connected(bench.settings) as kubelet:
            await kubelet.publish(first)
        await bench.beat(lambda beat: beat.bundles == (f"demo/{sha256}",), "the bundle in a beat")
        await agent.end(signal.SIGKILL)
    bench.settings.registration_socket.unlink()
    async with bench.agent(GATEWAY_URL="https://127.0.0.1:1"):
        await bench.serving()
        async with connected(bench.settings) as kubelet:
            await kubelet.publish(second)
            await kubelet.unpublish(first)
        assert second.files() == APP
        beat = await bench.beat(
            lambda beat: beat.bundles == (f"demo/{sha256}",), "the bundle in a beat of the new agent"
        )
        assert beat.volumes == ()
