"""The interfaces that the studio's logic needs from outside; adapters/ implements them.

What the platform says is told in its own messages: the studio has no domain of its own.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from perfusion.v1 import (
    events_pb2,
    feedback_service_pb2,
    generation_service_pb2,
    group_pb2,
    presale_pb2,
    release_pb2,
    user_pb2,
)
from perfusion.v1 import items_service_pb2 as api

from services.studio.following import Asked, Followed, Running, State
from services.studio.studies import Loaded, Rater, Task


class Platform(ABC):
    """The other services. `user_id` is the merchant for whom the call is made; no call reaches another's.

    All raise ServiceErrors: NotFound, InvalidArgument, Unavailable and so on, as the services answered.
    """

    @abstractmethod
    def generate(
        self, request: generation_service_pb2.GenerateRequest, timeout_s: float
    ) -> AsyncGenerator[generation_service_pb2.GenerateResponse]:
        """A round's messages, in their order."""

    @abstractmethod
    async def group(self, user_id: str, group_id: str, *, with_pictures: bool) -> group_pb2.Group:
        """A group of the merchant's; NotFound for any other."""

    @abstractmethod
    async def groups(self, user_id: str, page_token: str) -> generation_service_pb2.ListGroupsResponse:
        """A page of the merchant's groups, the last first, without pictures."""

    @abstractmethod
    async def suggestions(
        self, user_id: str, prompt: str, prefix: str
    ) -> generation_service_pb2.SuggestPhrasesResponse:
        """Phrases to add."""

    @abstractmethod
    async def release(self) -> release_pb2.ReleaseInfo:
        """The release in service."""

    @abstractmethod
    async def profile(self, user_id: str) -> Mapping[str, user_pb2.FeatureValue] | None:
        """The merchant's profile; None if there is none."""

    @abstractmethod
    async def put_profile(self, user_id: str, features: Mapping[str, user_pb2.FeatureValue]) -> None:
        """Replaces the profile."""

    @abstractmethod
    async def submit_pick(self, request: feedback_service_pb2.SubmitFeedbackRequest) -> None:
        """Records a pick."""

    @abstractmethod
    async def pick(self, user_id: str, group_id: str) -> feedback_service_pb2.Feedback | None:
        """The pick that counts of a group; None if there is none."""

    @abstractmethod
    async def check(self) -> None:
        """Returns when the generation service serves rounds."""


class FollowedRounds(ABC):
    """The rounds that pages follow, in a store that all replicas share."""

    @abstractmethod
    async def add(self, asked: Asked, state: State, holder: str, most: int) -> tuple[Followed, bool]:
        """Stores a round, unless its request id is known; returns what now has it, and whether that is this one.

        Raises:
            ResourceExhausted: the merchant has `most` rounds already that are not over.
        """

    @abstractmethod
    async def get(self, user_id: str, request_id: str) -> Followed | None:
        """A round of the merchant's; None for any other."""

    @abstractmethod
    async def state(self, user_id: str, request_id: str) -> State | None:
        """The same round's state, without pictures."""

    @abstractmethod
    async def save(self, asked: Asked, holder: str, state: State) -> bool | None:
        """Stores a holder's state. Returns whether the round was asked to end, None if it is another's by now.

        Of a round that is over, pictures are kept no longer, neither previews nor what it began with.
        """

    @abstractmethod
    async def take(self, found: Running, holder: str) -> Followed | None:
        """Makes the round this holder's, if nothing moved since it was read; None if something did."""

    @abstractmethod
    async def give_up(self, request_ids: Sequence[str], holder: str) -> None:
        """Leaves rounds to whoever comes next."""

    @abstractmethod
    async def ask_to_end(self, user_id: str, request_id: str) -> None:
        """Tells its holder to end the merchant's round."""

    @abstractmethod
    async def running(self, user_id: str | None = None) -> Sequence[Running]:
        """Rounds that are not over, the last first; of one merchant, or of all."""

    @abstractmethod
    async def forget(self, before_us: int) -> None:
        """Deletes rounds that are over and older; their groups stay where they are."""


@dataclass(frozen=True)
class Kept:
    """A picture that the merchant starred or shared; `token` is the share's link."""

    user_id: str
    group_id: str
    image_id: str
    token: str = ""


@dataclass(frozen=True)
class KeptPage:
    """A part of a list, the last first; `next_page` names the part after it, "" is the end."""

    kept: Sequence[Kept]
    next_page: str


class Keepsakes(ABC):
    """Starred and shared pictures."""

    @abstractmethod
    async def star(self, kept: Kept, *, starred: bool) -> None:
        """Keeps or drops a star."""

    @abstractmethod
    async def starred(self, user_id: str, page: str = "") -> KeptPage:
        """The merchant's stars; the first page for "" and for what names none."""

    @abstractmethod
    async def share(self, kept: Kept) -> Kept:
        """Gives a picture a link; the one it has, if it has one."""

    @abstractmethod
    async def revoke(self, user_id: str, image_id: str) -> None:
        """Takes the link back: from now on nobody sees the picture by it."""

    @abstractmethod
    async def shared(self, user_id: str, page: str = "") -> KeptPage:
        """The merchant's links; the first page for "" and for what names none."""

    @abstractmethod
    async def of_group(self, user_id: str, group_id: str) -> tuple[set[str], dict[str, str]]:
        """Of a group's pictures: the ids of the starred ones, and the links' tokens by id."""

    @abstractmethod
    async def by_token(self, token: str) -> Kept | None:
        """What a link shows; None when there is none."""


class Items(ABC):
    """The items service: presales and orders. Messages are its own, and so are the errors.

    `user_id` is the merchant for whom the call is made. A buyer's order is the item's merchant's, too.
    """

    @abstractmethod
    async def create(self, request: api.CreatePresaleRequest) -> presale_pb2.Presale:
        """A draft."""

    @abstractmethod
    async def edit(self, request: api.UpdatePresaleRequest) -> presale_pb2.Presale:
        """A draft with other terms."""

    @abstractmethod
    async def open(self, request: api.OpenPresaleRequest) -> presale_pb2.Presale:
        """On sale."""

    @abstractmethod
    async def cancel(self, request: api.CancelPresaleRequest) -> presale_pb2.Presale:
        """Taken back."""

    @abstractmethod
    async def decide(self, request: api.DecidePresaleRequest) -> presale_pb2.Presale:
        """Made below its threshold, or refunded."""

    @abstractmethod
    async def delay(self, request: api.DelayPresaleRequest) -> int:
        """Buyers are asked whether a later date suits them; how many were."""

    @abstractmethod
    async def give_up(self, request: api.FailProductionRequest) -> presale_pb2.Presale:
        """What has not been shipped is refunded."""

    @abstractmethod
    async def presale(self, user_id: str, presale_id: str) -> presale_pb2.Presale:
        """A presale of the merchant's; NotFound for any other."""

    @abstractmethod
    async def shown(self, presale_id: str) -> presale_pb2.Presale:
        """A presale that was put on sale, for anybody; NotFound for any other."""

    @abstractmethod
    async def presales(
        self, user_id: str, page_token: str, *states: presale_pb2.PresaleState.ValueType
    ) -> api.ListPresalesResponse:
        """A page of the merchant's presales in these states, or of all; the last made first."""

    @abstractmethod
    async def orders(self, user_id: str, presale_id: str, page_token: str) -> api.ListOrdersResponse:
        """A page of a presale's orders, the last placed first."""

    @abstractmethod
    async def changes(self, user_id: str, presale_id: str, page_token: str) -> api.ListChangesResponse:
        """A page of what happened to a presale, the last first."""

    @abstractmethod
    async def ship(self, request: api.ShipOrderRequest) -> presale_pb2.Order:
        """An order is on its way."""

    @abstractmethod
    async def place(self, user_id: str, request: api.PlaceOrderRequest) -> presale_pb2.Order:
        """A buyer's order of an item of the merchant's."""

    @abstractmethod
    async def order(self, placed: "Placed") -> presale_pb2.Order:
        """A buyer's order."""

    @abstractmethod
    async def cancel_order(self, placed: "Placed") -> presale_pb2.Order:
        """A buyer's order is cancelled, or given back."""

    @abstractmethod
    async def answer_delay(self, placed: "Placed", *, consents: bool) -> presale_pb2.Order:
        """A buyer's answer."""

    @abstractmethod
    async def receive(self, payload: bytes, signature: str) -> None:
        """What the provider of payments has posted."""

    @abstractmethod
    async def record(self, user_id: str, seen: Sequence[events_pb2.ShopEvent]) -> None:
        """What viewers did with items of the merchant's."""

    @abstractmethod
    async def check(self) -> None:
        """Returns when the items service takes orders."""


@dataclass(frozen=True)
class Shop:
    """A merchant's shop: what its address has instead of the merchant, and what buyers read as its name."""

    user_id: str
    shop_id: str
    name: str = ""


@dataclass(frozen=True)
class Placed:
    """An order that a browser's buyer has placed, and whose item it is."""

    order_id: str
    buyer_id: str
    user_id: str
    presale_id: str


class Shops(ABC):
    """Merchants' shops, and which order is which buyer's."""

    @abstractmethod
    async def open(self, user_id: str) -> Shop:
        """The merchant's shop; a new one, if there is none."""

    @abstractmethod
    async def of(self, user_id: str) -> Shop | None:
        """The merchant's shop, if there is one."""

    @abstractmethod
    async def by_id(self, shop_id: str) -> Shop | None:
        """The shop at an address."""

    @abstractmethod
    async def rename(self, user_id: str, name: str) -> None:
        """The merchant's shop is called so from now on."""

    @abstractmethod
    async def note(self, placed: Placed) -> None:
        """Remembers an order; one that is known stays as it is."""

    @abstractmethod
    async def placed(self, buyer_id: str, order_id: str) -> Placed | None:
        """An order of the buyer's; None for any other."""

    @abstractmethod
    async def all_placed(self, buyer_id: str, most: int) -> Sequence[Placed]:
        """The buyer's latest orders, the last first."""


@dataclass(frozen=True)
class Session:
    """What the studio knows of one browser."""

    key: str
    person: str  # "" before the login
    name: str
    merchants: tuple[str, ...]
    user_id: str  # the merchant of now
    form_token: str
    login: Mapping[str, Any]
    create_time_us: int
    use_time_us: int


class Sessions(ABC):
    """Sessions, by the hash of the browser's secret."""

    @abstractmethod
    async def put(self, session: Session) -> None:
        """Stores a new one."""

    @abstractmethod
    async def touch(self, key: str, use_time_us: int) -> None:
        """Notes that one is in use."""

    @abstractmethod
    async def act_for(self, key: str, user_id: str, form_token: str) -> None:
        """One acts for another merchant."""

    @abstractmethod
    async def remember(self, key: str, login: Mapping[str, Any]) -> None:
        """What a login under way remembers."""

    @abstractmethod
    async def get(self, key: str) -> Session | None:
        """One, however old."""

    @abstractmethod
    async def drop(self, key: str) -> None:
        """Ends one."""

    @abstractmethod
    async def forget(self, unused_since_us: int, unknown_since_us: int) -> None:
        """Deletes those that were not used since, and those of nobody known that are older."""


@dataclass(frozen=True)
class Person:
    """Who has logged in, and the merchants for whom they may act."""

    subject: str
    name: str
    merchants: tuple[str, ...]


class Issuer(ABC):
    """Who tells the studio who somebody is."""

    @abstractmethod
    async def address(self, login: dict[str, Any], back_to: str) -> str:
        """Where the browser goes to log in; what is remembered of it goes into `login`."""

    @abstractmethod
    async def person(self, login: dict[str, Any], back_at: str) -> Person:
        """Who came back from there; Unauthenticated if nothing believable says so."""


class Taking(Enum):
    """What became of an answer."""

    TAKEN = "taken"
    TOO_SOON = "too soon"  # the picture was on the screen for less than the protocol asks
    UNSEEN = "unseen"  # the form is of no page of this task's, or its picture was never fetched
    LOCKED = "locked"  # it is not the task's turn, or not any more
    CLOSED = "closed"


class Studies(ABC):
    """Studies in which experts rate pictures. A rater is known by the hash of their token; answers are only added."""

    @abstractmethod
    async def load(self, loaded: Loaded, keys: Mapping[str, str]) -> None:
        """Stores a design with each rater's hash; AlreadyExists if it is there."""

    @abstractmethod
    async def renew(self, study_id: str, rater_id: str, key: str) -> None:
        """A rater has another link from now on; NotFound for nobody known."""

    @abstractmethod
    async def close(self, study_id: str) -> None:
        """Takes no answers from now on; NotFound for none known."""

    @abstractmethod
    async def delete(self, study_id: str) -> Mapping[str, int]:
        """Deletes all of a study; returns how many rows of each table. NotFound for none known."""

    @abstractmethod
    async def progress(self, study_id: str) -> Mapping[str, tuple[int, int]]:
        """By rater, how many tasks are answered, of how many; NotFound for none known."""

    @abstractmethod
    async def lines(self, study_id: str) -> Sequence[Mapping[str, Any]]:
        """Every answer as ratings.jsonl has it, the first one first; NotFound for none known."""

    @abstractmethod
    async def rater(self, key: str) -> Rater | None:
        """Whose link has this hash."""

    @abstractmethod
    async def begin(self, rater: Rater) -> None:
        """The rater has read the protocol."""

    @abstractmethod
    async def tasks(self, rater: Rater) -> Sequence[Task]:
        """The rater's tasks, in their order."""

    @abstractmethod
    async def view(self, rater: Rater, number: int) -> str | None:
        """A page of a task is about to be shown; returns the id of this view. None if it is not the task's turn."""

    @abstractmethod
    async def picture(self, rater: Rater, number: int, view_id: str) -> bytes | None:
        """The picture of a view, as PNG, and its time begins; None for any that is not the rater's."""

    @abstractmethod
    async def seen(self, rater: Rater, number: int, view_id: str, dwell_ms: int) -> None:
        """A view's picture was on the screen for so long as its browser says; no more than is possible."""

    @abstractmethod
    async def answer(
        self, rater: Rater, number: int, view_id: str, answers: Mapping[str, int | str | None], dwell_ms: int | None
    ) -> Taking:
        """Adds an answer, once for a form that is sent twice.

        Args:
            dwell_ms: how long this view's picture was on the screen by the browser's word; None: since it was fetched.
        """
