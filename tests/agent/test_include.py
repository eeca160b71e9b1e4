"""Which files `include` means."""

import pytest
from edgewise_agent.include import included
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("name", "patterns", "meant"),
    [
        ("faces.csv", ("*.csv",), True),
        ("day/faces.csv", ("*.csv",), True),
        ("faces.csv.tmp", ("*.csv",), False),
        ("faces.CSV", ("*.csv",), False),
        (".csv", ("*.csv",), True),
        ("faces.csv", ("*.json", "*.csv"), True),
        ("anything/at.all", (), True),
        ("day/faces.csv", ("day/*.csv",), True),
        ("day/night/faces.csv", ("day/*.csv",), False),
        ("day/night/faces.csv", ("day/**/*.csv",), True),
        ("day/faces.csv", ("day/**/*.csv",), True),
        ("other/faces.csv", ("day/**",), False),
        ("day", ("day/**",), True),
        ("a/b/c", ("**/c",), True),
        ("c", ("**/c",), True),
        ("day/faces.csv", ("/day/*.csv",), True),
        ("f1.csv", ("f[0-9].csv",), True),
        ("fx.csv", ("f?.csv",), True),
        ("day/a/b/night/c.csv", ("day/**/night/**/*.csv",), True),
    ],
)
def test_patterns(name: str, patterns: tuple[str, ...], meant: bool) -> None:
    assert included(name, patterns) is meant


@given(st.lists(st.text("ab", min_size=1, max_size=2), min_size=1, max_size=5))
def test_any_path_matches_itself_and_the_widest_patterns(parts: list[str]) -> None:
    name = "/".join(parts)
    assert included(name, (name,))
    assert included(name, ("*",))
    assert included(name, ("/**",))
    assert included(name, ("**/" + parts[-1],))
