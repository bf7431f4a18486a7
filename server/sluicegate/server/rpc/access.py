"""AccessService on the wire."""

from __future__ import annotations

import grpc

from sluicegate.server.access import Access
from sluicegate.server.paging import page
from sluicegate.server.rpc import requests, responses
from sluicegate.server.rpc.call import authenticated, current
from sluicegate.server.rpc.findings import duty_message
from sluicegate.server.rpc.validation import validate
from sluicegate.v1 import access_service_pb2
from sluicegate.v1.access_service_pb2_grpc import AccessServiceServicer

Context = grpc.aio.ServicerContext[object, object]


class AccessServicer(AccessServiceServicer):
    """Converts and passes on."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def GetCallerIdentity(
        self, request: access_service_pb2.GetCallerIdentityRequest, context: Context
    ) -> access_service_pb2.GetCallerIdentityResponse:
        caller = authenticated(context).caller
        validate(request)
        identity = self._access.identify(caller)
        message = responses.identity(caller.principal, identity)
        if (duty := await self._access.duty(identity)) is not None:
            message.agreement.finding_duty.CopyFrom(duty_message(duty))
        return message

    async def CheckAccess(
        self, request: access_service_pb2.CheckAccessRequest, context: Context
    ) -> access_service_pb2.CheckAccessResponse:
        caller = authenticated(context).caller
        validate(request)
        checked = self._access.check(caller, requests.check(request))
        if checked.denied is not None:
            current().denied = checked.denied.reason
        return responses.checked(checked)

    async def ListQuotas(
        self, request: access_service_pb2.ListQuotasRequest, context: Context
    ) -> access_service_pb2.ListQuotasResponse:
        caller = authenticated(context).caller
        validate(request)
        views, agreement = await self._access.quotas(caller, request.model)
        shown, following = page(views, lambda view: view.name, request.page_size, request.page_token)
        return access_service_pb2.ListQuotasResponse(
            quotas=map(responses.quota, shown), next_page_token=following, agreement=agreement or ""
        )
