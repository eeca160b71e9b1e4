"""No job lost, none run twice on purpose, none published twice, no device over-booked, none stuck: under random faults.

A failing script is shrunk and printed whole, and replays as it is printed. Scripts are drawn swarm-wise: each uses a
few kinds of faults often, which finds more than all kinds thinly spread.
"""

from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import SOAK
from tests.domain.simulator import Simulation, Step, Verb
from tests.domain.simulator_api import START

USUAL: Final = (Verb.APPLY_JOB, Verb.APPLY_JOB, Verb.PASS, Verb.PASS, Verb.PASS, Verb.PASS, Verb.WAIT, Verb.WAIT)
LOSSES: Final = (
    *(Verb.POWER_OFF, Verb.POWER_ON, Verb.UNPLUG, Verb.PLUG, Verb.WIPE, Verb.AGENT, Verb.KUBELET),
    *(Verb.WAIT_LONG, Verb.CRASH_MIDWAY),
)
RACES: Final = (*(Verb.FLAKY_PASS,) * 8, *(Verb.DELETE_POD,) * 5, *(Verb.HANG_WATCHES,) * 3)
OUTAGES: Final = (*(Verb.CUT_HOME,) * 3, Verb.PLUG, Verb.DECLARE_LOST, Verb.CRASH, *(Verb.WAIT_LONG,) * 2)
SETS: Final = (*(Verb.APPLY_SET,) * 4, *(Verb.CRASH_MIDWAY,) * 3, *(Verb.FLAKY_PASS,) * 4, Verb.DELETE_JOB, Verb.CANCEL)
STEPS: Final = 120

EXAMPLES: Final = 120


@st.composite
def scripts(draw: st.DrawFn) -> list[Step]:
    """Steps of which about a half are faults, of a few kinds."""
    swarm = st.lists(st.sampled_from(Verb), min_size=3, max_size=10, unique=True)
    faults = draw(st.one_of(swarm, st.just(LOSSES), st.just(RACES), st.just(OUTAGES), st.just(SETS)))
    verbs = st.sampled_from([*USUAL, *faults])
    fewest = STEPS - draw(st.integers(0, STEPS))
    return draw(st.lists(st.tuples(verbs, st.integers(0, 2**16)), min_size=fewest, max_size=STEPS))


@given(script=scripts(), size=st.sampled_from((3, 3, 6)))
@settings(
    max_examples=SOAK or EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_whatever_happens_every_job_ends_once(script: list[Step], size: int) -> None:
    Simulation.new(size).run(script)


def test_a_script_replays() -> None:
    script = [(verb, seed) for seed, verb in enumerate([*USUAL, *Verb, *USUAL] * 3)]
    first, second = Simulation.new(), Simulation.new()
    first.run(script)
    second.run(script)
    assert first.api.now > START
    assert (first.api.now, first.api.jobs, first.api.pods) == (second.api.now, second.api.jobs, second.api.pods)
    assert first.gateway.published == second.gateway.published


@pytest.mark.parametrize("verb", Verb)
def test_each_kind_of_fault_alone(verb: Verb) -> None:
    usual = [*USUAL, verb]
    Simulation.new(6).run([(usual[step % len(usual)], step) for step in range(10 * len(usual))])
