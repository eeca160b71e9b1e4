"""Whose token it is: TokenReview, with a short memory. It decides nothing about what the bearer may do."""

import hashlib
import time
from dataclasses import dataclass, field
from typing import Final

from cachetools import TTLCache
from msgspec import Struct, json

from edgewise.kube.client import KubeClient

NODE_EXTRA: Final = "authentication.kubernetes.io/node-name"

REMEMBERED_SECONDS: Final = 60.0
MOST_REMEMBERED: Final = 8192


class User(Struct, frozen=True, kw_only=True):
    """Who a token belongs to."""

    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, tuple[str, ...]] = {}

    @property
    def node(self) -> str:
        """The node that the token is bound to; empty for a token that is bound to none."""
        names = self.extra.get(NODE_EXTRA, ())
        return names[0] if len(names) == 1 else ""


class Review(Struct, frozen=True, kw_only=True):
    """A TokenReview's status."""

    authenticated: bool = False
    audiences: tuple[str, ...] = ()
    user: User = User()


class _TokenReview(Struct, frozen=True):
    status: Review


@dataclass(slots=True)
class Tokens:
    """Answers whose token it is. An answer is remembered for a minute, a refusal is not."""

    client: KubeClient
    _known: TTLCache[tuple[bytes, str | None], Review] = field(
        default_factory=lambda: TTLCache(MOST_REMEMBERED, REMEMBERED_SECONDS, time.monotonic)
    )

    async def review(self, token: str, audience: str | None) -> Review:
        """Whose token this is, for `audience` or (None) for the API server itself.

        Raises `Refused` and `Unreachable` as the client does.
        """
        key = (hashlib.sha256(token.encode(errors="surrogateescape")).digest(), audience)
        known = self._known.get(key)
        if known is not None:
            return known
        spec: dict[str, object] = {"token": token, **({"audiences": [audience]} if audience else {})}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
        answer = await self.client.ask("POST", "/apis/authentication.k8s.io/v1/tokenreviews", body)
        review = json.decode(answer, type=_TokenReview).status
        if audience is not None and audience not in review.audiences:
            review = Review()
        if review.authenticated:
            self._known[key] = review
        return review
