"""A small client of an API server over HTTPS with the administrator's certificate.

Raw dictionaries in and out, one connection a call: enough for the testbed's own
needs, without a kubectl process each time.
"""

import http.client
import json
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from testbed import paths
from testbed.errors import FleetError

Body = dict[str, Any]


class KubeApi:
    """Calls the API server at `server`, whose keys are in the folder `keys`."""

    def __init__(self, server: str, keys: Path = paths.KEYS) -> None:
        self._host = urlsplit(server).netloc
        self._tls = ssl.create_default_context(cafile=str(keys / "ca.crt"))
        self._tls.load_cert_chain(str(keys / "admin.crt"), str(keys / "admin.key"))

    def get(self, path: str) -> Body:
        """The object or list at `path`."""
        answer: Body = json.loads(self._call("GET", path))
        return answer

    def post(self, path: str, body: Body) -> Body:
        """Creates an object."""
        answer: Body = json.loads(self._call("POST", path, body))
        return answer

    def delete(self, path: str) -> None:
        """Deletes an object; one that is gone already is fine."""
        self._call("DELETE", path, fine=(404,))

    def ready(self) -> bool:
        """Whether the API server says that it is ready."""
        return self._call("GET", "/readyz") == b"ok"

    def _call(self, method: str, path: str, body: Body | None = None, fine: tuple[int, ...] = ()) -> bytes:
        connection = http.client.HTTPSConnection(self._host, timeout=10, context=self._tls)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise FleetError(f"the API server does not answer {method} {path}: {error}") from error
        finally:
            connection.close()
        if response.status >= 300 and response.status not in fine:
            raise FleetError(f"{method} {path}: {response.status} {_message(answer)}")
        return answer


def _message(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["message"])
    except (ValueError, KeyError, TypeError):
        return answer.decode(errors="replace")[:200]
