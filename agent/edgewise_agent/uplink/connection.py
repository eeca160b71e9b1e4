"""One kept connection to a server of Edgewise: HTTPS with the device's token, checked against Edgewise's own CA.

This module owns token, CA, timeouts and the reuse of connections. It blocks, so it runs in threads only. It never
retries, follows no redirect, and knows nothing of what is sent.
"""

import ssl
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

import urllib3
from msgspec import DecodeError, json

from edgewise_agent.wire import Problem

CONNECT_SECONDS: Final = 5.0
MOST_ANSWER_BYTES: Final = 32 * 2**20
"""More than the longest answer of the wire: an upload's status that lists 100,000 missing blobs."""


class Unreachable(RuntimeError):
    """There is no usable answer now; trying again later may help. The message names the server and what went wrong."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said."""

    status: int
    body: bytes

    def explained(self, what: str) -> str:
        """One line for people: what was asked, the status, and the server's own sentence where it gave one."""
        try:
            problem = json.decode(self.body, type=Problem)
            detail = f"{problem.reason}: {problem.detail}"
        except DecodeError:
            detail = HTTPStatus(self.status).phrase if self.status in set(HTTPStatus) else "no reason given"
        return f"{what}: {self.status} {detail}"


class Connection:
    """Requests to `base_url`. Token and CA file are read anew whenever they changed, as both rotate."""

    def __init__(self, base_url: str, *, ca_file: Path, token_file: Path, read_seconds: float) -> None:
        self.base_url = base_url.rstrip("/")
        self._ca_file = ca_file
        self._token_file = token_file
        self._timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=read_seconds)
        self._lock = threading.Lock()
        self._pool: urllib3.PoolManager | None = None
        self._ca_version: tuple[int, int, int] | None = None

    def request(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request, whose `path` starts with `/`, and read the whole answer, whatever its status.

        A body given in parts needs a Content-Length among `headers`. Raises `Unreachable`, and whatever `body` raises.
        """
        url = f"{self.base_url}{path}"
        try:
            token = self._token_file.read_text().strip()
            pool = self._current_pool()
            response = pool.request(
                method,
                url,
                body=body,
                headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json", **(headers or {})},
                timeout=self._timeout,
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
            content = response.read(MOST_ANSWER_BYTES + 1)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise Unreachable(f"{method} {url} failed: {error}") from error
        if len(content) > MOST_ANSWER_BYTES:
            response.close()
            raise Unreachable(f"{method} {url}: the answer is longer than {MOST_ANSWER_BYTES} bytes")
        response.release_conn()
        return Answer(response.status, content)

    def close(self) -> None:
        """Close idle connections."""
        with self._lock:
            if self._pool is not None:
                self._pool.clear()

    def _current_pool(self) -> urllib3.PoolManager:
        """The pool that trusts the CA file as it is now. Raises `OSError` or `ssl.SSLError`, which is one."""
        with self._lock:
            status = self._ca_file.stat()
            version = (status.st_ino, status.st_mtime_ns, status.st_size)
            if self._pool is None or version != self._ca_version:
                context = ssl.create_default_context(cafile=str(self._ca_file))
                if self._pool is not None:
                    self._pool.clear()
                self._pool = urllib3.PoolManager(num_pools=1, maxsize=2, ssl_context=context)
                self._ca_version = version
            return self._pool
