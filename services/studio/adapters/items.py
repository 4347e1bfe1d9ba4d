"""The items service over gRPC: a merchant's calls, and buyers' for the item's merchant."""

from collections.abc import Sequence

import grpc
from perfusion.v1 import items_service_pb2 as api
from perfusion.v1 import presale_pb2 as pb
from perfusion.v1.events_pb2 import ShopEvent
from perfusion.v1.items_service_pb2_grpc import ItemsServiceStub

from services.runtime.clients import check_serving
from services.runtime.errors import NotFound, PermissionDenied
from services.studio.adapters.calls import NOBODY, Calls
from services.studio.ports import Items, Placed

PLACE_ORDER = "perfusion.v1.ItemsService/PlaceOrder"
A_PAGE = 20


class GrpcItems(Items):
    """By one channel."""

    def __init__(self, channel: grpc.aio.Channel, calls: Calls) -> None:
        self._channel = channel
        self._stub = ItemsServiceStub(channel)
        self._calls = calls

    async def create(self, request: api.CreatePresaleRequest) -> pb.Presale:
        return (await self._calls.call(self._stub.CreatePresale, request, request.user_id)).presale

    async def edit(self, request: api.UpdatePresaleRequest) -> pb.Presale:
        return (await self._calls.call(self._stub.UpdatePresale, request, request.user_id)).presale

    async def open(self, request: api.OpenPresaleRequest) -> pb.Presale:
        return (await self._calls.call(self._stub.OpenPresale, request, request.user_id)).presale

    async def cancel(self, request: api.CancelPresaleRequest) -> pb.Presale:
        return (await self._calls.call(self._stub.CancelPresale, request, request.user_id)).presale

    async def decide(self, request: api.DecidePresaleRequest) -> pb.Presale:
        return (await self._calls.call(self._stub.DecidePresale, request, request.user_id)).presale

    async def delay(self, request: api.DelayPresaleRequest) -> int:
        return int((await self._calls.call(self._stub.DelayPresale, request, request.user_id)).orders_asked)

    async def give_up(self, request: api.FailProductionRequest) -> pb.Presale:
        return (await self._calls.call(self._stub.FailProduction, request, request.user_id)).presale

    async def presale(self, user_id: str, presale_id: str) -> pb.Presale:
        presale = await self._presale(user_id, presale_id)
        if presale.user_id != user_id:  # whoever it is may see it, and it is not theirs
            raise _no_presale()
        return presale

    async def shown(self, presale_id: str) -> pb.Presale:
        presale = await self._presale(NOBODY, presale_id)
        if not presale.HasField("open_time"):  # the service has refused it already
            raise _no_presale()
        return presale

    async def _presale(self, user_id: str, presale_id: str) -> pb.Presale:
        request = api.GetPresaleRequest(presale_id=presale_id)
        return (await self._calls.call(self._stub.GetPresale, request, user_id)).presale

    async def presales(
        self, user_id: str, page_token: str, *states: pb.PresaleState.ValueType
    ) -> api.ListPresalesResponse:
        request = api.ListPresalesRequest(user_id=user_id, page_size=A_PAGE, page_token=page_token, states=states)
        return await self._calls.call(self._stub.ListPresales, request, user_id)

    async def orders(self, user_id: str, presale_id: str, page_token: str) -> api.ListOrdersResponse:
        request = api.ListOrdersRequest(presale_id=presale_id, user_id=user_id, page_size=A_PAGE, page_token=page_token)
        return await self._calls.call(self._stub.ListOrders, request, user_id)

    async def changes(self, user_id: str, presale_id: str, page_token: str) -> api.ListChangesResponse:
        request = api.ListChangesRequest(
            presale_id=presale_id, user_id=user_id, page_size=A_PAGE, page_token=page_token
        )
        return await self._calls.call(self._stub.ListChanges, request, user_id)

    async def ship(self, request: api.ShipOrderRequest) -> pb.Order:
        return (await self._calls.call(self._stub.ShipOrder, request, request.user_id)).order

    async def place(self, user_id: str, request: api.PlaceOrderRequest) -> pb.Order:
        return (await self._calls.call(self._stub.PlaceOrder, request, user_id)).order

    async def order(self, placed: Placed) -> pb.Order:
        request = api.GetOrderRequest(order_id=placed.order_id, buyer_id=placed.buyer_id)
        try:
            return (await self._calls.call(self._stub.GetOrder, request, placed.user_id)).order
        except PermissionDenied as error:
            raise NotFound("order_id: there is no such order", field="order_id") from error

    async def cancel_order(self, placed: Placed) -> pb.Order:
        request = api.CancelOrderRequest(order_id=placed.order_id, buyer_id=placed.buyer_id)
        return (await self._calls.call(self._stub.CancelOrder, request, placed.user_id)).order

    async def answer_delay(self, placed: Placed, *, consents: bool) -> pb.Order:
        request = api.AnswerDelayRequest(order_id=placed.order_id, buyer_id=placed.buyer_id, consents=consents)
        return (await self._calls.call(self._stub.AnswerDelay, request, placed.user_id)).order

    async def receive(self, payload: bytes, signature: str) -> None:
        request = api.ReceivePaymentEventRequest(payload=payload, signature=signature)
        await self._calls.call(self._stub.ReceivePaymentEvent, request, NOBODY)

    async def record(self, user_id: str, seen: Sequence[ShopEvent]) -> None:
        await self._calls.call(self._stub.RecordShopEvents, api.RecordShopEventsRequest(events=seen), user_id)

    async def check(self) -> None:
        await check_serving(self._channel, PLACE_ORDER, name=self._calls.name, timeout_s=self._calls.timeout_s)


def _no_presale() -> NotFound:
    return NotFound("presale_id: there is no such presale", field="presale_id")
