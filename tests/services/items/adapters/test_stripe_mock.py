"""What the adapter asks has the shape of Stripe's own description of its API: stripe-mock refuses anything else."""

from collections.abc import AsyncIterator

import httpx
import pytest

from services.items.adapters.stripe import StripeProvider
from services.items.payments import Charge
from services.items.ports import Refused
from tests.services.items.providers import KEY, RETURN_URL, STRIPE_MOCK, TIMEOUT_S, free_port, program, stripe_at

pytestmark = pytest.mark.skipif(not STRIPE_MOCK.exists(), reason="stripe-mock is not built: make payments-check")


@pytest.fixture
async def url() -> AsyncIterator[str]:
    http, https = free_port(), free_port()
    addresses = ("-http-addr", f"127.0.0.1:{http}", "-https-addr", f"127.0.0.1:{https}")
    async with program(STRIPE_MOCK, *addresses, port=http):
        yield f"http://127.0.0.1:{http}"


@pytest.fixture(params=[RETURN_URL, None])
async def provider(url: str, request: pytest.FixtureRequest) -> AsyncIterator[StripeProvider]:
    async with stripe_at(url, return_url=request.param) as made:
        yield made


@pytest.mark.parametrize("captures", [False, True])
async def test_every_request_has_stripes_shape_and_every_answer_is_read(
    provider: StripeProvider, captures: bool
) -> None:
    payment = await provider.start("key-1", Charge("order-1", 12_345, "EUR", "pm_card_visa", captures))
    assert payment.payment_id.startswith("pi_")
    assert (await provider.capture("key-2", payment.payment_id)).payment_id.startswith("pi_")
    assert (await provider.release("key-3", payment.payment_id)).payment_id.startswith("pi_")
    assert (await provider.refund("key-4", payment.payment_id, 45)).payment_id.startswith("pi_")
    assert (await provider.find(payment.payment_id)).payment_id.startswith("pi_")
    await provider.check()


async def test_a_wrong_shape_is_refused(provider: StripeProvider, url: str) -> None:
    with pytest.raises(Refused, match="amount"):
        await provider.refund("key-1", "pi_1", "many")  # type: ignore[arg-type]
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S, headers={"Authorization": f"Bearer {KEY}"}) as client:
        answer = await client.post("/v1/payment_intents", data={"amount": "1", "currency": "eur", "order": "1"})
    assert answer.status_code == 400 and "additional properties are not allowed" in answer.text
