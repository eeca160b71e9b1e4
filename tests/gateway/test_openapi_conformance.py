"""The gateway's process, asked what its OpenAPI document allows and what it does not, answers as the document says.

The requests are drawn from the document, the same in every run; of their path some parts name what there really is.
"""

import asyncio
from typing import Any

import aiohttp
import hypothesis
import schemathesis
from edgewise.gateway.openapi import document
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import CheckFunction
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.gateway.reading import published
from tests.gateway.sending import FACES, LOG, send
from tests.gateway.surroundings import JOB_UID, POD_UID, World, free_port, sha256
from tests.gateway.tars import tar_of
from tests.gateway.test_bundles import stored
from tests.gateway.test_gateway_process import process
from tests.gateway.test_streams import STREAM_UID

EXAMPLES = 25
"""How many requests are drawn for each operation."""
CHECKS: list[CheckFunction] = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
REAL = {
    "namespace": "demo",
    "number": 1,
    "name": "faces.csv",
    "stream": "scan",
    "run": "faces",
    "sha256": sha256(FACES),
    "pod": POD_UID,
}


# Their bodies are drawn as bytes: nearly none is a tar, and all are refused in the same way.
schemathesis.serializer.alias(["application/x-tar", "application/gzip"], "application/octet-stream")


def ask_everything(url: str, ca_file: str, digest: str) -> int:
    """Draws and sends the requests; how many it were. Fails by every operation with an answer not as documented.

    `digest` is a bundle's that is there.
    """
    sent = 0
    faults: list[Exception] = []
    for found in schemathesis.openapi.from_dict(document()).get_all_operations():
        assert isinstance(found, Ok), found
        try:
            sent += ask_operation(found.ok(), url, ca_file, digest)
        except Exception as fault:
            faults.append(fault)
    if faults:
        raise ExceptionGroup("answers are not as documented", faults)
    return sent


def ask_operation(operation: Any, url: str, ca_file: str, digest: str) -> int:
    """The requests of one operation; how many it were."""
    uploads = operation.path.startswith("/v1/uploads")
    real = REAL | {"job": JOB_UID if uploads else "faces", "digest": digest}
    headers = {"Authorization": f"Bearer {'agent-1' if uploads else 'ada'}"}
    cases = st.one_of(
        operation.as_strategy(generation_mode=GenerationMode.POSITIVE),
        operation.as_strategy(generation_mode=GenerationMode.NEGATIVE),
    )
    sent = 0

    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=cases, made_up=st.sets(st.sampled_from(sorted(real)), max_size=1))
    def ask(case: Any, made_up: set[str]) -> None:
        nonlocal sent
        for name in (case.path_parameters or {}).keys() - made_up:
            case.path_parameters[name] = real[name]
        case.call_and_validate(base_url=url, headers=headers, verify=ca_file, checks=CHECKS)
        sent += 1

    ask()
    return sent


async def test_every_answer_is_as_documented(world: World) -> None:
    port = free_port()
    connector = aiohttp.TCPConnector(ssl=world.authority.client_context())
    async with (
        process(world, port),
        aiohttp.ClientSession(f"https://localhost:{port}", connector=connector) as session,
    ):
        session.headers["Authorization"] = "Bearer agent-1"
        world.api.make_run("scan", STREAM_UID)
        world.api.streams["demo", "scan"] = STREAM_UID
        world.api.stream_readers.add(("ada", "demo", "scan"))
        await send(session, {"faces.csv": FACES}, logs={"app/0.log": LOG})
        session.headers["Authorization"] = "Bearer ada"
        await published(session)
        bundle = await stored(session, tar_of({"main.py": b"print(1)"}))
        url = f"https://localhost:{port}"
        sent = await asyncio.to_thread(ask_everything, url, str(world.authority.file), bundle.digest)
    assert sent > EXAMPLES
