"""What the service calls outside: the provider of payments, the groups whose pictures are sold, and its own books."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Generic, TypeVar

from services.items.orders import Order, Recipient
from services.items.orders import State as OrderState
from services.items.payments import Asked, Charge, Payment
from services.items.presales import Presale, State, Terms
from services.runtime.pages import Page

Item = TypeVar("Item")


class Groups(ABC):
    """The generation service's groups."""

    @abstractmethod
    async def images(self, group_id: str) -> tuple[str, Collection[str]]:
        """The merchant of a group, and its pictures' ids; raises NotFound, or Unavailable."""

    @abstractmethod
    async def check(self) -> None:
        """Returns when the generation service answers."""


class Refused(Exception):
    """The provider has decided: it does not do this, and nothing has changed. Its message is for people.

    Whoever asks again needs another key; the same key is refused again.
    """


class Provider(ABC):
    """Moves money.

    Every operation carries a key of the caller's: the provider does the work of one key once, and for a day answers the
    same key again with what came of it. `Unavailable` says that nobody knows whether it was done: ask again with the
    same key.
    """

    @abstractmethod
    async def start(self, key: str, charge: Charge) -> Payment:
        """Begins an order's payment. One that the provider declines comes back FAILED.

        Raises:
            Refused: there is no payment, and will be none.
            Unavailable: unknown.
        """

    @abstractmethod
    async def capture(self, key: str, payment_id: str) -> Payment:
        """Charges all that is held; raises as `release`."""

    @abstractmethod
    async def release(self, key: str, payment_id: str) -> Payment:
        """Ends a payment that is PENDING or HELD.

        Raises:
            Refused: its state does not allow it, such as a hold that has run out, or a payment that was charged.
            Unavailable: unknown.
        """

    @abstractmethod
    async def refund(self, key: str, payment_id: str, amount: int) -> Payment:
        """Gives back so many minor units of what is charged; raises as `release`."""

    @abstractmethod
    async def find(self, payment_id: str) -> Payment:
        """The payment as it is now.

        Raises:
            Refused: there is none.
            Unavailable: the provider does not answer.
        """

    @abstractmethod
    async def of_order(self, order_id: str) -> Payment | None:
        """The payment that was begun for an order, under whichever key; None where there is none.

        One that was begun some minutes ago may be missing. Raises Unavailable.
        """

    @abstractmethod
    def paid(self, payload: bytes, signature: str) -> str | None:
        """The payment_id that a posted event is about; None for an event about something else.

        Raises:
            PermissionDenied: the provider has not signed it.
        """

    @abstractmethod
    async def check(self) -> None:
        """Returns when the provider answers; raises Unavailable otherwise."""

    @abstractmethod
    async def close(self) -> None:
        """Lets go of connections."""


class Sale(ABC):
    """One presale and its orders, locked against everybody else until the transaction ends.

    Whatever changes here is stored with all that follows from it: the counts of units, the ledger's entries, what the
    provider is asked next, the record of changes, and the events on Kafka.
    """

    presale: Presale
    now_us: int  # by the database's clock, after the lock was taken

    @abstractmethod
    async def change(self, presale: Presale, actor: str, reason: str = "") -> None:
        """The presale as it is from now on."""

    @abstractmethod
    async def place(self, request_id: str, order: Order, ship_to: Recipient | None = None) -> Order:
        """A new order, and whom it is sent to."""

    @abstractmethod
    async def placed(self, request_id: str) -> Order | None:
        """The order that a request placed, of whichever presale."""

    @abstractmethod
    async def bought(self, buyer_id: str) -> int:
        """Units of this presale in a buyer's orders that are paid or being paid."""

    @abstractmethod
    async def order(self, order_id: str) -> Order:
        """An order of this presale; raises NotFound."""

    @abstractmethod
    async def orders(self, states: Collection[OrderState], most: int) -> Sequence[Order]:
        """Orders in these states, the first placed first."""

    @abstractmethod
    async def uncaptured(self, most: int) -> Sequence[Order]:
        """Secured orders whose money was not yet asked to be captured."""

    @abstractmethod
    async def unasked(self, most: int) -> Sequence[Order]:
        """Orders of a production, not yet shipped, whose buyers have not been told of a delay."""

    @abstractmethod
    async def counts(self) -> Mapping[OrderState, int]:
        """Orders by state."""

    @abstractmethod
    async def change_order(self, order: Order, actor: str, reason: str = "", *, after_us: int = 0) -> Order:
        """An order as it is from now on; what the provider is asked next is due so much later. Returns it as stored."""

    @abstractmethod
    async def close_operation(self, asked: Asked, state: str, failure: str = "") -> None:
        """The provider has answered an operation: "done" or "refused"."""

    @abstractmethod
    async def look(self, order_id: str, after_us: int) -> None:
        """The provider is asked how the payment stands, so much later, or earlier if that is due before."""

    @abstractmethod
    async def delay_of(self, request_id: str) -> tuple[int, str, int] | None:
        """The days, the reason, and the number of orders asked, of a delay that was told under this request id."""

    @abstractmethod
    async def note_delay(self, request_id: str, days: int, reason: str, orders_asked: int) -> None:
        """Remembers a delay, for the record, too."""

    @abstractmethod
    def work_begins(self) -> None:
        """The clock is here: it comes back only if it is called again."""

    @abstractmethod
    def work_is_left(self) -> None:
        """The clock comes back at once: a batch was full."""


@dataclass(frozen=True)
class Change:
    """One change of a presale, or of an order of it."""

    order_id: str  # "" for the presale's own
    actor: str
    from_state: str
    to_state: str
    reason: str
    time_us: int


@dataclass(frozen=True)
class Listed(Generic[Item]):
    """A page of a list, and the number after which the next one begins; None on the last."""

    items: Sequence[Item]
    last: int | None


@dataclass(frozen=True)
class Backlog:
    """What waits for the provider of payments."""

    waiting: int  # operations without an answer
    oldest_us: int  # for how long the one has been due that was due first; 0 where none is


@dataclass(frozen=True)
class Audit:
    """What the books as a whole show."""

    stuck: int  # orders whose money it keeps refusing to move
    unbalanced: int  # currencies in which the ledger does not sum to zero


class Books(ABC):
    """Presales, orders and money, for good."""

    @abstractmethod
    async def create(self, request_id: str, presale_id: str, user_id: str, terms: Terms) -> Presale:
        """A draft; of a request that was stored before, its presale.

        Raises:
            AlreadyExists: the request had other terms, or was another merchant's.
        """

    @abstractmethod
    def sale(self, presale_id: str) -> AbstractAsyncContextManager[Sale]:
        """The presale, locked; raises NotFound."""

    @abstractmethod
    def sale_of(self, order_id: str) -> AbstractAsyncContextManager[Sale]:
        """The presale of an order, locked; raises NotFound."""

    @abstractmethod
    async def placed(self, request_id: str) -> Order | None:
        """The order that a request placed."""

    @abstractmethod
    async def read(self, presale_id: str) -> Presale:
        """A presale as it is now; raises NotFound."""

    @abstractmethod
    async def read_order(self, order_id: str) -> Order:
        """An order as it is now; raises NotFound."""

    @abstractmethod
    async def recipients(self, order_ids: Collection[str]) -> Mapping[str, Recipient]:
        """Whom these orders are sent to, as far as it is known, by order."""

    @abstractmethod
    async def forget_recipients(self, after_us: int) -> int:
        """Erases whom orders were sent to that ended, or could last be given back, so long ago; how many."""

    @abstractmethod
    async def order_of_payment(self, payment_id: str) -> str | None:
        """The order that a payment is for."""

    @abstractmethod
    async def claim(self, most: int, lease_us: int, *, order_id: str = "") -> Sequence[Asked]:
        """Operations that are due, not to be claimed again before the lease is over.

        Of one order, also those that nobody has begun yet.
        """

    @abstractmethod
    async def postpone(self, asked: Asked, after_us: int) -> None:
        """The provider has not answered; the same operation is due again so much later."""

    @abstractmethod
    async def due(self, most: int) -> tuple[Sequence[str], Sequence[str]]:
        """Presales, and orders, that the clock may change now, by their ids."""

    @abstractmethod
    async def backlog(self) -> Backlog:
        """What waits for the provider."""

    @abstractmethod
    async def audit(self) -> Audit:
        """What all orders and the whole ledger show; it takes the longer the more there are."""

    @abstractmethod
    async def counts(self, presale_id: str) -> tuple[Mapping[OrderState, int], int]:
        """A presale's orders by state, and how many of them the provider keeps refusing to move money for."""

    @abstractmethod
    async def presales(self, user_id: str, page: Page, states: Collection[State]) -> Listed[Presale]:
        """A merchant's presales in these states, or all if there are none, the last made first."""

    @abstractmethod
    async def orders(self, presale_id: str, page: Page) -> Listed[Order]:
        """A presale's orders, the last placed first."""

    @abstractmethod
    async def changes(self, presale_id: str, page: Page) -> Listed[Change]:
        """What happened to a presale and its orders, the last first."""
