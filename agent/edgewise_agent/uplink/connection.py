"""Kept connections to a server of Edgewise: HTTPS with the device's token, checked against Edgewise's own CA.

This module owns token, CA, timeouts and the reuse of connections. It blocks, so it runs in threads only. It never
retries, follows no redirect, and knows nothing of what is sent.
"""

import errno
import socket
import ssl
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from weakref import WeakSet

import urllib3
from msgspec import DecodeError, json
from urllib3.connection import HTTPSConnection

from edgewise_agent.wire import SESSION_COOKIE, Problem

CONNECT_SECONDS: Final = 5.0
MOST_AT_ONCE_BYTES: Final = 1024
"""What fits into a packet with its headers, of which a session's are short."""
MOST_ANSWER_BYTES: Final = 32 * 2**20
"""More than the longest answer of the wire: an upload's status that lists 100,000 missing blobs."""


class Unreachable(RuntimeError):
    """There is no usable answer now; trying again later may help. The message names the server and what went wrong."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said."""

    status: int
    body: bytes

    @property
    def reason(self) -> str | None:
        """The server's reason for a refusal, where it gave one."""
        try:
            return json.decode(self.body, type=Problem).reason
        except (DecodeError, UnicodeDecodeError):
            return None

    def explained(self, what: str) -> str:
        """One line for people: what was asked, the status, and the server's own sentence where it gave one."""
        try:
            problem = json.decode(self.body, type=Problem)
            detail = f"{problem.reason}: {problem.detail}"
        except (DecodeError, UnicodeDecodeError):
            detail = HTTPStatus(self.status).phrase if self.status in set(HTTPStatus) else "no reason given"
        return f"{what}: {self.status} {detail}"


class Connection:
    """Requests to `base_url`. Token and CA file are read anew whenever they changed, as both rotate."""

    def __init__(self, base_url: str, *, ca_file: Path, token_file: Path, read_seconds: float, kept: int = 1) -> None:
        """`kept` is how many connections stay open for the next request: as many as threads ask at once."""
        self.base_url = base_url.rstrip("/")
        self._server = urllib3.util.parse_url(self.base_url)
        self._ca_file = ca_file
        self._token_file = token_file
        self._read_seconds = read_seconds
        self._kept = kept
        self._lock = threading.Lock()
        self._pool: urllib3.HTTPSConnectionPool | None = None
        self._ca_version: tuple[int, int, int] | None = None
        self._open: WeakSet[HTTPSConnection] = WeakSet()
        self._noted = _noting(self._open)
        self._closed = False

    def request(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        read_seconds: float | None = None,
        session: str = "",
    ) -> Answer:
        """Send one request, whose `path` starts with `/`, and read the whole answer, whatever its status.

        A `session` goes in place of the token, with as few other headers as can be.

        A body given in parts needs a Content-Length among `headers`. `read_seconds` is for answers that take longer
        than usual. Raises `Unreachable`, and whatever `body` raises.
        """
        what = f"{method} {self.base_url}{path}"
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=read_seconds or self._read_seconds)
        try:
            own = _brief(session) if session else self._full()
            response = self._current_pool().urlopen(
                method,
                f"{self._server.path or ''}{path}",
                body=body,
                headers={**own, **(headers or {})},
                timeout=timeout,
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
            content = response.read(MOST_ANSWER_BYTES + 1)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise Unreachable(f"{what} failed: {error}") from error
        if len(content) > MOST_ANSWER_BYTES:
            response.close()
            raise Unreachable(f"{what}: the answer is longer than {MOST_ANSWER_BYTES} bytes")
        response.release_conn()
        return Answer(response.status, content)

    def _full(self) -> dict[str, str]:
        token = self._token_file.read_text().strip()
        return {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def close(self) -> None:
        """Cut what is under way, close what is idle, and refuse what comes later."""
        with self._lock:
            self._closed = True
            for connection in list(self._open):
                # The thread that waits for this socket wakes up with an error.
                with suppress(OSError):
                    if connection.sock is not None:
                        connection.sock.shutdown(socket.SHUT_RDWR)
            if self._pool is not None:
                self._pool.close()

    def _current_pool(self) -> urllib3.HTTPSConnectionPool:
        """The pool that trusts the CA file as it is now. Raises `OSError` or `ssl.SSLError`, which is one."""
        with self._lock:
            if self._closed:
                raise OSError(errno.ESHUTDOWN, "the agent stops")
            status = self._ca_file.stat()
            version = (status.st_ino, status.st_mtime_ns, status.st_size)
            if self._pool is None or version != self._ca_version:
                context = ssl.create_default_context(cafile=str(self._ca_file))
                if self._pool is not None:
                    self._pool.close()
                self._pool = urllib3.HTTPSConnectionPool(
                    self._server.host or "", self._server.port, maxsize=self._kept, ssl_context=context
                )
                self._pool.ConnectionCls = self._noted
                self._ca_version = version
            return self._pool


def _brief(session: str) -> dict[str, str]:
    unsaid = dict.fromkeys(("Accept-Encoding", "User-Agent"), urllib3.util.SKIP_HEADER)
    return {"Cookie": f"{SESSION_COOKIE}={session}", **unsaid}


class _InOnePiece(HTTPSConnection):
    """Sends headers and body of a short request together: a packet, a TLS record and an acknowledgement less."""

    _held: list[bytes] | None = None

    def request(self, method: str, url: str, body: Any = None, headers: Any = None, **options: Any) -> None:
        """As urllib3's own."""
        self._held = [] if isinstance(body, bytes) and len(body) <= MOST_AT_ONCE_BYTES else None
        try:
            super().request(method, url, body, headers, **options)
            if self._held:
                super().send(b"".join(self._held))
        finally:
            self._held = None

    def send(self, data: Any) -> None:
        """As urllib3's own, or later together with what follows."""
        if self._held is None:
            super().send(data)
        else:
            self._held.append(data)


def _noting(made: "WeakSet[HTTPSConnection]") -> type[HTTPSConnection]:
    """A class of connections that are noted in `made`: urllib3 itself can't cut one that is in use."""

    class Noted(_InOnePiece):
        def connect(self) -> None:
            made.add(self)
            super().connect()

    return Noted
