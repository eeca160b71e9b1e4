"""Bodies as they travel: plain, or as one gzip member. Decompresses within bounded memory; keeps no file."""

import zlib
from typing import Final

GZIP: Final = "gzip"


class BadEncoding(Exception):
    """The bytes are not what the encoding promises; the text says why."""


class Plain:
    """A body that travels as it is."""

    costly = False
    """Whether `read` takes so long that it belongs into a thread."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Takes what has arrived; what was fed before is read out by then."""
        self._rest = data

    def read(self, most: int) -> bytes:
        """The next bytes of the content, at most so many; empty until more is fed."""
        piece, self._rest = self._rest[:most], self._rest[most:]
        return piece

    def is_whole(self) -> bool:
        """Whether the content may end here."""
        return True


class Gzip(Plain):
    """A body that is one gzip member. However much it would expand to, `read` gives no more than was asked for."""

    costly = True

    def __init__(self) -> None:
        super().__init__()
        self._member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    def read(self, most: int) -> bytes:
        """As of `Plain`. Raises `BadEncoding`."""
        if self._member.eof:
            if self._rest or self._member.unused_data:
                raise BadEncoding("bytes follow the end of the gzip member")
            return b""
        try:
            piece = self._member.decompress(self._rest, most)
        except zlib.error as error:
            raise BadEncoding(f"the body is no gzip ({error})") from error
        self._rest = self._member.unconsumed_tail
        return piece

    def is_whole(self) -> bool:
        """Whether the member's end, with its checksum, has come by."""
        return self._member.eof
