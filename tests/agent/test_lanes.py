"""Who may be sent at once: tables of what is due, and what starts."""

import pytest
from edgewise_agent.journal import LOGS
from edgewise_agent.lanes import MANY_FILES, PATIENCE_SECONDS, SMALL_BYTES, Lanes, in_order
from edgewise_agent.settings import Settings
from edgewise_agent.volumes.table import Held
from edgewise_agent.wire import VolumeState
from msgspec.structs import replace

from tests.agent.kubelet import Pod, outputs
from tests.agent.test_table import entry

SIZES = {"s": SMALL_BYTES, "l": SMALL_BYTES + 1}


def volumes(settings: Settings, letters: str) -> list[Held]:
    return [
        Held(entry(Pod(settings.kubelet_root, number)), VolumeState.SPOOLED, 0, SIZES[letter])
        for number, letter in enumerate(letters)
    ]


@pytest.mark.parametrize(
    ("count", "due", "started"),
    [
        (1, "lss", [0]),
        (1, "sss", [0]),
        (2, "lls", [0, 2]),
        (2, "sss", [0, 1]),
        (2, "lll", [0]),
        (2, "sll", [0]),
        (3, "llls", [0, 1, 3]),
        (3, "ssss", [0, 1, 2]),
        (2, "", []),
    ],
)
def test_what_starts_first(settings: Settings, count: int, due: str, started: list[int]) -> None:
    held = volumes(settings, due)
    assert Lanes(count).take(held) == [held[number] for number in started]


def test_of_volumes_with_very_many_files_one_goes_at_a_time(settings: Settings) -> None:
    many = [
        Held(
            entry(Pod(settings.kubelet_root, number, asked=outputs(max_files=MANY_FILES + 1))),
            VolumeState.SPOOLED,
            0,
            SIZES["s"],
        )
        for number in (10, 11)
    ]
    (few,) = volumes(settings, "s")
    lanes = Lanes(4)
    assert lanes.take([*many, few]) == [many[0], few]
    lanes.leave(many.pop(0))
    assert lanes.take([*many, few]) == [many[0]]


def test_a_lane_left_goes_to_the_oldest_that_it_is_for(settings: Settings) -> None:
    lanes, held = Lanes(2), volumes(settings, "llsls")
    assert lanes.take(held) == [held[0], held[2]]
    assert lanes.take(held) == []
    lanes.leave(held.pop(2))
    assert lanes.take(held) == [held[3]], "the small lane is for small ones, whatever is older"
    lanes.leave(held.pop(0))
    assert lanes.take(held) == [held[0]]


def of_kinds(settings: Settings, kinds: str) -> list[Held]:
    """Large volumes: results (r), files of a running app (a), logs alone (l), kept copies (k)."""
    states = {"a": VolumeState.LIVE, "k": VolumeState.DONE}
    return [
        Held(
            replace(entry(Pod(settings.kubelet_root, number)), kind=LOGS if kind == "l" else "outputs"),
            states.get(kind, VolumeState.SPOOLED),
            0,
            SIZES["l"],
        )
        for number, kind in enumerate(kinds)
    ]


@pytest.mark.parametrize(
    ("due", "patience_is_over", "order"),
    [
        ("rrr", [], [0, 1, 2]),
        ("lar", [], [2, 1, 0]),
        ("alarlr", [], [3, 5, 0, 2, 1, 4]),
        ("rrl", [2], [2, 0, 1]),
        ("rra", [2], [2, 0, 1]),
        ("rlalar", [3, 4], [3, 4, 0, 5, 2, 1]),
        ("rrr", [2], [0, 1, 2]),
        ("rkal", [], [0, 1, 2, 3]),
    ],
)
def test_results_come_before_files_of_running_apps_before_logs(
    settings: Settings, due: str, patience_is_over: list[int], order: list[int]
) -> None:
    held = of_kinds(settings, due)
    waited = {
        one.entry.volume_id: PATIENCE_SECONDS + (1 if number in patience_is_over else -1)
        for number, one in enumerate(held)
    }
    assert in_order(held, waited) == [held[number] for number in order]
    assert in_order(held, {}) == in_order(held, dict.fromkeys(waited, 0.0))


@pytest.mark.parametrize(
    ("under_way", "due", "wait"), [("a", "r", True), ("a", "a", False), ("a", "l", False), ("a", "k", False)]
)
def test_only_results_that_found_no_lane_are_waited_for(
    settings: Settings, under_way: str, due: str, wait: bool
) -> None:
    lanes, held = Lanes(1), of_kinds(settings, under_way + due)
    assert lanes.take(held) == held[:1]
    assert lanes.results_wait is wait
    lanes.leave(held.pop(0))
    lanes.take(held)
    assert not lanes.results_wait


def test_what_is_made_ready_aside_holds_no_lane(settings: Settings) -> None:
    lanes, (first, second, third) = Lanes(1), volumes(settings, "lll")
    assert lanes.take([first, second, third]) == [first]
    with lanes.aside(first):
        assert lanes.take([first, second, third]) == [second]
        assert lanes.take([first, second, third]) == []
    lanes.leave(second)
    assert lanes.take([second, third]) == [], "the first has its lane again"
    lanes.leave(first)
    assert lanes.take([second, third]) == [second]
