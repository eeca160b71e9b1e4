"""The figures that tests measure: each is printed on a line of its own, and all of them in a table at the run's end."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Final

PROPERTY: Final = "figure"


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value, and the most that it may be (None: it is only told)."""

    what: str
    value: float
    most: float | None
    unit: str

    def line(self) -> str:
        """The figure as a line of the table."""
        bound = "" if self.most is None else f"at most {self.most:g}{self.unit and ' '}{self.unit}"
        shown = f"{self.value:.1f}" if isinstance(self.value, float) else f"{self.value}"
        return f"{self.what:<72} {f'{shown} {self.unit}'.rstrip():>10}  {bound}".rstrip()


@dataclass(slots=True)
class Figures:
    """Called with each figure. It judges nothing: that is the test's own assertion."""

    properties: list[tuple[str, object]] = field(default_factory=list)
    """the test's properties, which its report carries from the process where it ran"""

    def __call__(self, what: str, value: float, most: float | None = None, unit: str = "") -> None:
        """Take and print a figure."""
        figure = Figure(what, value, most, unit)
        self.properties.append((PROPERTY, asdict(figure)))
        print(figure.line())


@dataclass(slots=True)
class Tally:
    """What became of the files of a fault test: how many were sent, interrupted while they were, resumed, compared."""

    sent: int = 0
    interrupted: int = 0
    resumed: int = 0
    """those of the interrupted that went on behind what had arrived"""
    compared: int = 0
    """those whose every byte was compared with what was written, or their SHA-256 with its"""

    def tell(self, figures: Figures, fault: str) -> None:
        """Take and print them as one figure."""
        became = f"{self.interrupted} interrupted, {self.resumed} resumed, {self.compared} compared"
        figures(f"{fault}: files sent ({became})", self.sent)


def taken(properties: Iterable[tuple[str, object]]) -> list[Figure]:
    """The figures among a test's properties."""
    return [Figure(**values) for name, values in properties if name == PROPERTY and isinstance(values, dict)]
