"""The table and latest.json of the bench."""

import json
from pathlib import Path

import pytest

from bench.figures import Figure
from bench.report import ROWS, save
from bench.scale import Scale
from bench.table import Aim, Goal, Row, number, render

ROWS_OF_TWO = (
    Row("quick", "faster is better", Aim(Goal.AT_LEAST, 9)),
    Row("small", "less is better", Aim(Goal.AT_MOST, 1.1)),
    Row("told", "no aim"),
    Row("missing", "not measured"),
)


def test_table_says_what_is_met() -> None:
    figures = {"quick": Figure(8.99, 7, 12.5), "small": Figure(1.1, 0.5, 2), "told": Figure(1234.5, 1, 2000)}

    assert render(ROWS_OF_TWO, figures).splitlines() == [
        "figure  median    min   max    aim  met  what it is",
        "quick     8.99   7.00  12.5    ≥ 9  NO   faster is better",
        "small     1.10  0.500  2.00  ≤ 1.1  yes  less is better",
        "told      1234   1.00  2000              no aim",
    ]


@pytest.mark.parametrize(
    ("value", "text"), [(1234.5, "1234"), (99.96, "100.0"), (9.994, "9.99"), (0.0123, "0.0123"), (0, "0.0000")]
)
def test_numbers_keep_three_digits_that_count(value: float, text: str) -> None:
    assert number(value) == text


def test_latest_json_has_each_figure_with_its_spread(tmp_path: Path) -> None:
    file = tmp_path / "latest.json"

    save({"p50_vs_job": Figure(1.5, 1.25, 2.0)}, Scale(rounds=3), file)

    told = json.loads(file.read_text())
    assert told["p50_vs_job"] == {"median": 1.5, "min": 1.25, "max": 2.0}
    assert told["about"]["scale"]["rounds"] == 3


def test_every_row_has_a_name_of_its_own() -> None:
    keys = [row.key for row in ROWS]

    assert len(keys) == len(set(keys))
