"""What agents, operator and gateway say to each other, as msgspec structs.

This module owns the names and bounds of the wire; it imports nothing of the agent, so that the operator and the
gateway may import it too. All bodies are JSON with camelCase names; unknown fields are ignored, so that an older
side understands a newer one. Every request carries `Authorization: Bearer <token>` with a projected ServiceAccount
token of audience `AUDIENCE`.

Beats, agent to operator::

    POST {operator}/v1/beats                      Beat -> 200 BeatAnswer | 401 | 403 | 422 Problem

They are the traffic of an idle device, so they are short. The body may be packed (`pack_beat`). The answer to a token
names a `session`, which stands for the token for `SESSION` as `Cookie: s=<session>`; after a 401 the token goes again.

Uploads, agent to gateway. Content is addressed by its SHA-256, so two files with the same bytes travel once::

    PUT   {gateway}/v1/uploads/{jobUID}/{podUID}                  UploadPlan -> 200 UploadStatus
    PATCH {gateway}/v1/uploads/{jobUID}/{podUID}/blobs/{sha256}   bytes, header Upload-Offset -> 200 BlobStatus
    POST  {gateway}/v1/uploads/{jobUID}/{podUID}/complete         -> 200 Manifest, after fsync of file and folder
    GET   {gateway}/v1/uploads/{jobUID}/{podUID}                  -> 200 UploadStatus, complete; 425 not complete here

After the manifest the agent keeps its copy until a GET says `settled`; on a 425 it begins again, since the gateway's
volume was put back to an older state.

Every other answer is a `Problem`: 403 not this agent's pod, 409 wrong offset (the body is a `BlobStatus` with the
right one) or bytes missing, 410 the job is gone (discard), 415 a Content-Encoding that the gateway does not know, 422 a
body that breaks a rule, 425 the attempt is not in the job's status yet (try again), 507 the results volume is full (try
again later).

The body of a PATCH may have `Content-Encoding: gzip`, one member a request; offsets count the bytes of the blob. Any
part of it that arrives may be kept. After a 415 the agent sends the same bytes as they are.

Bundles, gateway to agent: the apps' own files, as one tar that is content-addressed, too::

    GET   {gateway}/v1/namespaces/{namespace}/bundles/sha256:{sha256}   Range, If-Match -> 206 | 404 | 412 | 416

Manifests, gateway to operator. The gateway repeats itself until the verdict is final::

    POST {operator}/v1/manifests                  Manifest -> 200 ManifestVerdict
"""

import zlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import Enum
from typing import Annotated, Final

from msgspec import DecodeError, Meta, Struct, convert, json, to_builtins

AUDIENCE: Final = "edgewise"
"""The audience of the tokens that agents and gateway show."""

CSI_DRIVER: Final = "outputs.edgewise.dev"
"""The name of the CSI driver that serves output volumes."""

SESSION: Final = timedelta(minutes=10)
"""How long a session stands for the token that it was given for. It ends with the operator's process, too."""

SESSION_COOKIE: Final = "s"

OFFSET_HEADER: Final = "Upload-Offset"
"""The request header of a PATCH: the position in the blob, in bytes, of the body's first byte."""

Percent = Annotated[float, Meta(ge=0, le=100)]
Bytes = Annotated[int, Meta(ge=0, le=2**53 - 1)]
"""At most what every JSON reader holds exactly."""
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
ShortName = Annotated[str, Meta(min_length=1, max_length=253)]
Message = Annotated[str, Meta(max_length=1024)]
UID = Annotated[str, Meta(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")]
SHA256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
HeldBundle = Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,63}/[0-9a-f]{64}$")]
"""A bundle by the namespace that it is of and its SHA-256."""
FileName = Annotated[str, Meta(min_length=1, max_length=1024)]
"""A file's path relative to the output folder, with `/` between parts; never absolute, without `.` and `..` parts."""


class Metrics(Struct, frozen=True, kw_only=True, rename="camel"):
    """What the device measured of itself, at the beat's `sampled_at`.

    `cpu_free_percent` is the mean since the previous beat over all of the device's CPUs; `celsius` is the hottest
    thermal zone, None where the device has none that can be read (unknown, not 0). `cpus` is how many it has.
    """

    cpu_free_percent: Percent
    memory_available_percent: Percent
    memory_free_bytes: Bytes
    disk_free_bytes: Bytes
    celsius: Annotated[float, Meta(ge=-100, le=250)] | None = None
    cpus: Annotated[int, Meta(ge=1, le=4096)] = 1


class Benchmark(Struct, frozen=True, kw_only=True, rename="camel"):
    """The last `sysbench cpu` result of one thread, in events per second, and when it was measured (device's clock)."""

    events_per_second: Annotated[float, Meta(ge=0, le=1e7)]
    measured_at: Annotated[datetime, Meta(tz=True)]


class VolumeState(Enum):
    """Where an output volume is on its way home."""

    LIVE = "Live"
    """mounted into a pod"""
    SPOOLED = "Spooled"
    """the pod has ended; waiting to be sent"""
    SENDING = "Sending"
    DONE = "Done"
    """the gateway has acknowledged the manifest; the device may hold its copy for a while yet"""
    DISCARDED = "Discarded"
    """its job is gone, so nobody wants it any more"""
    FAILED = "Failed"
    """the gateway refused it for good; `message` says why, the files stay in the spool"""


class VolumeReport(Struct, frozen=True, kw_only=True, rename="camel"):
    """One output volume that the device holds, or has finished within the last hour.

    The logs of a pod without output volume are reported alike, from when they are copied until the pod is gone.
    """

    pod_uid: UID
    job_uid: UID
    attempt: Annotated[int, Meta(ge=1, le=100_000)]
    state: VolumeState
    bytes_: Bytes = 0
    """size of the files in it"""
    sent_bytes: Bytes = 0
    over_limit: bool = False
    """a live volume that is over its size limit; `message` says what the app is to change"""
    no_room: bool = False
    """a live volume on a device under its free-space floor: whatever writes there has to go, and is not to blame"""
    message: Message = ""
    last_file_seconds: Annotated[float, Meta(ge=0)] | None = None
    """how long ago a file of it last came home; None: none has, as far as this agent's process knows"""


class Spool(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """How full the device's spool of unsent results is. At `bytes_` >= `limit_bytes` no new volume is handed out.

    `full` says why none is, that or a disk under its free-space floor; empty while new volumes are handed out.
    """

    bytes_: Bytes
    limit_bytes: Bytes
    full: Message = ""


class Beat(Struct, frozen=True, kw_only=True, rename="camel"):
    """One report of a device. `sequence` counts up from 1 within one `boot` (a random id of the agent's process)."""

    node: ShortName
    boot: Annotated[str, Meta(min_length=1, max_length=64)]
    sequence: Annotated[int, Meta(ge=1)]
    sampled_at: Annotated[datetime, Meta(tz=True)]
    interval_seconds: Annotated[float, Meta(ge=0.5, le=3600)]
    metrics: Metrics
    spool: Spool
    benchmark: Benchmark | None = None
    volumes: Annotated[tuple[VolumeReport, ...], Meta(max_length=1000)] = ()
    agent_version: Annotated[str, Meta(max_length=64)] = ""
    bundles: Annotated[tuple[HeldBundle, ...], Meta(max_length=100)] = ()
    """Bundles that the device holds: jobs that need them start without the gateway."""


class LoggedPod(Struct, frozen=True, kw_only=True, rename="camel"):
    """A job's pod without output volume, whose logs are to come home all the same. `ended`: its containers have."""

    namespace: ShortName
    pod_name: ShortName
    pod_uid: UID
    job: ShortName
    job_uid: UID
    attempt: Annotated[int, Meta(ge=1, le=100_000)]
    ended: bool = False


class BeatAnswer(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The operator's answer: its clock, and the UIDs of the pods that live on the device (for the volume journal).

    `live_pods` is None while the operator does not know (it has just started); the agent then changes nothing.
    `running` is the number of job pods that the operator has bound to the device, so that the benchmark can wait.
    `logs_of` are the device's pods without output volume that the beat has not reported as volumes: their logs are
    wanted. None while the operator does not know.
    `session` is given in answer to a token.
    """

    received_at: Annotated[datetime, Meta(tz=True)]
    live_pods: tuple[UID, ...] | None = None
    running: Count = 0
    logs_of: tuple[LoggedPod, ...] | None = None
    session: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{0,64}$")] = ""


_MOST_BEAT_BYTES: Final = 2**23
"""More than the longest beat: 1,000 volumes, each with a message of 1,024 characters that JSON may write as six bytes
each, and 100 bundles."""

_USUAL_BEAT: Final = (
    b'{"node":"edge-1","boot":"0123456789abcdef0123456789abcdef","sequence":1000,'
    b'"sampledAt":"2026-01-01T00:00:00.000000Z","intervalSeconds":10.0,"metrics":{"cpuFreePercent":95.0,'
    b'"memoryAvailablePercent":80.0,"memoryFreeBytes":1000000000,"diskFreeBytes":10000000000,"celsius":45.0,'
    b'"cpus":4},"spool":{"bytes":0,"limitBytes":1073741824},"benchmark":{"eventsPerSecond":1000.0,'
    b'"measuredAt":"2026-01-01T00:00:00.000000Z"},"volumes":[],"agentVersion":"0.1.0","bundles":[]}'
)
"""What zlib's dictionary is: a beat like most. Both sides must have the very same bytes, so it never changes."""


def pack_beat(beat: Beat) -> bytes:
    """A beat as a zlib stream (RFC 1950) with the usual beat for its dictionary: some 130 bytes when idle, not 600."""
    packer = zlib.compressobj(level=9, zdict=_USUAL_BEAT)
    return packer.compress(json.encode(beat)) + packer.flush()


def is_plain(body: bytes) -> bool:
    """Whether a body is JSON as it is, not packed."""
    return body.startswith(b"{")


def read_beat(body: bytes) -> Beat:
    """The beat of a request's body, packed or plain JSON. Raises msgspec's `DecodeError`, and `UnicodeDecodeError`."""
    if is_plain(body):
        return json.decode(body, type=Beat)
    unpacker = zlib.decompressobj(zdict=_USUAL_BEAT)
    try:
        plain = unpacker.decompress(body, _MOST_BEAT_BYTES)
    except zlib.error as error:
        raise DecodeError(f"neither JSON nor a zlib stream with the usual dictionary: {error}") from error
    if not unpacker.eof:
        raise DecodeError(f"a packed beat is not whole, or longer than {_MOST_BEAT_BYTES} bytes")
    return json.decode(plain, type=Beat)


class PlannedFile(Struct, frozen=True, kw_only=True, gc=False, rename="camel"):
    """A file that the agent will send."""

    name: FileName
    bytes_: Bytes
    sha256: SHA256


class RefusedFile(Struct, frozen=True, kw_only=True, rename="camel"):
    """A file not sent, and why: Symlink, HardLink, NotAFile, BadName, TooMany, TooLarge, Changed, Unreadable."""

    name: Annotated[str, Meta(max_length=1024)]
    reason: Annotated[str, Meta(pattern="^[A-Z][A-Za-z]{0,63}$")]
    message: Message = ""


class UploadPlan(Struct, frozen=True, kw_only=True, rename="camel"):
    """Everything that one attempt's volume holds, said before the first byte is sent.

    Files are unique by name. `refused` names at most 100 files, `refused_count` counts them all; `skipped` counts the
    files that the app's `include` patterns leave out. `logs` are what the attempt's containers said, as kubelet kept it
    (`<container>/<restart>.log`); they are no results and count against no limit of the app.
    """

    namespace: ShortName
    job: ShortName
    attempt: Annotated[int, Meta(ge=1, le=100_000)]
    pod_name: ShortName
    files: Annotated[tuple[PlannedFile, ...], Meta(max_length=100_000)]
    logs: Annotated[tuple[PlannedFile, ...], Meta(max_length=16)] = ()
    refused: Annotated[tuple[RefusedFile, ...], Meta(max_length=100)] = ()
    refused_count: Count = 0
    skipped: Count = 0
    ahead: bool = False
    """whether the pod still runs: such a plan replaces no plan of the whole, and can't be completed"""
    logs_only: bool = False
    """whether the pod had no output volume: there are no files, and nobody waits for the logs"""


class BlobStatus(Struct, frozen=True, kw_only=True, gc=False, rename="camel"):
    """How much of one blob the gateway holds safely. The next byte to send is at `offset`."""

    sha256: SHA256
    offset: Bytes


class UploadStatus(Struct, frozen=True, kw_only=True, rename="camel"):
    """What is still to send: every blob of the plan whose offset is short of its size. `complete`: all is done.

    `settled`: the operator's final verdict is kept here, too, so the device need not keep its copy. Only a GET says so.
    """

    missing: tuple[BlobStatus, ...]
    complete: bool = False
    settled: bool = False


class ResultFile(Struct, frozen=True, kw_only=True, gc=False, rename="camel"):
    """A file as it was stored. `rows` counts a CSV's records after its header; None for other files."""

    name: FileName
    bytes_: Bytes
    sha256: SHA256
    rows: Annotated[int, Meta(ge=0)] | None = None


class Manifest(Struct, frozen=True, kw_only=True, rename="camel"):
    """The finished, verified results of one attempt, as stored by the gateway."""

    namespace: ShortName
    job: ShortName
    job_uid: UID
    pod_uid: UID
    attempt: Annotated[int, Meta(ge=1, le=100_000)]
    node: ShortName
    completed_at: Annotated[datetime, Meta(tz=True)]
    files: Annotated[tuple[ResultFile, ...], Meta(max_length=100_000)]
    logs: Annotated[tuple[ResultFile, ...], Meta(max_length=16)] = ()
    refused: Annotated[tuple[RefusedFile, ...], Meta(max_length=100)] = ()
    refused_count: Count = 0
    skipped: Count = 0
    logs_only: bool = False
    """logs of a pod without output volume: never a job's results"""


class Verdict(Enum):
    """What the operator makes of a manifest."""

    PENDING = "Pending"
    """not decided or not written to the job's status yet: ask again"""
    PUBLISHED = "Published"
    """these are the job's results"""
    SUPERSEDED = "Superseded"
    """another attempt's results are published: keep these aside, under their attempt"""
    GONE = "Gone"
    """the job was deleted"""


class ManifestVerdict(Struct, frozen=True, kw_only=True, rename="camel"):
    """The operator's answer to a manifest; every verdict but Pending is final."""

    verdict: Verdict


class Problem(Struct, frozen=True, kw_only=True, rename="camel"):
    """Why a request was refused. `detail` names the object, what was wrong and what to do."""

    reason: Annotated[str, Meta(pattern="^[A-Z][A-Za-z]{0,63}$")]
    detail: Annotated[str, Meta(max_length=4096)]


class OutputVolume(Struct, frozen=True, kw_only=True, rename="camel"):
    """What the operator asks of an output volume; travels as the CSI volume's attributes (`to_attributes`)."""

    job_uid: UID
    job: ShortName
    attempt: Annotated[int, Meta(ge=1, le=100_000)]
    include: Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=256)], ...], Meta(max_length=64)]
    max_files: Annotated[int, Meta(ge=0, le=100_000)]
    size_limit_bytes: Bytes
    collect: str = "AtEnd"

    def to_attributes(self) -> dict[str, str]:
        """The struct as CSI volume attributes: one string a field, `include` as a JSON list."""
        fields = to_builtins(self)
        return {**{name: str(value) for name, value in fields.items()}, "include": json.encode(self.include).decode()}

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, str]) -> "OutputVolume":
        """The inverse of `to_attributes`; attributes of other names are ignored.

        Raises `msgspec.ValidationError` (also for a missing attribute) or `msgspec.DecodeError`.
        """
        fields = dict(attributes)
        return convert({**fields, "include": json.decode(fields.get("include", "[]"))}, cls, strict=False)


BUNDLE_ATTRIBUTE: Final = "bundle"
"""The CSI volume attribute that asks for a bundle by its SHA-256, read-only; the pod's own namespace is meant."""
