"""Compression of uploads: only where it pays, exact, and bounded in memory."""

import gzip
import os

from edgewise_agent.uplink.packing import BLOCK_BYTES, MOST_PACKED_BYTES, SAMPLE_BYTES, pack
from hypothesis import given
from hypothesis import strategies as st


class Content:
    """Bytes that are read in pieces, never more than 10,000 at once, as a file system may give them."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.reads = 0

    def read(self, offset: int, length: int) -> bytes:
        self.reads += 1
        block = self.content[offset : offset + min(length, 10_000)]
        assert block, "read beyond the end"
        return block


@given(st.binary(min_size=1, max_size=300), st.integers(1, 2000), st.data())
def test_what_is_packed_is_the_content_at_that_place(unit: bytes, times: int, data: st.DataObject) -> None:
    content = unit * times
    offset = data.draw(st.integers(0, len(content) - 1))
    length = data.draw(st.integers(1, len(content) - offset))
    packed = pack(Content(content).read, offset, length)
    if packed is not None:
        body = b"".join(packed.blocks)
        assert len(body) == packed.body_bytes
        assert gzip.decompress(body) == content[offset : offset + packed.length]
        assert packed.length == length


def test_what_does_not_get_a_tenth_smaller_goes_as_it_is() -> None:
    content = Content(os.urandom(SAMPLE_BYTES) + bytes(SAMPLE_BYTES))
    assert pack(content.read, 0, len(content.content)) is None
    assert content.reads == 1, "a sample is enough"
    assert pack(Content(b"photo,x\n").read, 0, 8) is None


def test_a_body_has_an_end_even_where_only_the_sample_gets_smaller() -> None:
    content = Content(bytes(SAMPLE_BYTES) + os.urandom(4 * MOST_PACKED_BYTES))
    packed = pack(content.read, 0, len(content.content))
    assert packed is not None
    assert packed.body_bytes < MOST_PACKED_BYTES + 2 * BLOCK_BYTES
    assert packed.length < len(content.content)
    assert gzip.decompress(b"".join(packed.blocks)) == content.content[: packed.length]
