"""Releases compared under traffic: mixed groups, exploration, the hold-back, and releases that cannot serve."""

import asyncio
import io
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import numpy as np
import pytest
import pytest_asyncio
from perfusion.v1 import generation_service_pb2 as pb
from perfusion.v1 import group_pb2
from perfusion.v1.events_pb2 import GroupGenerated
from perfusion.v1.group_pb2 import Group
from PIL import Image

from contract.feature_schema import Feature, FeatureSchema
from contract.release import PHRASES, current_file, release_dir
from contract.rollout import Rollout, assign, rollout_file
from contract.vocabulary import PhraseKind, Vocabulary
from services.generation.settings import Settings
from services.runtime.deadlines import remaining_s
from services.runtime.errors import DeadlineExceeded
from services.runtime.triton import Array, Models, Tensors, TritonModels
from tests.services.generation.conftest import Studio, request
from tests.services.generation.fakes import PaintingModels
from tests.services.market import SCHEMA, TEXT_TOKENS, VOCABULARY, write_release
from tests.services.running import failing, running
from tests.services.runtime.test_triton import Doubling, serve

LIVE, TRIAL, BASE = 1, 2, 3
MIXED = Rollout(trial=TRIAL, mixed_share=1.0, salt="s")
HELD_BACK = Rollout(trial=TRIAL, mixed_share=1.0, base=BASE, holdback_share=1.0)
EXPLORING = Rollout(exploration_share=1.0)
OTHER_SCHEMA = FeatureSchema((*SCHEMA.features, Feature("channel", "categorical", ("app", "web"))))
OTHER_VOCABULARY = Vocabulary(
    (*VOCABULARY.kinds, PhraseKind("colour", ("navy blue", "off-white")), PhraseKind("hem", ("mini", "maxi")))
)


class FailingModels(PaintingModels):
    """Of one release: `gone` (model, n) is not loaded any more from a model's n-th call, `blind` computes NaN.

    With `instead` it is no longer gone: another Triton has it then. `slow_s` is what each step takes longer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.loaded = {LIVE, TRIAL, BASE}
        self.of = 0
        self.gone: tuple[str, int] | None = None
        self.instead: Models | None = None
        self.blind = False
        self.slow_s = 0.0
        self.calls: dict[str, int] = {}

    async def infer(self, model: str, inputs: Tensors, release: int) -> dict[str, Array]:
        if release == self.of:
            self.calls[model] = self.calls.get(model, 0) + 1
            if self.gone == (model, self.calls[model]):
                self.loaded.discard(release)
            if release not in self.loaded and self.instead is not None:
                return await self.instead.infer(model, inputs, release)
            if model == "denoiser":
                await asyncio.sleep(limit_s := remaining_s(self.slow_s))
                if limit_s < self.slow_s:
                    raise DeadlineExceeded
        answer = await super().infer(model, inputs, release)
        return {name: array * np.nan for name, array in answer.items()} if release == self.of and self.blind else answer


@dataclass
class Trial(Studio):
    """A studio with three releases, of which the trial has another schema and vocabulary."""

    def __post_init__(self) -> None:
        self.models: FailingModels = FailingModels()
        super().__post_init__()

    def roll_out(self, rollout: Rollout) -> None:
        rollout_file(self.settings.model_repository).write_text(json.dumps(rollout.to_json()))

    async def unmixed(self, asked: pb.GenerateRequest, release: int) -> list[pb.GenerateResponse]:
        """The same request under another id, while a release is live and nothing else is served."""
        again = pb.GenerateRequest()
        again.CopyFrom(asked)
        again.request_id = request().request_id
        file, rollout = current_file(self.settings.model_repository), rollout_file(self.settings.model_repository)
        aside = rollout.rename(rollout.with_suffix(".aside"))
        file.write_text(str(release))
        try:
            return await self.stream(again)
        finally:
            file.write_text(str(LIVE))
            aside.rename(rollout)

    def told(self) -> GroupGenerated:
        return GroupGenerated.FromString(self.events.published[-1].value)


@pytest_asyncio.fixture
async def trial(settings: Settings) -> AsyncIterator[Trial]:
    write_release(settings.model_repository, TRIAL, current=False, schema=OTHER_SCHEMA, vocabulary=OTHER_VOCABULARY)
    write_release(settings.model_repository, BASE, current=False)
    studio = Trial(settings)
    async with running(studio.server) as channel:
        studio.connect(channel)
        yield studio


def by_seed(group: Group) -> list[group_pb2.Candidate]:
    return sorted(group.candidates, key=lambda candidate: candidate.seed)


def drawn_by(group: Group) -> list[int]:
    return [candidate.release for candidate in by_seed(group)]


def red() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), "#e04020").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("rollout", [MIXED, HELD_BACK, EXPLORING], ids=["mixed", "held back", "exploring"])
async def test_labels_are_read_whatever_release_draws(trial: Trial, rollout: Rollout) -> None:
    for number in (TRIAL, BASE):  # from before there were labels
        phrases = release_dir(trial.settings.model_repository, number) / PHRASES
        Vocabulary.from_json(Vocabulary.read(phrases).to_json()).write(phrases)
    trial.roll_out(rollout)
    full = " ".join(["red"] * (TEXT_TOKENS - 4))  # beside it and "dress" there is room for nothing
    ids = [str(UUID(int=n, version=4)) for n in range(30)]
    first, second = next(
        pair for pair in pairwise(ids) if len({assign(rollout, LIVE, "ada", each, 4).drawn_by for each in pair}) == 1
    )
    asked = request(request_id=first, num_candidates=4, prompt=f"dress,{full},long sleeves", refused_wishes=["sequins"])
    english, said = await trial.group(asked), trial.told()
    asked.request_id, asked.prompt, asked.refused_wishes[0] = second, f"连衣裙，{full}，长袖", "亮片"
    chinese = await trial.group(asked)
    assert [(c.png, c.wishes) for c in by_seed(chinese)] == [(c.png, c.wishes) for c in by_seed(english)]
    assert drawn_by(chinese) == drawn_by(english) and english.assignment.arm == chinese.assignment.arm
    assert (list(english.unread_phrases), list(chinese.unread_phrases)) == (["long sleeves"], ["长袖"])
    assert trial.told().canonical_prompt == said.prompt == said.canonical_prompt


@pytest.mark.parametrize(
    "changes",
    [
        {"num_candidates": 5, "preview_every_n_steps": 2},
        {"num_candidates": 2, "scheduler": 2},
        {"num_candidates": 16, "scheduler": 3, "negative_prompt": "red sleeveless"},
        {"reference_image": red(), "strength": 0.5},
        {"adapter_scale": 0},
        {"refused_wishes": ["sequins", "maxi"], "variety": 2.0},
    ],
    ids=["plain", "two", "sixteen", "reference", "impersonal", "refused"],
)
async def test_each_candidate_of_a_mixed_group_is_as_in_an_unmixed_group_of_its_release(
    trial: Trial, changes: dict[str, Any]
) -> None:
    trial.roll_out(MIXED)
    asked = request(**changes)
    *steps, last = await trial.stream(asked)
    group = last.group
    expected = assign(MIXED, LIVE, asked.user_id, asked.request_id, asked.num_candidates)
    assert drawn_by(group) == list(expected.drawn_by) and set(expected.drawn_by) == {LIVE, TRIAL}
    assert (steps[0].accepted.release, group.release, trial.ranker.asked) == (LIVE, LIVE, [LIVE])
    assert group.assignment == group_pb2.Assignment(arm=group_pb2.ARM_MIXED, propensity=1, trial_release=TRIAL)
    alone = {release: await trial.unmixed(asked, release) for release in (LIVE, TRIAL)}
    for place, candidate in enumerate(by_seed(group)):
        twin = by_seed(alone[candidate.release][-1].group)[place]
        assert (candidate.seed, candidate.png) == (twin.seed, twin.png)
        assert list(candidate.wishes) == list(twin.wishes)
        other = by_seed(alone[LIVE + TRIAL - candidate.release][-1].group)[place]
        assert candidate.png != other.png, "the two releases draw otherwise"
    for here, *there in zip(steps[1:], *(alone[release][1:-1] for release in (LIVE, TRIAL)), strict=True):
        assert {(e.progress.step, e.progress.num_steps) for e in (here, *there)} == {
            (here.progress.step, here.progress.num_steps)
        }
        of = dict(zip((LIVE, TRIAL), there, strict=True))
        wanted = (
            [of[release].progress.previews[place] for place, release in enumerate(drawn_by(group))]
            if (there[0].progress.previews)
            else []
        )
        assert list(here.progress.previews) == wanted


async def test_a_mixed_group_is_kept_and_told_as_it_was_shown(trial: Trial) -> None:
    trial.roll_out(Rollout(trial=TRIAL, mixed_share=1.0, base=BASE, holdback_share=0.0))
    asked = request(num_candidates=5)
    group = await trial.group(asked)
    told = trial.told()
    assert told.assignment == group.assignment and told.assignment.arm == group_pb2.ARM_MIXED
    assert [c.release for c in told.candidates] == [c.release for c in group.candidates]
    assert told.history.sequence == 40 + max(LIVE, TRIAL)  # no picks later than these were seen by either
    assert (await trial.stub.GetGroup(pb.GetGroupRequest(group_id=group.group_id))).group == group
    [listed] = await trial.groups_of("ada")
    assert (listed.assignment, drawn_by(listed)) == (group.assignment, drawn_by(group))
    trial.roll_out(Rollout())
    assert await trial.group(asked) == group, "a repeat gives what was made, whatever the rollout says by then"
    assert trial.counted("perfusion_groups_total", outcome="made", release="1", arm="mixed") == 1
    for release in (LIVE, TRIAL):
        found = trial.counted("perfusion_candidates_total", release=str(release), arm="mixed")
        assert found == drawn_by(group).count(release)
    assert trial.counted("perfusion_group_seconds_count", release="1", arm="mixed") == 1


async def test_all_candidates_of_a_release_share_one_call_a_step(trial: Trial) -> None:
    trial.roll_out(MIXED)
    group = await trial.group(request(num_candidates=5, num_steps=3))
    shared = [("denoiser", release, drawn_by(group).count(release)) for release in (LIVE, TRIAL)]
    assert sorted(asked for asked in trial.models.asked if asked[0] == "denoiser") == sorted(3 * shared)


async def test_a_retry_after_a_failure_draws_the_same(trial: Trial) -> None:
    trial.roll_out(Rollout(trial=TRIAL, mixed_share=0.5, exploration_share=0.3, salt="t"))
    for _ in range(6):
        asked = request(num_steps=2)
        trial.models.down = True
        async with failing() as failure:
            await trial.group(asked)
        assert failure.code == grpc.StatusCode.UNAVAILABLE and failure.retryable
        trial.models.down = False
        rollout = Rollout(trial=TRIAL, mixed_share=0.5, exploration_share=0.3, salt="t")
        expected = assign(rollout, LIVE, "ada", asked.request_id, 3)
        group = await trial.group(asked)
        assert (drawn_by(group), group.assignment.propensity) == (list(expected.drawn_by), expected.propensity)


async def test_a_merchant_who_is_held_back_gets_all_by_the_base(trial: Trial) -> None:
    trial.roll_out(HELD_BACK)
    asked = request()
    *steps, last = await trial.stream(asked)
    group = last.group
    assert (steps[0].accepted.release, group.release, drawn_by(group)) == (BASE, BASE, [BASE] * 3)
    assert group.assignment == group_pb2.Assignment(arm=group_pb2.ARM_HOLDBACK, propensity=1)
    assert trial.ranker.asked == [BASE]
    alone = (await trial.unmixed(asked, BASE))[-1].group
    assert [c.png for c in by_seed(group)] == [c.png for c in by_seed(alone)]
    assert (trial.told().release, (await trial.group(asked)).release) == (BASE, BASE)


async def test_exploration_varies_wishes_more_and_a_candidate_is_reproduced_with_its_variety(trial: Trial) -> None:
    trial.roll_out(EXPLORING)
    group = await trial.group(request(num_candidates=16))
    assert (group.assignment.arm, group.settings.variety) == (group_pb2.ARM_EXPLORATION, 1.0)
    assert (group.release, set(drawn_by(group))) == (LIVE, {LIVE})
    assert len({tuple(c.wishes) for c in group.candidates}) > 3
    assert trial.told().settings == group.settings
    for candidate in group.candidates[:4]:
        alone = await trial.group(request(num_candidates=1, seed=candidate.seed, variety=group.settings.variety))
        assert (alone.candidates[0].png, alone.candidates[0].wishes) == (candidate.png, candidate.wishes)
        assert alone.assignment.arm == group_pb2.ARM_LIVE, "who says a variety gets it"


@pytest.mark.parametrize("variety", [0.0, 0.15, 2.0])
async def test_a_request_gets_the_variety_it_says(trial: Trial, variety: float) -> None:
    trial.roll_out(EXPLORING)
    group = await trial.group(request(num_candidates=16, variety=variety))
    assert (group.settings.variety, group.assignment.arm) == (variety, group_pb2.ARM_LIVE)
    found = len({tuple(candidate.wishes) for candidate in group.candidates})
    assert {0.0: found == 1, 0.15: found == 2, 2.0: found > 4}[variety]


async def test_without_a_rollout_everything_is_live_with_certainty(trial: Trial) -> None:
    group = await trial.group(request())
    assert group.assignment == group_pb2.Assignment(arm=group_pb2.ARM_LIVE, propensity=1)
    assert (drawn_by(group), group.settings.variety) == ([LIVE] * 3, 0.15)


def unloaded_at(model: str, call: int) -> Callable[[Trial, int], None]:
    def fail(trial: Trial, release: int) -> None:
        trial.models.of, trial.models.gone = release, (model, call)

    return fail


def blind(trial: Trial, release: int) -> None:
    trial.models.of, trial.models.blind = release, True


def without_vectors(trial: Trial, release: int) -> None:
    trial.users.lacking.add(release)


def without_files(trial: Trial, release: int) -> None:
    manifest = Path(trial.settings.model_repository, "releases", str(release), "manifest.json")
    manifest.unlink()


FAULTS = {
    "no manifest": without_files,
    "no vectors": without_vectors,
    "unloaded before": unloaded_at("text_encoder", 1),
    "unloaded in the middle": unloaded_at("denoiser", 3),
    "unloaded at a preview": unloaded_at("vae_decoder", 1),
    "unloaded at the end": unloaded_at("vae_decoder", 2),
    "not finite": blind,
}


@pytest.mark.parametrize(
    ("arm", "fault"),
    [("mixed", name) for name in FAULTS] + [("holdback", name) for name in ("no vectors", "unloaded in the middle")],
)
async def test_a_release_that_cannot_serve_fails_no_request(
    trial: Trial, arm: str, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    trial.roll_out(MIXED if arm == "mixed" else HELD_BACK)
    release = TRIAL if arm == "mixed" else BASE
    FAULTS[fault](trial, release)
    asked = request(num_candidates=4, preview_every_n_steps=3)
    with caplog.at_level(logging.WARNING):
        _, *steps, last = await trial.stream(asked)
    assert f"release {release} cannot serve" in caplog.text
    assert [event.progress.step for event in steps] == [1, 2, 3, 4], "a step is told once"
    group = last.group
    on_trial = TRIAL if arm == "mixed" else 0
    assert group.assignment == group_pb2.Assignment(arm=group_pb2.ARM_LIVE, propensity=1, trial_release=on_trial)
    assert (group.release, drawn_by(group), trial.ranker.asked[-1]) == (LIVE, [LIVE] * 4, LIVE)
    assert (trial.told().assignment, trial.told().release) == (group.assignment, LIVE)
    assert trial.counted("perfusion_rounds_taken_over_total", release=str(release), arm=arm) == 1
    assert trial.counted("perfusion_groups_total", outcome="made", release="1", arm="live") == 1
    again = await trial.stream(asked)
    assert (again[0].accepted.release, again[-1].group) == (LIVE, group)
    alone = (await trial.unmixed(asked, LIVE))[-1].group
    assert [c.png for c in by_seed(group)] == [c.png for c in by_seed(alone)]
    assert len(await trial.groups_of("ada")) == 2


@pytest_asyncio.fixture
async def ailing() -> AsyncIterator[tuple[Doubling, Models]]:
    """A Triton whose model instance is dead, or hangs."""
    triton = Doubling()
    server, port = await serve(triton)
    models = TritonModels(f"127.0.0.1:{port}", timeout_s=20.0, max_message_bytes=2**20, certificates=None)
    yield triton, models
    await models.close()
    await server.stop(0)


@pytest.mark.parametrize("rollout", [MIXED, HELD_BACK], ids=["mixed", "holdback"])
@pytest.mark.parametrize("call", [("text_encoder", 1), ("denoiser", 4), ("vae_decoder", 1)], ids=lambda call: call[0])
@pytest.mark.parametrize(
    ("state", "deadline_s", "most_s"), [("dead", 4.0, 4.0), ("dead", 60.0, 8.0), ("hangs", 6.0, 6.0)]
)
async def test_a_release_that_fails_or_hangs_leaves_the_live_one_time(
    trial: Trial, ailing: tuple[Doubling, Models], rollout: Rollout, call: tuple[str, int], state: str,
    deadline_s: float, most_s: float,
) -> None:  # fmt: skip
    trial.roll_out(rollout)
    await trial.groups_of("ada")  # the database is there
    triton, trial.models.instead = ailing
    triton.dead, triton.state = [state == "dead"], state
    trial.models.of, trial.models.gone = (TRIAL if rollout == MIXED else BASE), call
    began = time.monotonic()
    group = (await trial.stream(request(), timeout=deadline_s))[-1].group
    assert triton.versions, "it was asked"
    assert (group.assignment.arm, drawn_by(group)) == (group_pb2.ARM_LIVE, [LIVE] * 3)
    assert time.monotonic() - began < most_s


async def test_a_slow_release_is_given_up_in_time(trial: Trial) -> None:
    trial.roll_out(MIXED)
    await trial.groups_of("ada")
    trial.models.of, trial.models.slow_s = TRIAL, 0.4
    group = (await trial.stream(request(num_steps=20), timeout=6.0))[-1].group
    assert (group.assignment.arm, group.assignment.trial_release) == (group_pb2.ARM_LIVE, TRIAL)


@pytest.mark.parametrize("rollout", [MIXED, HELD_BACK], ids=["mixed", "holdback"])
async def test_a_sound_release_is_not_given_up_though_its_round_takes_most_of_the_time(
    trial: Trial, rollout: Rollout
) -> None:
    trial.roll_out(rollout)
    await trial.groups_of("ada")
    trial.models.of, trial.models.slow_s = (TRIAL if rollout == MIXED else BASE), 0.2
    began = time.monotonic()
    group = (await trial.stream(request(num_steps=16), timeout=5.0))[-1].group
    assert group.assignment.arm != group_pb2.ARM_LIVE and time.monotonic() - began > 2.5


async def test_a_base_that_cannot_rank_any_more_fails_no_request(trial: Trial) -> None:
    trial.roll_out(HELD_BACK)
    trial.ranker.lacking.add(BASE)
    group = await trial.group(request())
    assert (group.release, drawn_by(group), trial.ranker.asked) == (LIVE, [LIVE] * 3, [BASE, LIVE])


@pytest.mark.parametrize("rollout", [MIXED, HELD_BACK, EXPLORING], ids=["mixed", "holdback", "exploration"])
async def test_what_the_live_release_cannot_help_either_fails_as_ever(trial: Trial, rollout: Rollout) -> None:
    trial.roll_out(rollout)
    async with failing() as failure:
        await trial.group(request(user_id="nobody"))
    assert failure.code == grpc.StatusCode.NOT_FOUND
    trial.models.loaded.clear()
    async with failing() as failure:
        await trial.group(request())
    assert failure.code == grpc.StatusCode.UNAVAILABLE and failure.retryable
    assert await trial.groups_of("ada") == [] and trial.events.published == []


async def test_a_live_release_that_fails_beside_a_trial_is_no_fault_of_the_trials(trial: Trial) -> None:
    trial.roll_out(MIXED)
    trial.models.of, trial.models.gone = LIVE, ("denoiser", 2)
    async with failing() as failure:
        await trial.stream(request(), timeout=3.0)
    assert failure.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    assert trial.counted("perfusion_rounds_taken_over_total", release=str(TRIAL), arm="mixed") == 0


async def test_a_mixed_round_that_is_cancelled_stops_in_both_releases(trial: Trial) -> None:
    trial.roll_out(MIXED)
    call = trial.stub.Generate(request(num_steps=100))
    async for event in call:
        if event.progress.step == 3:
            break
    call.cancel()
    await asyncio.sleep(0.3)
    soon = trial.models.steps
    await asyncio.sleep(0.3)
    assert trial.models.steps == soon < 200


async def test_a_rollout_that_cannot_be_read_stops_nobody_and_is_logged_once(
    trial: Trial, caplog: pytest.LogCaptureFixture
) -> None:
    file = rollout_file(trial.settings.model_repository)
    file.write_text('{"trial": 2, "mixed_share": 7}')
    for n in (1, 2):
        group = await trial.group(request())
        assert group.assignment == group_pb2.Assignment(arm=group_pb2.ARM_LIVE, propensity=1)
        assert trial.counted("perfusion_rollout_unreadable_total") == n
    assert caplog.text.count("mixed_share is 7") == 1
    trial.roll_out(MIXED)
    assert (await trial.group(request())).assignment.arm == group_pb2.ARM_MIXED
    file.write_text("{")
    await trial.group(request())
    assert caplog.text.count("the live release serves everybody") == 2


async def test_health_is_the_live_releases(trial: Trial) -> None:
    trial.roll_out(HELD_BACK)
    trial.models.loaded = {LIVE}
    await trial.server.poll_health()
    assert await trial.server.poll_health() == {}
