"""What the service calls outside: the provider of payments, and the groups whose pictures are sold."""

from abc import ABC, abstractmethod

from services.items.payments import Charge, Payment


class Refused(Exception):
    """The provider has decided: it does not do this, and nothing has changed. Its message is for people.

    Whoever asks again needs another key; the same key is refused again.
    """


class Provider(ABC):
    """Moves money.

    Every operation carries a key of the caller's: the provider does the work of one key once, and answers the same key
    again with what came of it. `Unavailable` says that nobody knows whether it was done: ask again with the same key.
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
