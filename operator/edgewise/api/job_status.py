"""The status of an EdgeJob: its attempts, why it is where it is, and its results.

Owns the shape of what the operator writes; domain/ decides what is written.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from edgewise.api.conditions import Conditions, ObservedGeneration
from edgewise.api.schema import LARGEST_INTEGER, Model, keyed_by, unique
from edgewise.api.score import Factors, Score
from edgewise.api.text import UID, Message, ObjectName, OptionalObjectName, Reason, Sha256, Timestamp

Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
ByteCount = Annotated[int, Field(ge=0, le=LARGEST_INTEGER)]
AttemptNumber = Annotated[int, Field(ge=1, le=100_000)]
FileName = Annotated[str, Field(min_length=1, max_length=1024)]

LONGEST_EXPECTED_SECONDS = 31_536_000
ExpectedSeconds = Annotated[int, Field(ge=0, le=LONGEST_EXPECTED_SECONDS)]

ATTEMPTS_KEPT = 100
"""How many attempts a status holds; the oldest leave first."""
CANDIDATES_KEPT = 20
"""How many devices, of those that could run the job and of those that could not, a status holds."""
FILES_KEPT = 100
"""How many result files a status lists; the gateway lists them all."""
DEVICES_KEPT = 20
"""How many devices on which a run of a set has failed a status names."""

_RANGE = "[0-9]{1,3}(-[0-9]{1,3})?"
IndexRanges = Annotated[str, Field(max_length=2048, pattern=f"^({_RANGE}(,{_RANGE})*)?$")]
"""Indexes in order, runs of them by their first and last; 2,048 characters hold any of a thousand."""

REFUSED_KEPT = 20
"""How many refused files a status lists."""


class Phase(StrEnum):
    """Where the job is, in one word for people. Programs read the conditions."""

    PENDING = "Pending"
    """no device has been chosen yet"""
    BOUND = "Bound"
    """a device has been chosen; its pod does not run yet"""
    RUNNING = "Running"
    COLLECTING = "Collecting"
    """the app has succeeded; its results are on their way"""
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    SUSPENDED = "Suspended"
    CANCELLED = "Cancelled"


class Outcome(StrEnum):
    """How an attempt ended, if it has."""

    STARTING = "Starting"
    """its pod exists, the app does not run yet"""
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    """by the app's own fault: counts against maxAttempts"""
    DISRUPTED = "Disrupted"
    """by no fault of the app's: evicted, too hot, no room, rebooted; counts against maxDisruptions"""
    LOST = "Lost"
    """its device is gone and may come back with results; counts against maxDisruptions"""
    SUPERSEDED = "Superseded"
    """another attempt's results came home first"""
    CANCELLED = "Cancelled"


class Attempt(Model):
    """One try: one pod on one device."""

    number: AttemptNumber
    """Counts all attempts from 1, whatever their outcome."""
    node: ObjectName
    """The device."""
    pod_name: ObjectName
    """The pod."""
    pod_uid: Annotated[str, Field(max_length=64, pattern="^[-a-zA-Z0-9]*$")] = ""
    """The pod's UID; empty until the pod exists."""
    started_at: Timestamp | None = None
    """When the app started."""
    finished_at: Timestamp | None = None
    """When it ended."""
    outcome: Outcome = Outcome.STARTING
    """How it ended, if it has."""
    exit_code: Annotated[int, Field(ge=-1, le=255)] | None = None
    """The app's exit code."""
    reason: Reason = ""
    """Why, in one word: AppError, OutOfMemory, DeadlineExceeded, ImageError, OutputsTooLarge, NoOutputs, NodeLost, …"""
    message: Message = ""
    """Why, in a sentence that says what to do."""


class Candidate(Model):
    """A device that could have run the job."""

    node: ObjectName
    """The device."""
    score: Score
    """Its score, with what is reserved for other jobs taken off."""
    expected_seconds: ExpectedSeconds | None = None
    """In how many seconds the job would be done there, where the policy asks that."""
    factors: Factors | None = None
    """What the score is made of."""
    avoided: Message = ""
    """Why it comes after all others, however good it is; empty: it does not."""


class RejectedNode(Model):
    """A device that could not run the job."""

    node: ObjectName
    """The device."""
    reason: Reason
    """Why not, in one word: TooHot, Full, DoesNotFit, …"""
    message: Message = ""
    """Why not, in a sentence."""


class PlacementStatus(Model):
    """The last decision on where the job runs: what `kubectl edge explain` shows."""

    policy: Annotated[str, Field(max_length=63)] = ""
    """How devices were compared."""
    score: Score | None = None
    """The chosen device's score."""
    expected_seconds: ExpectedSeconds | None = None
    """In how many seconds the job was expected to be done there, where the policy asks that."""
    factors: Factors | None = None
    """What the score is made of."""
    candidates: Annotated[tuple[Candidate, ...], Field(max_length=CANDIDATES_KEPT), keyed_by("node")] = ()
    """The devices that could run it, best first; at most 20."""
    rejected: Annotated[tuple[RejectedNode, ...], Field(max_length=CANDIDATES_KEPT), keyed_by("node")] = ()
    """The devices that could not, and why; at most 20."""
    message: Message = ""
    """The decision in a sentence."""
    decided_at: Timestamp | None = None
    """When it was taken."""


class ResultsState(StrEnum):
    """How far the results are home."""

    PENDING = "Pending"
    """nothing has been sent yet"""
    UPLOADING = "Uploading"
    COMPLETE = "Complete"
    """all files are stored and checked"""
    PARTIAL = "Partial"
    """some files were refused; the others are stored and checked"""


class ResultFile(Model):
    """A file as it is stored."""

    name: FileName
    """Its path in the output folder."""
    bytes_: ByteCount
    """Its size, in bytes."""
    rows: Annotated[int, Field(ge=0, le=LARGEST_INTEGER)] | None = None
    """A CSV's records after its header."""
    sha256: Sha256
    """The digest of its content."""


class RefusedFile(Model):
    """A file that did not come home."""

    name: Annotated[str, Field(max_length=1024)]
    """Its path in the output folder."""
    reason: Reason
    """Why, in one word: Symlink, HardLink, NotAFile, BadName, TooMany, TooLarge, Changed or Unreadable."""
    message: Message = ""
    """Why, in a sentence."""


class Results(Model):
    """The files of the one attempt that is the job's result."""

    state: ResultsState = ResultsState.PENDING
    """How far they are home."""
    attempt: AttemptNumber | None = None
    """The attempt they are of."""
    pod_uid: UID | None = None
    """The UID of that attempt's pod."""
    file_count: Count = 0
    """How many files there are; `files` lists at most 100 of them."""
    bytes_: ByteCount = 0
    """The size of all files, in bytes."""
    sent_bytes: ByteCount = 0
    """How many of these bytes are home; told anew after each tenth, and when all are."""
    skipped: Count = 0
    """How many files the app's `include` patterns left out."""
    refused_count: Count = 0
    """How many files were refused; `refused` lists at most 20 of them."""
    files: Annotated[tuple[ResultFile, ...], Field(max_length=FILES_KEPT), keyed_by("name")] = ()
    """The first 100 files by name."""
    refused: Annotated[tuple[RefusedFile, ...], Field(max_length=REFUSED_KEPT), keyed_by("name")] = ()
    """The first 20 files that were refused."""
    url: Annotated[str, Field(max_length=1024)] = ""
    """Where the gateway lists them."""
    completed_at: Timestamp | None = None
    """When the last of them was stored."""


class Runs(Model):
    """How the runs of a set stand. Each is an EdgeJob of its own, with the label edgewise.dev/set."""

    total: Count | None = None
    """How many there are; absent until the devices of a set for every device are found."""
    progress: Annotated[str, Field(max_length=32)] = ""
    """How many have ended well, of how many, such as 12/100."""
    active: Count = 0
    """How many are under way on a device."""
    queued: Count = 0
    """How many have yet to start."""
    succeeded: Count = 0
    """How many have ended well."""
    failed: Count = 0
    """How many have ended otherwise, or were deleted."""
    succeeded_indexes: IndexRanges = ""
    """The indexes that have ended well, such as 0-5,7."""
    failed_indexes: IndexRanges = ""
    """The indexes that have ended otherwise."""
    failed_devices: Annotated[tuple[ObjectName, ...], Field(max_length=DEVICES_KEPT), unique()] = ()
    """The devices whose run has ended otherwise; the first 20 by name."""
    counted_at: Timestamp | None = None
    """When they were counted; mere progress is told every few seconds."""


class EdgeJobStatus(Model):
    """What became of the job."""

    observed_generation: ObservedGeneration = -1
    """The metadata.generation that this was made from; -1 before anyone has looked."""
    phase: Phase | None = None
    """Where the job is, in one word for people."""
    conditions: Conditions = ()
    """Complete (the results are home), Failed, Finished (either), Suspended, Reconciling, Stalled."""
    start_time: Timestamp | None = None
    """When the first attempt was made."""
    completion_time: Timestamp | None = None
    """When the job finished, whatever its outcome."""
    node: OptionalObjectName = ""
    """The device of the current attempt."""
    attempts: Annotated[tuple[Attempt, ...], Field(max_length=ATTEMPTS_KEPT), keyed_by("number")] = ()
    """Every try, oldest first; the last 100."""
    failures: Count = 0
    """How many attempts failed by the app's own fault."""
    disruptions: Count = 0
    """How many attempts were lost by no fault of the app's."""
    next_attempt_at: Timestamp | None = None
    """The earliest time of the next attempt."""
    placement: PlacementStatus | None = None
    """Why the job is where it is, or nowhere."""
    results: Results | None = None
    """The files that came home; of a set the totals of its runs."""
    runs: Runs | None = None
    """How the runs of a set stand; absent where the job is none."""
