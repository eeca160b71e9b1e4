"""Who may be sent at once: tables of what is due, and what starts."""

import pytest
from edgewise_agent.lanes import MANY_FILES, SMALL_BYTES, Lanes
from edgewise_agent.settings import Settings
from edgewise_agent.volumes.table import Held
from edgewise_agent.wire import VolumeState

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
