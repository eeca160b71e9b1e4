"""What the store writes about its content, and how it refuses. Reads one file at a time, writes none."""

from datetime import datetime
from pathlib import Path
from typing import TypeVar

from edgewise_agent.wire import UID, BlobStatus, Manifest, UploadPlan, Verdict
from msgspec import DecodeError, Struct, json

Record = TypeVar("Record")


class JobIdentity(Struct, frozen=True, kw_only=True):
    """A job as the API server knows it. Of two with the same name, the one created later is the newest.

    `stream` and `stream_uid` are the EdgeStream's whose run it is; empty for other jobs.
    """

    uid: UID
    namespace: str
    name: str
    created_at: datetime
    stream: str = ""
    stream_uid: str = ""


class AcceptedPlan(Struct, frozen=True, kw_only=True):
    """A plan and the device that may bring it home."""

    node: str
    plan: UploadPlan


class PublishedNote(Struct, frozen=True, kw_only=True):
    """The attempt whose files are the job's results."""

    pod_uid: UID


class AsideNote(Struct, frozen=True, kw_only=True):
    """That an attempt's files are not the job's results, and since when this is known."""

    at: datetime


class RemovedNote(Struct, frozen=True, kw_only=True):
    """That an attempt's content was removed, when, and why, as a sentence for people."""

    at: datetime
    why: str


class RetentionNote(Struct, frozen=True, kw_only=True):
    """How long after its completion a job's content is kept."""

    results_seconds: float


class Arrival(Struct, frozen=True, kw_only=True, rename="camel"):
    """Of a manifest, whose it is and which device brought it."""

    namespace: str
    job: str
    node: str


class Expirable(Struct, frozen=True, kw_only=True):
    """An attempt with a final verdict and its content. `aside_at` is None for the one that is the job's results."""

    pod_uid: UID
    completed_at: datetime
    aside_at: datetime | None


class KeptAttempt(Struct, frozen=True, kw_only=True):
    """What an attempt brought home, and what the operator made of it."""

    manifest: Manifest
    verdict: Verdict
    removed: RemovedNote | None = None


class StoreBusy(Exception):
    """Another gateway owns the volume."""


class StoreDamaged(Exception):
    """A file of the store can't be read; the text names it and says what to do."""


class AlreadyComplete(Exception):
    """The attempt's manifest is written, and the new plan says something else."""


class TooLate(Exception):
    """The plan was made while the pod still ran, and the plan of the whole is here."""


class NoPlan(Exception):
    """The upload is not known here: its plan comes first."""


class BytesMissing(Exception):
    """The upload can't be completed: `blobs` are short of their size, or were not what they claimed to be."""

    def __init__(self, blobs: tuple[BlobStatus, ...]) -> None:
        super().__init__(f"{len(blobs)} blobs are incomplete")
        self.blobs = blobs


def sizes_of(held: UploadPlan | Manifest) -> dict[str, int]:
    """The size of each content that the files and logs have, by its SHA-256."""
    return {file.sha256: file.bytes_ for file in held.files} | {log.sha256: log.bytes_ for log in held.logs}


def read_record(path: Path, kind: type[Record]) -> Record | None:
    """The record in the file at `path`; None if there is no such file. Raises `StoreDamaged`."""
    try:
        return json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (DecodeError, UnicodeDecodeError) as error:
        raise StoreDamaged(
            f"{path} is damaged ({error}): restore it from a backup, or remove it to forget what it says"
        ) from error
