"""The plain HTTP door: /healthz, /readyz and /metrics. It reads what others report of themselves."""

from collections.abc import Callable
from http import HTTPStatus

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

Check = Callable[[], str | None]
"""What is wrong, in words; None: nothing."""


class Health:
    """Answers for the process. While it only waits to lead, nothing can be wrong."""

    def __init__(self) -> None:
        self.checks: list[Check] = []

    def application(self) -> web.Application:
        """The aiohttp application."""
        application = web.Application()
        application.router.add_get("/healthz", self.healthz)
        application.router.add_get("/readyz", self.readyz)
        application.router.add_get("/metrics", self.metrics)
        return application

    async def healthz(self, request: web.Request) -> web.Response:
        """200 while all is well, else 503 with what is not, so that kubelet starts the process anew."""
        faults = [fault for check in self.checks if (fault := check())]
        if faults:
            return web.Response(text="; ".join(faults) + "\n", status=HTTPStatus.SERVICE_UNAVAILABLE)
        return web.Response(text="ok\n")

    async def readyz(self, request: web.Request) -> web.Response:
        """200 as soon as the process is up: a standby is ready to take over."""
        return web.Response(text="ok\n")

    async def metrics(self, request: web.Request) -> web.Response:
        """Prometheus metrics."""
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
