"""Requests to operator and gateway: token, CA, time-outs, and what each answer means."""

import asyncio
import socket
import zlib
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from edgewise_agent.backoff import Backoff
from edgewise_agent.settings import Settings
from edgewise_agent.uplink.connection import Connection, Unreachable
from edgewise_agent.uplink.gateway import Conflict, Deferred, Gateway, Refused, TooEarly, Unwanted, _encoded
from edgewise_agent.uplink.http import HttpUplink
from edgewise_agent.wire import (
    Beat,
    Benchmark,
    Metrics,
    PlannedFile,
    Spool,
    UploadPlan,
    VolumeReport,
    VolumeState,
    pack_beat,
    read_beat,
)
from hypothesis import given
from hypothesis import strategies as st
from msgspec import DecodeError, json, structs

from tests.agent.authority import Authority
from tests.agent.cluster import Cluster, Fault
from tests.agent.kubelet import JOB_UID, uid
from tests.agent.waiting import until

PLAN = UploadPlan(namespace="demo", job="faces", attempt=1, pod_name="faces-3f2a1-1", files=())


FILE = st.builds(
    PlannedFile,
    name=st.text(min_size=1, max_size=12),
    bytes_=st.integers(0, 2**53 - 1),
    sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
)


@given(
    st.lists(FILE, max_size=3),
    st.sampled_from([0, 1, 499, 500, 501, 1500]),
    st.text('":[]\\files,', min_size=1, max_size=30),
    st.lists(FILE, max_size=2),
)
def test_a_plan_in_blocks_is_the_plan(files: list[PlannedFile], more: int, job: str, logs: list[PlannedFile]) -> None:
    other = PlannedFile(name="x", bytes_=1, sha256="0" * 64)
    plan = UploadPlan(
        namespace='"files":[]', job=job, attempt=1, pod_name="p", files=(*files, *[other] * more), logs=tuple(logs)
    )
    assert b"".join(_encoded(plan)) == json.encode(plan)


def beat(sequence: int = 1) -> Beat:
    metrics = Metrics(cpu_free_percent=90, memory_available_percent=50, memory_free_bytes=1, disk_free_bytes=1)
    return Beat(
        node="edge-1",
        boot="b",
        sequence=sequence,
        sampled_at=datetime.now(UTC),
        interval_seconds=10,
        metrics=metrics,
        spool=Spool(bytes_=0, limit_bytes=1),
    )


@pytest.fixture
async def connection(reachable: Settings) -> AsyncIterator[Connection]:
    made = Connection(
        reachable.operator_url, ca_file=reachable.ca_file, token_file=reachable.token_file, read_seconds=5
    )
    yield made
    made.close()


def replaced(path: Path, content: bytes) -> None:
    """Replace a file as kubelet does in a projected volume: another file under the same name."""
    (path.parent / "new").write_bytes(content)
    (path.parent / "new").replace(path)


async def test_a_beat_and_its_answer(connection: Connection, cluster: Cluster) -> None:
    cluster.live_pods, cluster.running = (uid(1),), 2
    answer = await asyncio.to_thread(HttpUplink(connection).send, beat())
    assert (answer.live_pods, answer.running) == ((uid(1),), 2)
    assert cluster.beats[0].metrics.cpu_free_percent == 90


async def test_the_token_is_read_each_time(connection: Connection, cluster: Cluster, settings: Settings) -> None:
    uplink = HttpUplink(connection)
    await asyncio.to_thread(uplink.send, beat(1))
    cluster.token = "token-2"
    with pytest.raises(Unreachable, match="401 BadToken: the token is not accepted"):
        await asyncio.to_thread(uplink.send, beat(2))
    replaced(settings.token_file, b"token-2")
    await asyncio.to_thread(uplink.send, beat(3))
    assert cluster.tokens == {"token-1", "token-2"}
    settings.token_file.unlink()
    with pytest.raises(Unreachable, match=r"No such file or directory: '.*token'"):
        await asyncio.to_thread(uplink.send, beat(4))


async def test_a_session_stands_for_the_token(connection: Connection, cluster: Cluster) -> None:
    cluster.session = "first"
    uplink = HttpUplink(connection)
    for sequence in (1, 2, 3):
        await asyncio.to_thread(uplink.send, beat(sequence))
    assert cluster.shown == ["token", "session", "session"]


async def test_a_session_that_has_ended_costs_no_beat(connection: Connection, cluster: Cluster) -> None:
    cluster.session = "first"
    uplink = HttpUplink(connection)
    await asyncio.to_thread(uplink.send, beat(1))
    cluster.session = "second"  # another operator leads
    for sequence in (2, 3):
        await asyncio.to_thread(uplink.send, beat(sequence))
    assert cluster.shown == ["token", "session", "token", "session"]
    assert [one.sequence for one in cluster.beats] == [1, 2, 3]


async def test_an_operator_that_reads_no_packed_beats_gets_plain_ones(connection: Connection, cluster: Cluster) -> None:
    cluster.faults.append(Fault("POST", "/v1/beats", status=422))
    uplink = HttpUplink(connection)
    for sequence in (1, 2):
        await asyncio.to_thread(uplink.send, beat(sequence))
    assert [size < 200 for size in cluster.beat_sizes] == [False, False]
    assert [one.sequence for one in cluster.beats] == [1, 2]


def test_an_idle_beat_is_short() -> None:
    benchmark = Benchmark(events_per_second=11873.52, measured_at=datetime.now(UTC))
    idle = structs.replace(
        beat(8640),
        node="shop-0142",
        boot="5f0c1d2e3b4a59687766554433221100",
        metrics=Metrics(
            cpu_free_percent=97.31,
            memory_available_percent=81.72,
            memory_free_bytes=1_734_291_456,
            disk_free_bytes=23_482_941_440,
            celsius=47.3,
            cpus=4,
        ),
        spool=Spool(bytes_=0, limit_bytes=2**30),
        benchmark=benchmark,
        agent_version="0.1.0",
    )
    assert len(pack_beat(idle)) <= 190
    assert read_beat(pack_beat(idle)) == idle == read_beat(json.encode(idle))


@pytest.mark.parametrize("character", ["x", "\x01", "\N{GRINNING FACE}"])
def test_the_longest_beat_is_read(character: str) -> None:
    """As of a device whose thousand volumes all wait for a gateway that explains itself at length."""
    report = VolumeReport(
        pod_uid=f"{0:08}-0000-4000-8000-000000000001",
        job_uid=f"{0:08}-0000-4000-8000-000000000002",
        attempt=100_000,
        state=VolumeState.DISCARDED,
        bytes_=2**53 - 1,
        sent_bytes=2**53 - 1,
        message=character * 1024,
    )
    longest = structs.replace(beat(), volumes=(report,) * 1000, bundles=(f"{'n' * 63}/{'0' * 64}",) * 100)
    assert read_beat(pack_beat(longest)) == longest


def test_what_is_no_packed_beat_is_refused() -> None:
    whole = json.encode(beat())
    cut = pack_beat(beat())[:-1]
    other_dictionary = zlib.compress(whole)[:20]
    too_long = zlib.compress(b"{" + b" " * 2**24 + b"}")
    for body in (b"", b"nonsense", b"x", cut, other_dictionary, too_long):
        with pytest.raises(DecodeError):
            read_beat(body)


async def test_connections_are_kept(connection: Connection, cluster: Cluster) -> None:
    uplink = HttpUplink(connection)
    for sequence in range(1, 6):
        await asyncio.to_thread(uplink.send, beat(sequence))
    assert connection._pool is not None
    assert (connection._pool.num_requests, connection._pool.num_connections) == (5, 1)


async def test_closing_cuts_a_request_under_way(reachable: Settings, cluster: Cluster) -> None:
    connection = Connection(
        reachable.operator_url, ca_file=reachable.ca_file, token_file=reachable.token_file, read_seconds=60
    )
    cluster.silent = True
    async with asyncio.timeout(10):
        sending = asyncio.create_task(asyncio.to_thread(HttpUplink(connection).send, beat()))
        await until(lambda: cluster.requests, "the request to arrive")
        connection.close()
        with pytest.raises(Unreachable, match="failed"):
            await sending
    with pytest.raises(Unreachable, match="the agent stops"):
        await asyncio.to_thread(HttpUplink(connection).send, beat())


async def test_a_new_ca_is_trusted_without_restart(device: Path, settings: Settings, authority: Authority) -> None:
    other = Authority("edgewise-rotated")
    first, second = Cluster(), Cluster()
    async with first.serve(authority.server_context(device / "one")):
        port = int(first.url.rpartition(":")[2])
        connection = Connection(first.url, ca_file=settings.ca_file, token_file=settings.token_file, read_seconds=5)
        uplink = HttpUplink(connection)
        await asyncio.to_thread(uplink.send, beat())
    async with second.serve(other.server_context(device / "two"), port):
        with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
            await asyncio.to_thread(uplink.send, beat())
        replaced(settings.ca_file, authority.certificate + other.certificate)
        await asyncio.to_thread(uplink.send, beat())
        replaced(settings.ca_file, b"no certificate")
        with pytest.raises(Unreachable, match="failed"):
            await asyncio.to_thread(uplink.send, beat())
        replaced(settings.ca_file, other.certificate)
        await asyncio.to_thread(uplink.send, beat())
    connection.close()
    assert (len(first.beats), len(second.beats)) == (1, 2)


async def test_nobody_there_and_nobody_answering(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for url, seconds in (("https://127.0.0.1:1", 5.0), (f"https://127.0.0.1:{silent.getsockname()[1]}", 0.2)):
            connection = Connection(url, ca_file=settings.ca_file, token_file=settings.token_file, read_seconds=seconds)
            async with asyncio.timeout(20):
                with pytest.raises(Unreachable, match=f"POST {url}/v1/beats failed"):
                    await asyncio.to_thread(HttpUplink(connection).send, beat())
            connection.close()


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (Fault("POST", status=403), "403 Scripted: a scripted fault"),
        (Fault("POST", status=503, body=b"<html>busy</html>"), "503 Service Unavailable"),
        (Fault("POST", status=200, body=b"<html>a captive portal</html>"), "not one of an operator"),
        (Fault("POST", status=200, body=b"{}"), "not one of an operator"),
        (Fault("POST", status=302, body=b""), "302 Found"),
        (Fault("POST"), "failed"),
    ],
)
async def test_beats_that_fail(connection: Connection, cluster: Cluster, fault: Fault, told: str) -> None:
    cluster.faults.append(fault)
    with pytest.raises(Unreachable, match=told):
        await asyncio.to_thread(HttpUplink(connection).send, beat())
    await asyncio.to_thread(HttpUplink(connection).send, beat())


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        (400, Unreachable),
        (401, Unreachable),
        (403, Refused),
        (404, Unreachable),
        (409, Conflict),
        (410, Unwanted),
        (422, Refused),
        (425, TooEarly),
        (429, Unreachable),
        (500, Unreachable),
        (507, Unreachable),
    ],
)
async def test_what_the_gateways_answers_mean(
    connection: Connection, cluster: Cluster, status: int, meaning: type[Exception]
) -> None:
    gateway = Gateway(connection)
    for method, call in (
        ("PUT", lambda: gateway.put_plan(JOB_UID, uid(1), PLAN)),
        ("PATCH", lambda: gateway.patch(JOB_UID, uid(1), "0" * 64, 0, 1, [b"x"])),
        ("POST", lambda: gateway.complete(JOB_UID, uid(1), PLAN)),
    ):
        cluster.faults.append(Fault(method, status=status))
        with pytest.raises(meaning, match=f"{status} Scripted: a scripted fault"):
            await asyncio.to_thread(call)
    assert cluster.faults == []


@pytest.mark.parametrize(("files", "meaning"), [(1, False), (12_000, True)])
async def test_a_long_plan_without_an_answer_may_have_waited_for_its_turn(
    connection: Connection, cluster: Cluster, files: int, meaning: bool
) -> None:
    """Other volumes go on meanwhile; without an answer to a short one the gateway is left alone for a while."""
    plan = structs.replace(
        PLAN, files=tuple(PlannedFile(name=f"{number}.csv", bytes_=1, sha256="0" * 64) for number in range(files))
    )
    cluster.faults.append(Fault("PUT"))
    with pytest.raises(Unreachable) as caught:
        await asyncio.to_thread(Gateway(connection).put_plan, JOB_UID, uid(1), plan)
    assert isinstance(caught.value, Deferred) is meaning


async def test_a_manifest_of_something_else_is_no_acknowledgement(connection: Connection, cluster: Cluster) -> None:
    gateway = Gateway(connection)
    await asyncio.to_thread(gateway.put_plan, JOB_UID, uid(1), PLAN)
    manifest = await asyncio.to_thread(gateway.complete, JOB_UID, uid(1), PLAN)
    assert manifest.pod_uid == uid(1)
    await asyncio.to_thread(gateway.put_plan, JOB_UID, uid(2), PLAN)
    other = cluster.uploads[f"{JOB_UID}/{uid(1)}"].manifest
    cluster.faults.append(Fault("POST", status=200, body=json.encode(other)))
    with pytest.raises(Unreachable, match="the manifest is not that of the files sent"):
        await asyncio.to_thread(gateway.complete, JOB_UID, uid(2), PLAN)


async def test_errors_of_a_body_come_through(connection: Connection, cluster: Cluster) -> None:
    class Broken(RuntimeError):
        pass

    def body() -> Iterator[bytes]:
        yield b"x"
        raise Broken

    await asyncio.to_thread(Gateway(connection).put_plan, JOB_UID, uid(1), PLAN)
    with pytest.raises(Broken):
        await asyncio.to_thread(Gateway(connection).patch, JOB_UID, uid(1), "0" * 64, 0, 10, body())


@given(first=st.floats(0.1, 5), most=st.floats(5, 600), failures=st.integers(1, 200))
def test_backoff_grows_within_bounds_and_starts_again(first: float, most: float, failures: int) -> None:
    backoff = Backoff(first, most)
    waits = [backoff.failed() for _ in range(failures)]
    for number, wait in enumerate(waits):
        longest = min(most, first * 2**number)
        assert longest / 2 <= wait <= longest
    backoff.succeeded()
    assert backoff.failed() <= first
