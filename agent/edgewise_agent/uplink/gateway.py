"""The upload protocol of wire.py as calls: each request, and what each answer means for the sender.

This module owns the meaning of the gateway's statuses. It blocks; it reads no file and never tries again by itself.
"""

from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

from msgspec import DecodeError, json
from msgspec.structs import replace

from edgewise_agent.uplink.connection import Answer, Connection, Unreachable
from edgewise_agent.uplink.pace import Pace
from edgewise_agent.wire import OFFSET_HEADER, BlobStatus, Manifest, UploadPlan, UploadStatus

COMPLETE_SECONDS: Final = 300.0
"""The gateway verifies every byte before it answers."""

_AT_ONCE: Final = Pace(0)
_FILES_A_BLOCK: Final = 500
_LONG_PLAN_BYTES: Final = 2**20
"""The gateway takes plans that are longer one at a time."""

_T = TypeVar("_T")


class Unwanted(RuntimeError):
    """410: the job is gone, nobody wants its files."""


class Refused(RuntimeError):
    """403 or 422: refused for good; the message is the gateway's."""


class TooEarly(RuntimeError):
    """425: the attempt is not in the job's status yet, or the upload not here."""


class Conflict(RuntimeError):
    """409 without a way on: what the gateway holds does not fit the plan."""


class NotUnpacked(RuntimeError):
    """415: the gateway takes no compressed bodies; the same bytes may go as they are."""


class Deferred(Unreachable):
    """The gateway has answered that it can't take this now (507, 5xx and others): other volumes may still go."""


class Gateway:
    """The gateway, as one attempt's files see it. Every method raises `Unreachable`, `Unwanted`, `Refused`, `TooEarly`.

    Full volumes (507), answers of no known meaning and failing servers are `Deferred`: later may do.
    """

    def __init__(self, connection: Connection, pace: Pace = _AT_ONCE) -> None:
        """All that is sent over `connection` keeps to `pace`."""
        self._connection = connection
        self._pace = pace

    def put_plan(self, job_uid: str, pod_uid: str, plan: UploadPlan) -> UploadStatus:
        """Say what will be sent; the answer says what is missing. Also raises `Conflict`.

        A long plan that gets no answer is `Deferred`: it may have waited for its turn at a gateway that is well.
        """
        length = sum(len(block) for block in _encoded(plan))
        try:
            answer = self._connection.request(
                "PUT",
                f"/v1/uploads/{job_uid}/{pod_uid}",
                self._pace.pieces(_encoded(plan)),
                {"Content-Length": str(length)},
            )
        except Unreachable as error:
            if length > _LONG_PLAN_BYTES:
                raise Deferred(f"upload plan of {_attempt(plan)}, {length} bytes long: {error}") from error
            raise
        return self._decode(answer, UploadStatus, f"upload plan of {_attempt(plan)}")

    def patch(
        self,
        job_uid: str,
        pod_uid: str,
        sha256: str,
        offset: int,
        length: int,
        body: Iterable[bytes],
        *,
        packed: bool = False,
    ) -> BlobStatus:
        """Send `length` bytes of a blob from `offset` on; the answer says where to go on, also after a wrong offset.

        `packed`: the body is one gzip member and `length` its own size; offsets count the content all the same. Also
        raises `Conflict`, `NotUnpacked` only for a packed body, and whatever `body` raises.
        """
        answer = self._connection.request(
            "PATCH",
            f"/v1/uploads/{job_uid}/{pod_uid}/blobs/{sha256}",
            self._pace.pieces(body),
            {
                OFFSET_HEADER: str(offset),
                "Content-Length": str(length),
                "Content-Type": "application/octet-stream",
                **({"Content-Encoding": "gzip"} if packed else {}),
            },
        )
        if answer.status == 415 and packed:
            raise NotUnpacked(answer.explained(f"blob {sha256}"))
        if answer.status == 422 and answer.reason == "NotInPlan":
            raise Conflict(answer.explained(f"blob {sha256}"))
        if answer.status == 409:
            try:
                return json.decode(answer.body, type=BlobStatus)
            except (DecodeError, UnicodeDecodeError) as error:
                raise Conflict(answer.explained(f"blob {sha256}")) from error
        return self._decode(answer, BlobStatus, f"blob {sha256}")

    def complete(self, job_uid: str, pod_uid: str, plan: UploadPlan) -> Manifest:
        """Say that all is sent. Only when this returns are the files safe elsewhere. Also raises `Conflict`."""
        answer = self._connection.request(
            "POST", f"/v1/uploads/{job_uid}/{pod_uid}/complete", b"", read_seconds=COMPLETE_SECONDS
        )
        manifest = self._decode(answer, Manifest, f"completion of {_attempt(plan)}")
        stored = {file.name: file.sha256 for file in manifest.files}
        lost = [file.name for file in plan.files if stored.get(file.name) != file.sha256]
        if manifest.pod_uid != pod_uid or (lost and manifest.refused_count <= plan.refused_count):
            raise Unreachable(
                f"completion of {_attempt(plan)}: the manifest is not that of the files sent ({lost[:3]})"
            )
        return manifest

    def status(self, job_uid: str, pod_uid: str) -> UploadStatus:
        """How a complete upload stands. `TooEarly`: the gateway does not have it, or not any more."""
        answer = self._connection.request("GET", f"/v1/uploads/{job_uid}/{pod_uid}")
        return self._decode(answer, UploadStatus, f"status of the upload of pod {pod_uid}")

    @staticmethod
    def _decode(answer: Answer, kind: type[_T], what: str) -> _T:
        if answer.status == 200:
            try:
                return json.decode(answer.body, type=kind)
            except (DecodeError, UnicodeDecodeError) as error:
                raise Unreachable(f"{what}: the answer is not one of a gateway ({error})") from error
        meaning = _MEANINGS.get(answer.status, Deferred)
        raise meaning(answer.explained(what))


_MEANINGS: Final[dict[int, type[RuntimeError]]] = {
    403: Refused,
    409: Conflict,
    410: Unwanted,
    422: Refused,
    425: TooEarly,
}


def _attempt(plan: UploadPlan) -> str:
    return f"{plan.namespace}/{plan.job}, attempt {plan.attempt}"


def _encoded(plan: UploadPlan) -> Iterator[bytes]:
    """The plan as JSON, in blocks: one of 100,000 files would take more memory in one piece than all else."""
    # Within a JSON string the quotes would be escaped.
    head, files, tail = json.encode(replace(plan, files=())).partition(b'"files":[]')
    yield head + files[:-1]
    for start in range(0, len(plan.files), _FILES_A_BLOCK):
        block = json.encode(plan.files[start : start + _FILES_A_BLOCK])[1:-1]
        yield block if start == 0 else b"," + block
    yield files[-1:] + tail
