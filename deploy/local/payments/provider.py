"""The bank as the port to a provider of payments, in one process: for tests of those who pay with it."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable

from deploy.local.payments.bank import Bank
from deploy.local.payments.books import FIND, Entry, Failed, KeyReused, Refusal
from services.items.payments import Charge, Payment
from services.items.ports import Provider, Refused
from services.runtime.errors import PermissionDenied, Unavailable

NAME = "payment provider"


def _yield() -> Awaitable[None]:
    return asyncio.sleep(0)


class FakeProvider(Provider):
    """`bank` shows the provider's side: faults to plan, what the buyer does, the totals.

    Args:
        secret: signs the events.
        pause: on the way to the bank and back, so that others may run between.
    """

    def __init__(
        self,
        bank: Bank | None = None,
        *,
        secret: str = "secret of the fake provider",
        pause: Callable[[], Awaitable[None]] = _yield,
    ) -> None:
        self.bank = Bank() if bank is None else bank
        self._secret = secret.encode()
        self._pause = pause

    async def start(self, key: str, charge: Charge) -> Payment:
        return await self._asked(lambda: self.bank.start(key, charge)[0])

    async def capture(self, key: str, payment_id: str) -> Payment:
        return await self._asked(lambda: self.bank.capture(key, payment_id)[0])

    async def release(self, key: str, payment_id: str) -> Payment:
        return await self._asked(lambda: self.bank.release(key, payment_id)[0])

    async def refund(self, key: str, payment_id: str, amount: int) -> Payment:
        return await self._asked(lambda: self.bank.refund(key, payment_id, amount)[0])

    async def find(self, payment_id: str) -> Payment:
        return await self._asked(lambda: self.bank.find(payment_id))

    async def of_order(self, order_id: str) -> Payment | None:
        await self._pause()
        try:
            entry = self.bank.of_order(order_id)
        except Failed as error:
            raise Unavailable(NAME) from error
        return None if entry is None else entry.payment

    def posts(self) -> list[tuple[bytes, str]]:
        """The events that are due, with their signatures; each is handed out once."""
        due = self.bank.due_posts()
        for post in due:
            self.bank.delivered(post)
        payloads = [
            json.dumps(
                {"id": post.event.event_id, "kind": post.event.kind, "payment_id": post.event.entry.payment.payment_id}
            ).encode()
            for post in due
        ]
        return [(payload, self._signature(payload)) for payload in payloads]

    def paid(self, payload: bytes, signature: str) -> str | None:
        if not hmac.compare_digest(self._signature(payload).encode(), signature.encode()):
            raise PermissionDenied("the event is not signed by the payment provider", field="signature")
        return str(json.loads(payload)["payment_id"])

    async def check(self) -> None:
        if self.bank.faults(FIND, "") is not None:
            raise Unavailable(NAME)

    async def close(self) -> None:
        pass

    def _signature(self, payload: bytes) -> str:
        return hmac.new(self._secret, payload, hashlib.sha256).hexdigest()

    async def _asked(self, work: Callable[[], Entry]) -> Payment:
        await self._pause()
        try:
            payment_id = work().payment.payment_id
        except Refusal as refusal:
            raise Refused(refusal.message) from refusal
        except KeyReused as error:
            raise Unavailable(NAME, "has another request under this key") from error
        except Failed as error:
            raise Unavailable(NAME) from error
        finally:
            await self._pause()
        return self.bank.look(payment_id).payment
