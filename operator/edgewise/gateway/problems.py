"""How a request is refused. Owns the shape of every error answer; decides no refusal itself."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from aiohttp import web
from edgewise_agent.wire import BlobStatus, Problem
from msgspec import json

from edgewise.gateway.durable import VolumeFull

logger = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Refusal(Exception):
    """Ends a request with `status` and a `Problem`. With `resume`, the body says also which byte to go on with."""

    def __init__(
        self,
        status: HTTPStatus,
        reason: str,
        detail: str,
        *,
        resume: BlobStatus | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{reason}: {detail}")
        self.status = status
        self.problem = Problem(reason=reason, detail=detail[:4096])
        self.resume = resume
        self.headers = dict(headers or {})

    def response(self) -> web.Response:
        """The answer as it is sent."""
        fields = {"reason": self.problem.reason, "detail": self.problem.detail}
        if self.resume is not None:
            fields |= json.decode(json.encode(self.resume))
        headers = dict(self.headers)
        if self.status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        return web.Response(
            body=json.encode(fields), status=self.status, content_type="application/json", headers=headers
        )


def json_response(body: object) -> web.Response:
    """A 200 whose body is a msgspec struct, or what such structs are made of, as JSON."""
    return web.Response(body=json.encode(body), content_type="application/json")


@web.middleware
async def problems_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error answer is a `Problem`; what nobody foresaw is logged with its traceback and answered with 500."""
    try:
        return await handler(request)
    except Refusal as refusal:
        log = logger.warning if refusal.status >= HTTPStatus.INTERNAL_SERVER_ERROR else logger.info
        log("%s %s: %d %s", request.method, request.rel_url.raw_path, refusal.status, refusal)
        return refusal.response()
    except VolumeFull:  # without figures: agents show the sentence in the job's status, and each change is a write
        logger.warning("%s %s: the results volume is full", request.method, request.rel_url.raw_path)
        return Refusal(
            HTTPStatus.INSUFFICIENT_STORAGE,
            "VolumeFull",
            "The results volume has no room for this: try again later; an admin must remove old results or enlarge the "
            "volume.",
        ).response()
    except web.HTTPException as error:
        if error.status < HTTPStatus.BAD_REQUEST:
            raise
        known = HTTPStatus(error.status)
        path = request.rel_url.raw_path
        logger.info("%s %s: %d", request.method, path, known)
        answer = Refusal(
            known,
            "".join(part.capitalize() for part in known.name.split("_")),
            f"{request.method} {path}: {known.phrase}. What there is, is listed at /v1/openapi.json.",
        ).response()
        if "Allow" in error.headers:
            answer.headers["Allow"] = error.headers["Allow"]
        return answer
    except Exception:  # the loop's edge: one bad request must not go unanswered, nor unseen
        if (transport := request.transport) is None or transport.is_closing():
            raise
        logger.exception("%s %s failed", request.method, request.rel_url.raw_path)
        return Refusal(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "InternalError",
            "The gateway failed on this request; its log says why. Try again, and report it if it goes on.",
        ).response()
