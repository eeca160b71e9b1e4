"""What the rounds have given so far, by the figure's name."""

from collections import defaultdict
from dataclasses import dataclass, field

from bench.figures import Figure


@dataclass(slots=True)
class Rounds:
    """One value a round for each figure."""

    values: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, **figures: float) -> None:
        """Take in what one round gave."""
        for key, value in figures.items():
            self.values[key].append(value)

    def figures(self) -> dict[str, Figure]:
        """The figures of all rounds so far."""
        return {key: Figure.of(values) for key, values in self.values.items()}
