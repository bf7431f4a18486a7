"""ModelService on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc

from sluicegate.server.catalog import Catalog
from sluicegate.server.paging import page
from sluicegate.server.rpc import cards, responses
from sluicegate.server.rpc.call import authenticated, current
from sluicegate.server.rpc.validation import validate
from sluicegate.v1 import model_service_pb2
from sluicegate.v1.model_service_pb2_grpc import ModelServiceServicer

Context = grpc.aio.ServicerContext[object, object]


class ModelServicer(ModelServiceServicer):
    """Converts and passes on."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def ListModels(
        self, request: model_service_pb2.ListModelsRequest, context: Context
    ) -> model_service_pb2.ListModelsResponse:
        caller = authenticated(context).caller
        validate(request)
        views = self._catalog.list(caller)
        shown, following = page(views, lambda view: view.id, request.page_size, request.page_token)
        return model_service_pb2.ListModelsResponse(models=map(responses.model, shown), next_page_token=following)

    async def GetModel(
        self, request: model_service_pb2.GetModelRequest, context: Context
    ) -> model_service_pb2.GetModelResponse:
        caller = authenticated(context).caller
        validate(request)
        view = self._catalog.get(caller, request.model)
        return model_service_pb2.GetModelResponse(
            model=responses.model(view), card=cards.card(self._catalog.card(view))
        )

    async def WatchModels(
        self, request: model_service_pb2.WatchModelsRequest, context: Context
    ) -> AsyncIterator[model_service_pb2.WatchModelsResponse]:
        call = authenticated(context)
        validate(request)
        async for views in self._catalog.watch(call):
            current().has_answered = True
            yield model_service_pb2.WatchModelsResponse(models=map(responses.model, views))
