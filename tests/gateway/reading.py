"""A user's side of the gateway, for tests: listings, and refusals as values."""

import aiohttp
from edgewise.gateway.attempts import AttemptList
from edgewise.gateway.files import Listing
from edgewise_agent.wire import Problem
from msgspec import json

from tests.gateway.surroundings import eventually

JOB = "/v1/namespaces/demo/jobs/faces"


async def attempts_of(session: aiohttp.ClientSession) -> AttemptList:
    async with session.get(f"{JOB}/attempts") as response:
        assert response.status == 200, await response.text()
        return json.decode(await response.read(), type=AttemptList)


async def listing_of(session: aiohttp.ClientSession, query: str = "") -> Listing:
    async with session.get(f"{JOB}/files{query}") as response:
        assert response.status == 200, await response.text()
        return json.decode(await response.read(), type=Listing)


async def published(session: aiohttp.ClientSession) -> Listing:
    """The listing, once the operator's verdict has reached the disk."""

    async def complete_state() -> bool:
        return (await listing_of(session)).state in ("Complete", "Partial")

    await eventually(complete_state, "the results are published")
    return await listing_of(session)


async def refusal(session: aiohttp.ClientSession, path: str) -> tuple[int, Problem]:
    async with session.get(path) as response:
        return response.status, json.decode(await response.read(), type=Problem)
