"""The one table that a run ends with: what was measured, what it should be, and whether it is."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from bench.figures import Figure


class Goal(Enum):
    """Which side of an aim is the good one."""

    AT_LEAST = "≥"
    AT_MOST = "≤"


@dataclass(frozen=True, slots=True)
class Aim:
    """What a figure's median should be."""

    goal: Goal
    value: float

    def met(self, figure: Figure) -> bool:
        """Whether the median is on the good side."""
        if self.goal is Goal.AT_LEAST:
            return figure.median >= self.value
        return figure.median <= self.value

    def __str__(self) -> str:
        return f"{self.goal.value} {self.value:g}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: the figure's key in latest.json and what it means; without an aim it only informs."""

    key: str
    meaning: str
    aim: Aim | None = None


HEADINGS = ("figure", "median", "min", "max", "aim", "met", "what it is")


def render(rows: Iterable[Row], figures: Mapping[str, Figure]) -> str:
    """The table of those rows that have a figure."""
    lines = [_cells(row, figures[row.key]) for row in rows if row.key in figures]
    table = [HEADINGS, *lines]
    widths = [max(len(line[column]) for line in table) for column in range(len(HEADINGS))]
    return "\n".join(_line(line, widths) for line in table)


def _cells(row: Row, figure: Figure) -> tuple[str, ...]:
    values = [number(value) for value in (figure.median, figure.minimum, figure.maximum)]
    met = "" if row.aim is None else "yes" if row.aim.met(figure) else "NO"
    return (row.key, *values, str(row.aim or ""), met, row.meaning)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Names and words to the left, numbers to the right."""
    padded = [
        cell.rjust(width) if 1 <= column <= 4 else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(padded).rstrip()


def number(value: float) -> str:
    """A figure for people: three digits that count, never in powers of ten."""
    for least, digits in ((100, 0), (10, 1), (1, 2), (0.1, 3)):
        if abs(value) >= least:
            return f"{value:.{digits}f}"
    return f"{value:.4f}"
