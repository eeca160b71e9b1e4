"""Rows are counted as Python's csv module reads records, whatever the bytes and however they are cut into pieces."""

import csv
import io
from itertools import pairwise

import pytest
from edgewise.gateway.rows import RowCounter
from hypothesis import example, given
from hypothesis import strategies as st


def counted(content: bytes, cuts: list[int]) -> int | None:
    counter = RowCounter()
    edges = sorted({0, len(content), *(cut % (len(content) + 1) for cut in cuts)})
    for start, end in pairwise(edges):
        counter.feed(content[start:end])
    return counter.rows()


def read_by_csv(text: str) -> int:
    records = [record for record in csv.reader(io.StringIO(text, newline="")) if record]
    return max(0, len(records) - 1)


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (b"", 0),
        (b"photo,face\n", 0),
        (b"photo,face", 0),
        (b"photo,face\na,1\n", 1),
        (b"photo,face\r\na,1\r\nb,2", 2),
        (b"photo,face\ra,1\rb,2\r", 2),
        (b"photo,face\n\n\na,1\n\n", 1),
        (b'photo,face\n"two\nlines",1\nb,2\n', 2),
        (b'photo,face\n"a ""quoted""\n\nword",1\n', 1),
        (b'photo,face\n5" wide,1\nb,2\n', 2),
        (b'"photo\n",face\n""\n', 1),
        (b'photo\n"open until the end\na\nb\n', 1),
        ("größe\nhoch\n".encode(), 1),
        (b"caf\xe9\n1\n", None),
        ("half a character \N{SNOWMAN}".encode()[:-1], None),
    ],
)
def test_counts_records_after_the_header(content: bytes, rows: int | None) -> None:
    assert counted(content, []) == rows
    assert counted(content, list(range(len(content)))) == rows


@given(text=st.text(alphabet='a",\r\n x', max_size=60), cuts=st.lists(st.integers(0, 60), max_size=6))
@example(text='"a"\r\n"b"', cuts=[3, 4])
@example(text=',"\n",\n', cuts=[1, 2, 3])
def test_agrees_with_the_csv_module(text: str, cuts: list[int]) -> None:
    assert counted(text.encode(), cuts) == read_by_csv(text)


@given(
    st.lists(st.lists(st.text(alphabet=st.characters(codec="utf-8"), max_size=8), min_size=1, max_size=4), max_size=8)
)
def test_counts_what_the_csv_module_wrote(records: list[list[str]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(records)
    assert counted(text.getvalue().encode(), [7, 19]) == max(0, len(records) - 1)
