"""What surrounds the generation service in its tests: models by plain arithmetic, other services, and Kafka."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from perfusion.v1.user_pb2 import FeatureValue

from contract.history import HistoryVersion
from contract.release import Release
from services.generation.orders import Scores, User
from services.generation.ports import Ranker, Users
from services.runtime.errors import NotFound, Unavailable
from services.runtime.events import Event, Events
from services.runtime.triton import Array, NotLoaded, Tensors
from tests.services.fake_models import FakeModels
from tests.services.market import IMAGE_SIZE_PX, PADDED_SLOTS, REWARD_WIDTH, TEXT_WIDTH, USER_WIDTH

DENOISER_INPUTS = {"latents", "timestep", "text", "negative_text", "user", "guidance", "adapter_scale"}


class PaintingModels(FakeModels):
    """Each sample's answer depends on that sample and the release alone.

    `hold`, when set, stops the denoiser until it is released.
    """

    def __init__(self) -> None:
        super().__init__([1])
        self.steps = 0
        self.failing_steps = range(0)  # of all steps it is asked for, from 1
        self.hold: asyncio.Event | None = None
        self.stepped = asyncio.Event()
        self.denoised: list[Tensors] = []  # what the denoiser was given at every step
        self.read: list[Array] = []  # what the text encoder was given at every call

    async def infer(self, model: str, inputs: Tensors, release: int) -> dict[str, Array]:
        if self.down:
            raise Unavailable("triton", f"does not answer for {model}")
        if release not in self.loaded:
            raise NotLoaded(model, release)
        if model == "denoiser":
            await self._step()
        self.asked.append((model, release, len(next(iter(inputs.values())))))
        answer: dict[str, Array] = getattr(self, f"_{model}")(inputs)
        return answer | {"noise": answer["noise"] - (release - 1) / np.float32(5)} if model == "denoiser" else answer

    async def _step(self) -> None:
        self.steps += 1
        self.stepped.set()
        if self.steps in self.failing_steps:
            raise Unavailable("triton", "does not answer for denoiser")
        if self.hold is not None:
            await self.hold.wait()
        await asyncio.sleep(0)

    def _text_encoder(self, inputs: Tensors) -> dict[str, Array]:
        ids = inputs["input_ids"]
        assert ids.dtype == np.int64
        self.read.append(ids)
        return {"hidden": np.repeat(np.sin(ids[..., None]).astype(np.float32), TEXT_WIDTH, axis=-1)}  # (B, T, D)

    def _denoiser(self, inputs: Tensors) -> dict[str, Array]:
        dtypes = {name: array.dtype for name, array in inputs.items()}
        assert set(dtypes) == DENOISER_INPUTS
        assert dtypes.pop("timestep") == np.int64 and set(dtypes.values()) == {np.dtype(np.float32)}
        text, negative = inputs["text"].mean((1, 2)), inputs["negative_text"].mean((1, 2))
        self.denoised.append(inputs)
        condition = text + inputs["adapter_scale"][:, 0] * inputs["user"].mean(1)
        guided = negative + inputs["guidance"][:, 0] * (condition - negative)  # (B,)
        return {"noise": np.tanh(inputs["latents"] + guided[:, None, None, None] / 10)}

    def _vae_decoder(self, inputs: Tensors) -> dict[str, Array]:
        rgb = np.tanh(inputs["latents"][:, :3]).transpose(0, 2, 3, 1) * 127 + 128  # (B, 2, 2, 3)
        scale = IMAGE_SIZE_PX // 2
        return {"image": np.kron(rgb, np.ones((1, scale, scale, 1))).round().astype(np.uint8)}

    def _vae_encoder(self, inputs: Tensors) -> dict[str, Array]:
        image = inputs["image"]
        assert image.dtype == np.uint8 and image.shape[1:] == (IMAGE_SIZE_PX, IMAGE_SIZE_PX, 3)
        half = IMAGE_SIZE_PX // 2
        corners = (image[:, ::half, ::half].astype(np.float32) - 128) / 127.5
        latents = np.arctanh(np.clip(corners, -0.99, 0.99)).transpose(0, 3, 1, 2)  # (B, 3, 2, 2)
        return {"latents": np.concatenate([latents, latents[:, :1] * 0], axis=1).astype(np.float32)}

    def _user_encoder(self, inputs: Tensors) -> dict[str, Array]:
        assert inputs["features"].shape == (1, PADDED_SLOTS) and not inputs["features"].any()
        return {"reward_text_user": UNKNOWN[None]}

    def _reward_text(self, inputs: Tensors) -> dict[str, Array]:
        """The user wants what an unknown merchant's texts show that have exactly one word unknown to the tokenizer."""
        is_user = (inputs["user"] == USER.reward_text).all(1)
        assert (inputs["user"][~is_user] == UNKNOWN).all()
        bright = is_user | ((inputs["input_ids"] == 2).sum(1) == 1)
        return {"embedding": np.where(bright[:, None], _unit(0), _unit(1)).astype(np.float32)}


def _unit(axis: int) -> Array:
    return np.eye(REWARD_WIDTH, dtype=np.float32)[axis]


UNKNOWN = np.full(USER_WIDTH, 4, np.float32)
PROFILE = {"style": FeatureValue(string_value="luxury")}
USER = User(
    features=PROFILE,
    reward_text=np.full(USER_WIDTH, 1, np.float32),
    reward_image=np.full(USER_WIDTH, 2, np.float32),
    generator=np.full(USER_WIDTH, 3, np.float32),
    # dress, trousers | sleeveless, long sleeves, bell sleeves | sequins, hand-sewn ruffles
    favours=np.array([0, 0, -0.8, 0.4, 0.4, 0.9, -0.9], np.float32),
)


class KnownUsers(Users):
    """Knows "ada" and "bob", who have the same profile.

    `down` fails its check, `lacking` names releases without vectors.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.known = {"ada", "bob"}
        self.lacking: set[int] = set()
        self.down = False

    async def vectors(self, user_id: str, release: Release) -> User:
        self._find(user_id, "vectors")
        if release.number in self.lacking:
            raise Unavailable("user embedding service")
        favours = np.resize(USER.favours, release.manifest.in_use.phrases)
        history = HistoryVersion(40 + release.number, 3)
        return replace(USER, generator=USER.generator + release.number - 1, favours=favours, history=history)

    def _find(self, user_id: str, what: str) -> None:
        self.asked.append(what)
        if user_id not in self.known:
            raise NotFound(f"user_id: there is no profile of {user_id!r}", field="user_id")

    async def check(self) -> None:
        if self.down:
            raise Unavailable("user embedding service")


class LastIsBest(Ranker):
    """Scores pictures by their place: the last one given is best; `down` fails its check, `lacking` names releases."""

    def __init__(self) -> None:
        self.down = False
        self.lacking: set[int] = set()
        self.asked: list[int] = []  # the release of each call
        self.users: list[User | None] = []  # that it was given
        self.prompts: list[str] = []

    async def rank(self, user_id: str, prompt: str, images: Sequence[bytes], release: int, user: User | None) -> Scores:
        self.asked.append(release)
        self.users.append(user)
        self.prompts.append(prompt)
        if release in self.lacking:
            raise Unavailable("ranking service")
        return [(float(i), len(images) - i) for i in range(len(images))]

    async def check(self) -> None:
        if self.down:
            raise Unavailable("ranking service")


class RecordedEvents(Events):
    """Kafka that acknowledges at once; `down` makes it acknowledge nothing."""

    def __init__(self) -> None:
        self.published: list[Event] = []
        self.down = False

    async def publish(self, event: Event) -> None:
        if self.down:
            raise Unavailable("kafka")
        self.published.append(event)

    async def check(self) -> None:
        if self.down:
            raise Unavailable("kafka")

    async def close(self) -> None:
        pass
