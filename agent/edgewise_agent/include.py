"""Which files an app's `include` patterns mean. Pure: no file is touched.

A pattern without `/` is matched against a file's last name at any depth (`*.csv` takes `a.csv` and `day/b.csv`). One
with `/` is matched against the whole relative path, part by part: `*` stays within a part, `**` is any number of parts.
`?` and `[…]` mean what they mean in a shell; case counts. No pattern at all includes everything.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase


def included(name: str, patterns: Sequence[str]) -> bool:
    """Whether the file with the relative path `name` is one that `patterns` ask for."""
    return not patterns or any(_matches(name, pattern) for pattern in patterns)


def _matches(name: str, pattern: str) -> bool:
    parts = name.split("/")
    if "/" not in pattern:
        return fnmatchcase(parts[-1], pattern)
    return _match_parts(parts, pattern.lstrip("/").split("/"))


def _match_parts(parts: list[str], patterns: list[str]) -> bool:
    """Match part by part; `reachable[i]` says that the first `i` parts are matched so far. Never backtracks."""
    reachable = [True] + [False] * len(parts)
    for pattern in patterns:
        if pattern == "**":
            first = reachable.index(True) if True in reachable else len(reachable)
            reachable = [position >= first for position in range(len(reachable))]
        else:
            reachable = [False] + [
                before and fnmatchcase(part, pattern) for before, part in zip(reachable, parts, strict=False)
            ]
    return reachable[-1]
