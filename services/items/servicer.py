"""ItemsService: requests checked and turned into work, and the outcome back into messages."""

from dataclasses import dataclass

from perfusion.v1 import items_service_pb2 as api
from perfusion.v1 import items_service_pb2_grpc as api_grpc
from perfusion.v1 import presale_pb2 as pb

from services.items import messages, requests
from services.items.orders import MADE, Order
from services.items.ports import Provider
from services.items.recording import ShopEvents
from services.items.selling import Selling
from services.items.settling import Settling
from services.runtime import callers
from services.runtime.fields import Fields
from services.runtime.pages import Page, page_of


@dataclass(frozen=True)
class ItemsServicer(api_grpc.ItemsServiceServicer):
    """Errors are raised as they come; the runtime's interceptor gives them their status."""

    selling: Selling
    settling: Settling
    provider: Provider
    shop: ShopEvents

    async def CreatePresale(self, request: api.CreatePresaleRequest, context: object) -> api.CreatePresaleResponse:
        presale = await self.selling.create(*requests.created(request))
        return api.CreatePresaleResponse(presale=messages.presale_message(presale))

    async def UpdatePresale(self, request: api.UpdatePresaleRequest, context: object) -> api.UpdatePresaleResponse:
        presale = await self.selling.edit(*requests.edited(request))
        return api.UpdatePresaleResponse(presale=messages.presale_message(presale))

    async def OpenPresale(self, request: api.OpenPresaleRequest, context: object) -> api.OpenPresaleResponse:
        presale = await self.selling.open(*requests.owned(request), request.etag)
        return api.OpenPresaleResponse(presale=messages.presale_message(presale))

    async def CancelPresale(self, request: api.CancelPresaleRequest, context: object) -> api.CancelPresaleResponse:
        presale = await self.selling.cancel(*requests.owned(request), request.etag, request.reason)
        return api.CancelPresaleResponse(presale=messages.presale_message(presale))

    async def DecidePresale(self, request: api.DecidePresaleRequest, context: object) -> api.DecidePresaleResponse:
        owned = requests.owned(request)
        decision = requests.decision_of(request)
        presale = await self.selling.decide(*owned, request.etag, decision, request.reason)
        return api.DecidePresaleResponse(presale=messages.presale_message(presale))

    async def DelayPresale(self, request: api.DelayPresaleRequest, context: object) -> api.DelayPresaleResponse:
        presale, asked = await self.selling.delay(*requests.delayed(request), request.days, request.reason)
        return api.DelayPresaleResponse(presale=messages.presale_message(presale), orders_asked=asked)

    async def FailProduction(self, request: api.FailProductionRequest, context: object) -> api.FailProductionResponse:
        presale = await self.selling.fail(*requests.owned(request), request.reason)
        return api.FailProductionResponse(presale=messages.presale_message(presale))

    async def GetPresale(self, request: api.GetPresaleRequest, context: object) -> api.GetPresaleResponse:
        presale = await self.selling.read(requests.presale_id_of(request), callers.acts_for)
        counts, stuck = await self.selling.books.counts(presale.presale_id)
        return api.GetPresaleResponse(presale=messages.presale_message(presale, counts, stuck))

    async def ListPresales(self, request: api.ListPresalesRequest, context: object) -> api.ListPresalesResponse:
        fields = Fields()
        user_id, states = fields.user_id(request.user_id), requests.states_of(fields, request)
        scope = messages.presales_scope(user_id, states)
        page = page_of(fields, request.page_size, request.page_token, scope)
        fields.done()
        return messages.presales_page(scope, await self.selling.books.presales(user_id, page, states))

    async def PlaceOrder(self, request: api.PlaceOrderRequest, context: object) -> api.PlaceOrderResponse:
        order = await self.selling.place(requests.wanted(request))
        return api.PlaceOrderResponse(order=await self._of_buyer(order))

    async def GetOrder(self, request: api.GetOrderRequest, context: object) -> api.GetOrderResponse:
        order = await self.selling.read_order(*requests.of_order(request.order_id, request.buyer_id, "buyer_id"))
        return api.GetOrderResponse(order=await self._of_buyer(order))

    async def _of_buyer(self, order: Order) -> pb.Order:
        known = await self.selling.books.recipients([order.order_id])
        return messages.order_message(order, known.get(order.order_id))

    async def ListOrders(self, request: api.ListOrdersRequest, context: object) -> api.ListOrdersResponse:
        scope = messages.orders_scope(request.presale_id)
        presale_id, page = await self._own(request, scope)
        found = await self.selling.books.orders(presale_id, page)
        made = [order.order_id for order in found.items if order.state in MADE]
        return messages.orders_page(presale_id, found, await self.selling.books.recipients(made))

    async def CancelOrder(self, request: api.CancelOrderRequest, context: object) -> api.CancelOrderResponse:
        order = await self.selling.cancel_order(*requests.of_order(request.order_id, request.buyer_id, "buyer_id"))
        return api.CancelOrderResponse(order=messages.order_message(order))

    async def AnswerDelay(self, request: api.AnswerDelayRequest, context: object) -> api.AnswerDelayResponse:
        named = requests.of_order(request.order_id, request.buyer_id, "buyer_id")
        return api.AnswerDelayResponse(
            order=messages.order_message(await self.selling.answer_delay(*named, request.consents))
        )

    async def ShipOrder(self, request: api.ShipOrderRequest, context: object) -> api.ShipOrderResponse:
        order = await self.selling.ship(*requests.shipped(request))
        return api.ShipOrderResponse(order=messages.order_message(order, with_action=False))

    async def ReceivePaymentEvent(
        self, request: api.ReceivePaymentEventRequest, context: object
    ) -> api.ReceivePaymentEventResponse:
        payment_id = self.provider.paid(*requests.payload_of(request))
        if payment_id is not None:
            await self.settling.look(payment_id)
        return api.ReceivePaymentEventResponse()

    async def ListChanges(self, request: api.ListChangesRequest, context: object) -> api.ListChangesResponse:
        scope = messages.changes_scope(request.presale_id)
        presale_id, page = await self._own(request, scope)
        return messages.changes_page(presale_id, await self.selling.books.changes(presale_id, page))

    async def RecordShopEvents(
        self, request: api.RecordShopEventsRequest, context: object
    ) -> api.RecordShopEventsResponse:
        await self.shop.record(requests.shop_events_of(request))
        return api.RecordShopEventsResponse()

    async def _own(
        self, request: api.ListOrdersRequest | api.ListChangesRequest, scope: tuple[str, ...]
    ) -> tuple[str, Page]:
        """The page of a list of a presale of the merchant's."""
        fields = Fields()
        presale_id, user_id = fields.uuid(request.presale_id, "presale_id"), fields.user_id(request.user_id)
        page = page_of(fields, request.page_size, request.page_token, scope)
        fields.done()
        return (await self.selling.read_own(presale_id, user_id)).presale_id, page
