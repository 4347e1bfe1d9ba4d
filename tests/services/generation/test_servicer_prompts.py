"""Prompts as people type them, over real gRPC: read by one rule everywhere, and never cut in silence."""

from typing import Any

import pytest
from perfusion.v1 import generation_service_pb2 as pb
from perfusion.v1.events_pb2 import GroupGenerated

from tests.services.generation.conftest import Studio, request
from tests.services.market import TEXT_TOKENS
from tests.services.running import failing

LONG = " ".join(["red"] * TEXT_TOKENS)  # does not fit by itself
MANY = ",".join(f"red {'red ' * n}".strip() for n in range(6))  # 6 phrases of 1 to 6 words, of which 4 fit in 14 tokens
UNREAD = ["red red red red red", "red red red red red red"]


async def kinds(studio: Studio, prompt: str, **query: Any) -> set[str]:
    answer = await studio.stub.SuggestPhrases(pb.SuggestPhrasesRequest(user_id="ada", prompt=prompt, **query))
    return {suggestion.kind for suggestion in answer.suggestions}


@pytest.mark.parametrize(
    "prompt",
    ["dress，long sleeves", "dress、Long  Sleeves", "dress\nｌｏｎｇ　sleeves", "\ufeffdress,\u200blong sleeves\u200e"],
)
async def test_phrases_are_understood_in_every_writing(studio: Studio, prompt: str) -> None:
    assert await kinds(studio, "dress,long sleeves") == {"detail"} == await kinds(studio, prompt)
    group = await studio.group(request(prompt=prompt))
    assert group.prompt == prompt  # as received
    assert all(list(c.wishes) == ["sequins"] for c in group.candidates)
    plain = await studio.group(request(prompt="dress,long sleeves"))
    assert [c.png for c in group.candidates] == [c.png for c in plain.candidates]


@pytest.mark.parametrize("prefix", ["ｓｅｑ", "\u200bSEQ\u2060", "s\u00adeq"])
async def test_a_prefix_is_read_as_a_phrase_is(studio: Studio, prefix: str) -> None:
    assert await kinds(studio, "dress", prefix=prefix) == {"detail"}


@pytest.mark.parametrize("refused", [["Ｓｅｑｕｉｎｓ"], ["se\u200bquins，Bell sleeves"]])
async def test_a_refused_wish_is_read_as_phrases_are(studio: Studio, refused: list[str]) -> None:
    group = await studio.group(request(prompt="dress", refused_wishes=refused))
    assert not any("sequins" in c.wishes for c in group.candidates)
    assert list(group.settings.refused_wishes) == refused


async def test_labels_are_read_as_their_phrases(studio: Studio) -> None:
    plain = await studio.group(request(prompt="dress,red", negative_prompt="sleeveless", refused_wishes=["sequins"]))
    given = request(prompt="连衣裙，red", negative_prompt="无袖", refused_wishes=["亮片"])
    events = await studio.stream(given)
    twin = events[-1].group
    assert [(c.png, c.score, c.wishes) for c in twin.candidates] == [
        (c.png, c.score, c.wishes) for c in plain.candidates
    ]
    assert (await studio.stream(given))[-1].group == twin  # a repeat is the same request
    assert studio.ranker.prompts == ["dress,red"] * 2
    read = (await studio.stub.GetGroup(pb.GetGroupRequest(group_id=twin.group_id))).group
    for said in (twin, read):  # as received
        assert (said.prompt, said.negative_prompt) == (given.prompt, given.negative_prompt)
        assert list(said.settings.refused_wishes) == ["亮片"]
        assert not said.unread_phrases
    english, chinese = (GroupGenerated.FromString(event.value) for event in studio.events.published)
    assert (chinese.prompt, chinese.canonical_prompt) == ("连衣裙，red", "dress,red")
    assert (english.prompt, english.canonical_prompt) == ("dress,red", "dress,red")


async def test_labels_that_are_not_read_are_named_as_they_are_typed(studio: Studio) -> None:
    full = " ".join(["red"] * (TEXT_TOKENS - 4))  # beside it and "dress" there is room for nothing
    events = await studio.stream(request(prompt=f"连衣裙,{full},长袖", negative_prompt=f"{full},长袖"))
    for said in (events[0].accepted, events[-1].group):
        assert list(said.unread_phrases) == ["长袖"] == list(said.unread_negative_phrases)
    answer = await studio.stub.SuggestPhrases(pb.SuggestPhrasesRequest(user_id="ada", prompt=f"连衣裙,{full},长袖"))
    assert list(answer.unread_phrases) == ["长袖"]


async def test_phrases_are_suggested_for_labels_as_for_phrases(studio: Studio) -> None:
    async def suggested(**query: Any) -> list[pb.PhraseSuggestion]:
        return list((await studio.stub.SuggestPhrases(pb.SuggestPhrasesRequest(user_id="ada", **query))).suggestions)

    assert await suggested(prompt="连衣裙、red") == await suggested(prompt="dress,red") != []
    assert await suggested(prompt="连衣裙", prefix="袖") == [
        each for each in await suggested(prompt="dress", prefix="s") if each.kind == "sleeve"
    ]
    assert [each.phrase for each in await suggested(prompt="连衣裙", prefix="喇叭")] == ["bell sleeves"]


@pytest.mark.parametrize("prompt", ["，", "、\u3000，\n", "\u200b", "\ufeff,\u2060", "\u2800", "\u3164"])
async def test_a_prompt_without_a_phrase_is_refused(studio: Studio, prompt: str) -> None:
    async with failing() as failure:
        await studio.stream(request(prompt=prompt))
    assert list(failure.fields) == ["prompt"]


async def test_what_was_not_read_is_said_with_the_first_message_in_the_group_and_whenever_it_is_read(
    studio: Studio,
) -> None:
    asked = request(prompt=MANY, negative_prompt=f"dress，{LONG}")
    events = await studio.stream(asked)
    accepted, group = events[0].accepted, events[-1].group
    repeated = await studio.stream(asked)
    read = (await studio.stub.GetGroup(pb.GetGroupRequest(group_id=group.group_id))).group
    [listed] = await studio.groups_of("ada")
    for said in (accepted, group, repeated[0].accepted, repeated[-1].group, read, listed):
        assert list(said.unread_phrases) == UNREAD
        assert list(said.unread_negative_phrases) == [LONG]
    suggested = await studio.stub.SuggestPhrases(pb.SuggestPhrasesRequest(user_id="ada", prompt=MANY))
    assert list(suggested.unread_phrases) == UNREAD


async def test_of_an_ordinary_prompt_everything_is_read(studio: Studio) -> None:
    events = await studio.stream(request())
    for said in (events[0].accepted, events[-1].group):
        assert not said.unread_phrases and not said.unread_negative_phrases


async def test_what_is_read_counts_and_what_is_not_read_does_not(studio: Studio) -> None:
    async def drawn(prompt: str) -> list[bytes]:
        return [c.png for c in (await studio.group(request(prompt=prompt))).candidates]

    assert await drawn(MANY) == await drawn(MANY.removesuffix("," + ",".join(UNREAD)))
    assert await drawn(f"{LONG},dress") == await drawn("dress") != await drawn(LONG)  # wishes too


async def test_a_phrase_that_would_not_be_read_is_not_suggested(studio: Studio) -> None:
    full = ",".join(["dress", " ".join(["red"] * (TEXT_TOKENS - 6))])  # room for a comma and one word
    assert await kinds(studio, full) == {"sleeve", "detail"}
    answer = await studio.stub.SuggestPhrases(pb.SuggestPhrasesRequest(user_id="ada", prompt=full))
    assert {suggestion.phrase for suggestion in answer.suggestions} == {"sleeveless", "sequins"}


@pytest.mark.parametrize("user_id", ["shop ☂ \u200b", "ｓｈｏｐ", "a\nb\x01", "\u202eshop", "𝒔hop’s"])
async def test_user_ids_are_compared_as_they_are(studio: Studio, user_id: str) -> None:
    studio.users.known |= {user_id}
    group = await studio.group(request(user_id=user_id))
    assert group.user_id == user_id
    assert [listed.group_id for listed in await studio.groups_of(user_id)] == [group.group_id]
    assert await studio.groups_of(user_id.strip()) == [] or user_id == user_id.strip()
    async with failing() as failure:
        await studio.group(request(user_id=f"{user_id}\u200b"))
    assert failure.code.name == "NOT_FOUND"
