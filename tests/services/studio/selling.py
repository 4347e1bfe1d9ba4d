"""The studio's pages over its own database and the items service's own logic, in one process."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from uuid import uuid4

import httpx
from perfusion.v1.events_pb2 import ShopEvent
from perfusion.v1.group_pb2 import Candidate, Group
from prometheus_client import CollectorRegistry

from services.items.servicer import ItemsServicer
from services.runtime import callers
from services.runtime.access import check_request
from services.runtime.callers import ACTING_FOR, Caller
from services.runtime.clock import Clock, now_us
from services.runtime.database import Database
from services.runtime.errors import ServiceError
from services.studio.adapters.calls import Calls, Token
from services.studio.adapters.items import GrpcItems
from services.studio.adapters.keepsakes import SqlKeepsakes
from services.studio.adapters.rounds import SqlRounds
from services.studio.adapters.sessions import SqlSessions
from services.studio.adapters.shops import SqlShops
from services.studio.adapters.studies import SqlStudies
from services.studio.catalogue import Catalogue
from services.studio.entering import Entering
from services.studio.following import Following
from services.studio.metrics import StudioMetrics
from services.studio.ports import Person
from services.studio.seeing import Sightings
from services.studio.showing import Pictures
from services.studio.visits import Studio
from services.studio.web import application, static_path
from tests.services.items.market import GROUP_ID, IMAGE_ID, MERCHANT, Market
from tests.services.studio.platforms import LedPlatform

HOME = "https://studio.example"
METHODS = ("pm_card_visa", "pm_card_authenticationRequired", "pm_card_visa_chargeDeclined")
PNG = b"\x89PNG"
RECIPIENT = {"name": "Bo Ek", "address": "Storgatan 1\r\n111 22 Stockholm\r\nSweden", "email": "bo@ek.example"}
OWN = {"origin": HOME, "sec-fetch-site": "same-origin"}


class InProcess:
    """A channel to the items service that needs no network: each call is checked as the service's runtime checks it."""

    def __init__(self, servicer: ItemsServicer) -> None:
        self.servicer = servicer
        self.calls: list[tuple[str, str]] = []  # the method, and the merchant for whom it was called
        self.fails: ServiceError | None = None

    def unary_unary(self, path: str, **_: object) -> Callable[..., Any]:
        method = path.rpartition("/")[2]

        async def call(request: Any, timeout: float, metadata: tuple[tuple[str, bytes], ...]) -> Any:
            acting = dict(metadata)[ACTING_FOR].decode()
            self.calls.append((method, acting))
            if self.fails is not None:
                raise self.fails
            caller = Caller("client/studio", frozenset({acting}))
            check_request(path.removeprefix("/"), caller, request)
            callers.begin(caller)
            return await getattr(self.servicer, method)(request, None)

        return call


class RecordedEvents:
    """What the shop saw, as the items service would put it on Kafka."""

    def __init__(self) -> None:
        self.seen: list[ShopEvent] = []
        self.fails: Exception | None = None

    async def record(self, events: Any) -> None:
        if self.fails is not None:
            raise self.fails
        self.seen += events


class Street:
    """The studio with a merchant's items, and browsers before it."""

    def __init__(
        self, market: Market, database: Database, token: Path, methods: tuple[str, ...] = METHODS, clock: Clock = now_us
    ) -> None:
        token.write_text("token")
        self.market = market
        self.events = RecordedEvents()
        self.channel = InProcess(
            ItemsServicer(market.selling, market.settling, market.provider, self.events)  # type: ignore[arg-type]
        )
        self.items = GrpcItems(self.channel, Calls("items service", Token(token), timeout_s=5))  # type: ignore[arg-type]
        self.platform = LedPlatform()
        picture = Candidate(image_id=IMAGE_ID, png=PNG, rank=1)
        self.platform.groups_kept[MERCHANT, GROUP_ID] = Group(user_id=MERCHANT, group_id=GROUP_ID, candidates=[picture])
        self.registry = CollectorRegistry()
        metrics = StudioMetrics(self.registry)
        self.sightings = Sightings(self.items, now_us, metrics)
        self.studio = Studio(
            public_url=HOME,
            static_path=static_path(),
            platform=self.platform,
            catalogue=Catalogue(self.platform),
            following=Following(self.platform, SqlRounds(database), now_us, timeout_s=1, lease_s=1, most=1),
            pictures=Pictures(self.platform),
            keepsakes=SqlKeepsakes(database, now_us),
            entering=Entering(SqlSessions(database), now_us, 1000, 1000),
            issuer=Mock(),
            metrics=metrics,
            max_readers=1,
            items=self.items,
            shops=SqlShops(database, now_us),
            studies=SqlStudies(database, clock),
            sightings=self.sightings,
            payment_methods=methods,
        )
        self.app = application(self.studio)

    def browser(self) -> "At":
        """Somebody's, with cookies of its own."""
        return At(self, httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url=HOME))  # type: ignore[arg-type]

    async def merchant(self, user_id: str = MERCHANT) -> "At":
        """A browser at which a merchant has logged in."""
        at, entering = self.browser(), self.studio.entering
        before = await entering.session(await entering.open({"state": "x"}))
        assert before is not None
        secret = await entering.enter(before, Person(user_id, user_id, (user_id,)))
        at.client.cookies.set(self.studio.cookie, secret, domain="studio.example")
        session = await entering.session(secret)
        assert session is not None
        at.form_token = session.form_token
        return at

    def listing(self, **changes: str) -> dict[str, str]:
        """A form's content that is all right."""
        terms = self.market.terms()
        closes = {"close_time": _local(terms.close_us)}
        good = {
            "request_id": str(uuid4()),
            "group_id": GROUP_ID,
            "image_id": IMAGE_ID,
            "title": "Linen dress",
            "description": "Of linen.",
            "price": "19.99",
            "currency": "EUR",
            "min_units": "2",
            "max_units": "3",
            "ships_within_days": "30",
            "decide_within_hours": "0",
        }
        return good | closes | changes


class At:
    """A browser."""

    def __init__(self, street: Street, client: httpx.AsyncClient) -> None:
        self.street = street
        self.client = client
        self.form_token = ""

    async def get(self, path: str) -> httpx.Response:
        return await self.client.get(path, headers={"accept": "text/html"})

    async def post(self, path: str, form: Mapping[str, str] | None = None, **more: str) -> httpx.Response:
        """A form of a page of the studio's."""
        content = {"form_token": self.form_token} | dict(form or {}) | more
        return await self.client.post(path, data=content, headers=OWN)

    async def sells(self, **changes: str) -> str:
        """A merchant's item, on sale; returns its path."""
        path = str((await self.post("/items", self.street.listing(**changes))).headers["location"])
        assert (await self.post(f"{path}/open", etag="1")).headers["location"] == path
        return path

    async def orders(self, item: str, query: str = "", **fields: str) -> httpx.Response:
        """A buyer's form of an item's page, which the merchant has at `item`."""
        found = hidden((await self.get(sold(item) + query)).text)
        self.form_token = found["form_token"]
        form = found | RECIPIENT | {"units": "1", "payment_method": METHODS[0]} | fields
        return await self.post(f"{sold(item)}/orders", form)

    async def ordered(self, item: str, **fields: str) -> str:
        """An order that is taken; returns its path."""
        answer = await self.orders(item, **fields)
        assert answer.status_code == 303, answer.text
        return str(answer.headers["location"])


def hidden(page: str) -> dict[str, str]:
    """The hidden fields of a page, by name."""
    return dict(re.findall(r'<input type="hidden" name="([a-z_]+)" value="([^"]*)">', page))


def words(answer: httpx.Response) -> str:
    """What a page says."""
    return " ".join(unescape(re.sub("<[^>]+>", " ", answer.text)).split())


def sold(item: str) -> str:
    """Where buyers find an item, which its merchant has at `item`."""
    return f"/shop{item}"


def _local(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S")
