"""The leader's door, as agents and the gateway find it: by the label on its pod, over TLS, with tokens of their own."""

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import aiohttp
from edgewise.control.leadership import LEADER_LABEL
from edgewise.kube.client import KubeClient, Refused, Unreachable
from msgspec import json

CALL_SECONDS: Final = 10.0
LOOK_EVERY_SECONDS: Final = 0.5


@dataclass(slots=True)
class Door:
    """Posts to whichever operator is labelled as the leader. `port_of` tells where an operator's pod listens."""

    client: KubeClient
    namespace: str
    port_of: Callable[[str], int | None]
    _leader: str = ""
    _looked_at: float = 0.0
    _trust: ssl.SSLContext | None = None
    _session: aiohttp.ClientSession | None = field(default=None)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def token(self, account: str, pod: str | None = None) -> str:
        """A token of a ServiceAccount for Edgewise, bound to a pod if one is given."""
        spec: dict[str, object] = {"audiences": ["edgewise"], "expirationSeconds": 3600}
        if pod is not None:
            spec["boundObjectRef"] = {"kind": "Pod", "apiVersion": "v1", "name": pod}
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{account}/token"
        answer = json.decode(await self.client.ask("POST", path, {"spec": spec}))
        token: str = answer["status"]["token"]
        return token

    async def leader(self) -> str:
        """The pod that is labelled as the leader; empty when none or several are."""
        if time.monotonic() - self._looked_at > LOOK_EVERY_SECONDS:
            query = {"labelSelector": f"{LEADER_LABEL}=true"}
            answer = await self.client.ask("GET", f"/api/v1/namespaces/{self.namespace}/pods", query=query)
            names = [pod["metadata"]["name"] for pod in json.decode(answer)["items"]]
            self._leader = names[0] if len(names) == 1 else ""
            self._looked_at = time.monotonic()
        return self._leader

    async def post(self, path: str, token: str, body: bytes) -> bytes | None:
        """The leader's answer; None when there is none, or it is no."""
        try:
            port = self.port_of(await self.leader())
            if port is None:
                return None
            trust = await self._trusted()
            if self._session is None:
                limits = aiohttp.ClientTimeout(total=CALL_SECONDS)
                self._session = aiohttp.ClientSession(timeout=limits, connector=aiohttp.TCPConnector(force_close=True))
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            url = f"https://localhost:{port}{path}"
            async with self._session.post(url, data=body, headers=headers, ssl=trust) as response:
                return await response.read() if response.status == HTTPStatus.OK else None
        except (aiohttp.ClientError, OSError, Refused, Unreachable):
            return None

    async def _trusted(self) -> ssl.SSLContext:
        """Trust in the CA that the operator publishes, and in no other."""
        if self._trust is None:
            answer = await self.client.ask("GET", f"/api/v1/namespaces/{self.namespace}/configmaps/edgewise-ca")
            self._trust = ssl.create_default_context(cadata=json.decode(answer)["data"]["ca.crt"])
        return self._trust
