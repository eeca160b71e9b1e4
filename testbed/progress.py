"""One visible line a step, with how long it took."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Step:
    """A running step; `note` is put at the end of its line."""

    def __init__(self) -> None:
        self.note = ""


@contextmanager
def step(title: str) -> Iterator[Step]:
    """Prints `title`, and the time when the block has ended."""
    current = Step()
    began = time.monotonic()
    print(f"  {title:<44}", end="", flush=True)
    try:
        yield current
    except BaseException:
        print(f"failed after {time.monotonic() - began:.1f} s", flush=True)
        raise
    print(f"{time.monotonic() - began:6.1f} s  {current.note}".rstrip(), flush=True)


def say(line: str) -> None:
    """Prints one line."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
