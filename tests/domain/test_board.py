"""A board that looks again only at what was taken shows the same ranking as one that looks at everything."""

from copy import deepcopy

from edgewise.domain.board import Board, Standing
from edgewise.domain.demand import Demand, requested, usage_of
from edgewise.domain.placement import place
from edgewise.domain.views import AppView, Installation
from hypothesis import given
from hypothesis import strategies as st

from tests.domain.builders import NOW, app, beat, device, job, snapshot

LIGHT, HUNGRY = app("light"), app("hungry", resources={"requests": {"memory": "3Gi"}})


def demand(what: AppView, avoid: list[str]) -> Demand:
    view = job(spec={"appRef": {"name": what.key.name}, "placement": {"avoid": avoid}})
    return Demand(view.key, view.uid, view.spec, what.spec, requested(what.spec))


DEMANDS = st.builds(demand, st.sampled_from((LIGHT, HUNGRY)), st.sampled_from(([], ["edge-1"], ["edge-2", "edge-3"])))


def shown(standing: Standing) -> tuple[list[str], list[tuple[str, str]]]:
    return [one.node for one in standing.candidates], [(one.node, one.reason) for one in standing.rejected]


@given(
    queue=st.lists(DEMANDS, min_size=1, max_size=30),
    speeds=st.lists(st.integers(0, 12_000), min_size=1, max_size=6),
    slots=st.integers(0, 5),
    policy=st.sampled_from(("Score", "ExpectedFinish")),
)
def test_looking_again_at_what_was_taken_is_enough(
    queue: list[Demand], speeds: list[int], slots: int, policy: str
) -> None:
    nodes = tuple(device(f"edge-{n}", beat=beat(events=events)) for n, events in enumerate(speeds, 1))
    world = snapshot(nodes=nodes, installation=Installation(default_policy=policy, default_slots=slots))
    board = Board(world, usage_of(world.nodes, ()), NOW)
    for one in queue:
        anew = deepcopy(board)
        anew._standings.clear()
        looked, fresh = board.standing(one), anew.standing(one)
        if any(not candidate.busy for candidate in looked.candidates):
            assert shown(looked) == shown(fresh)
        else:
            assert all(candidate.busy for candidate in fresh.candidates), "what can only wait goes on waiting"
        decision = place(one, board)
        assert (decision.node is None) == (not decision.candidates or decision.candidates[0].busy)
