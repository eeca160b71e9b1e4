"""The certificate that the gateway shows. Owns its reloading; makes none."""

import asyncio
import logging
import ssl
from pathlib import Path

logger = logging.getLogger(__name__)

CHECK_SECONDS = 5.0


class Certificate:
    """tls.crt and tls.key of a folder, as a context that goes on serving while they are replaced.

    New connections get the new certificate, those that stand keep theirs. Files that don't fit together, as between
    the two writes of a replacement, change nothing.
    """

    def __init__(self, folder: Path) -> None:
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._certificate = folder / "tls.crt"
        self._key = folder / "tls.key"
        self._loaded: object = None
        self._fault = ""

    def load(self) -> bool:
        """Takes the files if they have changed and are a pair. False as long as there was never one."""
        try:
            mark = self._mark()
            if mark == self._loaded:
                return True
            trial = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            trial.load_cert_chain(self._certificate, self._key)
            self.context.load_cert_chain(self._certificate, self._key)
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

    async def watch(self, loaded: asyncio.Event, check_seconds: float = CHECK_SECONDS) -> None:
        """Takes every new pair, until cancelled; sets `loaded` once there is one to serve."""
        while True:
            if self.load():
                loaded.set()
            await asyncio.sleep(check_seconds)

    def _mark(self) -> object:
        marks = []
        for path in (self._certificate, self._key):
            status = path.stat()
            marks.append((status.st_mtime_ns, status.st_ino, status.st_size))
        return tuple(marks)
