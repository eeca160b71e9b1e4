"""The certificate that the gateway shows, and whose certificates clients may show. Owns their reloading; makes none."""

import asyncio
import logging
import ssl
from asyncio.sslproto import SSLProtocol
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

CHECK_SECONDS = 5.0

# The buffer that every TLS connection holds for what it receives, else 256 KiB: 200 of them would be 50 MiB.
SSLProtocol.max_size = 32 * 1024


def bound_unsent(transport: asyncio.WriteTransport, bytes_: int) -> None:
    """Bounds what waits in memory for a slow reader: above TLS and, where asyncio holds 64 KiB more, below it."""
    transport.set_write_buffer_limits(high=bytes_)
    below = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)
    if below is not None:
        below.set_write_buffer_limits(high=bytes_)


class _Newest(ssl.SSLContext):
    """A context that leaves every new connection to the newest one: a context in use can't forget what it trusts."""

    current: ssl.SSLContext

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        return self.current.wrap_bio(*args, **kwargs)


class Certificate:
    """tls.crt and tls.key of a folder, as a context that goes on serving while they are replaced.

    New connections get the new certificate, those that stand keep theirs. Files that don't fit together, as between
    the two writes of a replacement, change nothing.
    """

    def __init__(self, folder: Path) -> None:
        self.context = _Newest(ssl.PROTOCOL_TLS_SERVER)
        self._certificate = folder / "tls.crt"
        self._key = folder / "tls.key"
        self._client_ca = ""
        self._loaded: object = None
        self._fault = ""

    def load(self) -> bool:
        """Takes the files if they have changed and are a pair. False as long as there was never one."""
        try:
            mark = (self._mark(), self._client_ca)
            if mark == self._loaded:
                return True
            self._renew()
        except OSError as error:  # ssl.SSLError is an OSError
            fault = f"{self._certificate} and {self._key.name} can't be used ({error})"
            if fault != self._fault:
                logger.warning("%s: %s", fault, "serving the one before" if self._loaded else "waiting for them")
            self._fault = fault
            return self._loaded is not None
        logger.info("serving the certificate in %s", self._certificate)
        self._loaded = mark
        self._fault = ""
        return True

    def trust_clients_of(self, authority: str) -> None:
        """From the next connection on, clients may show certificates of these CAs (PEM), and of no others.

        What is between the certificates may be anything. Raises `ssl.SSLError` or `ValueError` when there is no
        certificate; all stays as it was.
        """
        authority = authority.encode("ascii", "replace").decode("ascii")
        if authority != self._client_ca:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=authority)
            self._client_ca = authority
            logger.info("clients may show certificates of the cluster's CA")

    async def watch(self, loaded: asyncio.Event, check_seconds: float = CHECK_SECONDS) -> None:
        """Takes every new pair, until cancelled; sets `loaded` once there is one to serve."""
        while True:
            if self.load():
                loaded.set()
            await asyncio.sleep(check_seconds)

    def _renew(self) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._certificate, self._key)
        if self._client_ca:
            context.load_verify_locations(cadata=self._client_ca)
            context.verify_mode = ssl.CERT_OPTIONAL
            # As the API server checks them: stricter rules would refuse the certificates of older clusters.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # an intermediate CA is as good as a root
        self.context.current = context

    def _mark(self) -> object:
        marks = []
        for path in (self._certificate, self._key):
            status = path.stat()
            marks.append((status.st_mtime_ns, status.st_ino, status.st_size))
        return tuple(marks)
