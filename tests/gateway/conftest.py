"""A world for a gateway: API server, operator and CA on loopback, an empty volume, one job that ran on edge-1."""

import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from edgewise.gateway.settings import Settings

from tests.gateway.surroundings import (
    AGENT,
    API_AUDIENCE,
    JOB_UID,
    NAMESPACE,
    POD_UID,
    ApiServer,
    Authority,
    Operator,
    Token,
    World,
    kubeconfig,
    serving,
)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    authority = Authority(tmp_path)
    authority.write_pair(tmp_path / "tls", "gateway")
    authority.write_pair(tmp_path / "operator-tls", "operator")
    api = ApiServer(
        tokens={
            "agent-1": Token(AGENT, node="edge-1"),
            "agent-2": Token(AGENT, node="edge-2"),
            "unbound": Token(AGENT),
            "pod-1": Token("system:serviceaccount:demo:default", node="edge-1"),
            "ada": Token("ada", audience=API_AUDIENCE),
            "bob": Token("bob", audience="edgewise"),
        },
        app_users={("ada", "demo", "create"), ("ada", "demo", "get"), ("bob", "demo", "get")},
        readers={("ada", "demo", "faces"), ("bob", "demo", "faces")},
    )
    api.add_job(JOB_UID, [{"number": 1, "node": "edge-1", "podName": "faces-11111-1", "podUID": POD_UID}])
    operator = Operator()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "operator-tls" / "tls.crt", tmp_path / "operator-tls" / "tls.key")
    tmp_path.joinpath("token").write_text("gateway-token\n")
    async with serving(api.app()) as api.url, serving(operator.app(), context) as operator.url:
        tmp_path.joinpath("kubeconfig").write_text(kubeconfig(api.url))
        yield World(
            authority=authority,
            api=api,
            operator=operator,
            settings=Settings(
                namespace=NAMESPACE,
                data_dir=tmp_path / "volume",
                tls_dir=tmp_path / "tls",
                ca_file=authority.file,
                token_file=tmp_path / "token",
                operator_url=operator.url,
                agent_service_account="edgewise-agent",
                https_port=0,
                http_port=0,
                attempts_kept=timedelta(days=7),
                namespace_quota=None,
                log_level="INFO",
                kubeconfig=tmp_path / "kubeconfig",
            ),
        )
