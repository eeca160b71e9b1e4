"""Counting the records of a CSV as its bytes come by. Owns that one question; keeps no record and reads no file."""

import codecs
import re

_OPENING_QUOTE = re.compile(rb'(?<=[,\r\n])"')
_LINE_ENDS = b"\r\n"
_QUOTE = ord('"')


class RowCounter:
    """Counts records as Python's `csv` reads them: a quoted field may hold line ends, empty lines are no records.

    Memory is bounded by the size of one `feed`, whatever the file holds, which `csv.reader` can't promise.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._decodable = True
        self._records = 0
        self._in_record = False
        self._quoted = False
        self._quote_pending = False
        self._before = b"\n"

    def feed(self, chunk: bytes) -> None:
        """Takes the next bytes of the file; some hundred KiB at a time is quick."""
        if not chunk or not self._decodable:
            return
        try:
            self._decoder.decode(chunk)
        except UnicodeDecodeError:
            self._decodable = False
            return
        position = 0
        if self._quote_pending:
            self._quote_pending = False
            if chunk[0] == _QUOTE:
                position = 1
            else:
                self._quoted = False
        while position < len(chunk):
            position = self._in_quotes(chunk, position) if self._quoted else self._in_lines(chunk, position)
        self._before = chunk[-1:]

    def rows(self) -> int | None:
        """The records after the header, once all is fed; None when the bytes are not UTF-8."""
        try:
            self._decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return None
        return max(0, self._records - 1) if self._decodable else None

    def _in_quotes(self, chunk: bytes, position: int) -> int:
        """Goes on to behind the quote that closes the field, or to the end of `chunk`."""
        while (quote := chunk.find(b'"', position)) >= 0:
            if quote + 1 == len(chunk):
                self._quote_pending = True
                return len(chunk)
            if chunk[quote + 1] != _QUOTE:
                self._quoted = False
                return quote + 1
            position = quote + 2
        return len(chunk)

    def _in_lines(self, chunk: bytes, position: int) -> int:
        """Counts the records that begin up to the next quote that opens a field, and goes on to behind that quote."""
        opening = self._find_opening(chunk, position)
        segment = chunk[position:opening]
        if segment:
            starts = sum(1 for line in segment.splitlines() if line)
            if self._in_record and segment[0] not in _LINE_ENDS:
                starts -= 1
            self._records += starts
            self._in_record = segment[-1] not in _LINE_ENDS
        if opening == len(chunk):
            return opening
        if not self._in_record:
            self._records += 1
            self._in_record = True
        self._quoted = True
        return opening + 1

    def _find_opening(self, chunk: bytes, position: int) -> int:
        """Where the next quote at the start of a field is; the length of `chunk` if there is none."""
        if position == 0 and chunk[0] == _QUOTE and self._before in (b",", b"\r", b"\n"):
            return 0
        found = _OPENING_QUOTE.search(chunk, max(position, 1))
        return found.start() if found else len(chunk)
