"""The operators' listener: EngineService, away from the callers' port, behind the same interceptors."""

from __future__ import annotations

import grpc

from sluicegate.server.config import Settings
from sluicegate.server.rpc.drain import LAST_WORDS_SECONDS
from sluicegate.server.rpc.engine import EngineServicer
from sluicegate.server.rpc.listener import bind, reflect
from sluicegate.server.rpc.methods import REFLECTION_SERVICE, operator_services
from sluicegate.server.rpc.tls import server_credentials
from sluicegate.v1.engine_service_pb2_grpc import add_EngineServiceServicer_to_server


class OperatorListener:
    """Serves EngineService where the settings ask for it. Event loop only.

    `address` is None, and the rest does nothing, where they do not.
    """

    def __init__(self, server: grpc.aio.Server, settings: Settings) -> None:
        """Take the port, so that one in use is found before anything loads. Raises SettingsError."""
        self._server = server
        self._with_reflection = settings.reflection
        self.address: str | None = None
        if (listen := settings.operators.listen) is not None:
            section = "tls" if settings.operators.tls is None else "operators.tls"
            credentials = server_credentials(section, settings.operators_tls)
            self.address = bind(server, "operators.listen", listen, credentials)

    async def start(self, engine: EngineServicer) -> None:
        """Answer from now on."""
        if self.address is None:
            return
        add_EngineServiceServicer_to_server(engine, self._server)
        if self._with_reflection:
            names = [service.full_name for service in operator_services()]
            reflect(self._server, [*names, REFLECTION_SERVICE])
        await self._server.start()

    async def stop(self) -> None:
        """Close the port, whether it was started or not. Whoever has asked for a drain reads the answer."""
        if self.address is not None:
            await self._server.stop(LAST_WORDS_SECONDS)
