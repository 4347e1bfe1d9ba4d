"""The user prompt reads as the text encoder does: a user's phrases as if they stood in the prompt."""

import math

import pytest
import torch
from torch import Tensor
from transformers import CLIPTextModel

from training.common.errors import ModelError
from training.models.user_prompt import TEXT_LENGTH, VARIETY, Language, UserPrompt

WIDTH, END = 8, 1  # of u_gen; the token that ends a prompt and pads it
PHRASES = [("sleeve", [3, 4]), ("sleeve", [3]), ("trim", [5]), ("trim", [6, 7, 8]), ("trim", [9])]
N = 2 + 3  # places: the longest of each kind
LIKES = torch.tensor([[1.0, 0.0, -1.0, 2.0, 0.0]])  # the first phrase of either kind but [6, 7, 8] of the trims


@pytest.fixture
def prompt(text_encoder: CLIPTextModel) -> UserPrompt:
    torch.manual_seed(3)
    return UserPrompt(WIDTH, Language(PHRASES, END, text_encoder))


def tokens(*lengths: int) -> Tensor:
    """Prompts of so many words, (G, 77)."""
    ids = torch.full((len(lengths), TEXT_LENGTH), END)
    for row, length in zip(ids, lengths, strict=True):
        row[:length] = torch.arange(2, 2 + length) % 40 + 2
    return ids


def is_word(ids: Tensor) -> Tensor:
    return (ids != END).float()


@torch.no_grad()
def test_without_phrases_it_reads_what_the_text_encoder_reads(prompt: UserPrompt, text_encoder: CLIPTextModel) -> None:
    ids = tokens(4, 9, 70)
    states = text_encoder(input_ids=ids).last_hidden_state
    torch.testing.assert_close(prompt.read(text_encoder.embeddings(ids), is_word(ids)), states, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_phrases_are_read_as_typed_behind_the_prompt(prompt: UserPrompt, text_encoder: CLIPTextModel) -> None:
    ids, at = tokens(2), torch.arange(TEXT_LENGTH)[None]
    embeddings, there = text_encoder.embeddings(ids), is_word(ids)
    both = prompt.said_by(embeddings, there, prompt.chosen(LIKES), torch.ones(1, 2))
    found = text_encoder(input_ids=ids).last_hidden_state + both
    typed = ids.clone()
    typed[0, 2 : 2 + N] = torch.tensor([3, 4, 6, 7, 8])
    wanted = text_encoder(input_ids=typed, position_ids=at).last_hidden_state
    torch.testing.assert_close(found[0, -N:], wanted[0, 2 : 2 + N], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(both[0, :2], torch.zeros(2, 12), atol=1e-4, rtol=0.0)  # the prompt's own words
    assert both[0, 2].abs().max() > 1e-3  # the mark of the end has heard of what is behind it
    second = prompt.said_by(embeddings, there, prompt.chosen(LIKES), torch.tensor([[0.0, 1.0]]))
    assert second[0, -N].abs().max() < both[0, -N].abs().max() / 10  # its place is padding still
    assert second[0, -1].abs().max() > 0.1


@torch.no_grad()
def test_what_is_not_open_adds_nothing_and_what_has_no_room_is_left_out(
    prompt: UserPrompt, text_encoder: CLIPTextModel
) -> None:
    ids = tokens(4, 71, 72, 74, 75)  # the last five places are the phrases': 72, 73 and 74, 75, 76
    said = prompt.said_by(
        text_encoder.embeddings(ids), is_word(ids), prompt.chosen(LIKES).expand(5, -1), torch.ones(5, 2)
    )
    trim, nothing = torch.ones(1, 2) * torch.tensor([0.0, 1.0]), torch.zeros(1, 2)
    one = text_encoder.embeddings(ids[2:3]), is_word(ids[2:3]), prompt.chosen(LIKES)
    assert not prompt.said_by(*one, nothing).any()
    torch.testing.assert_close(said[2:3], prompt.said_by(*one, trim))  # no place for a mark before the sleeves
    assert said[0].any() and said[1].any() and said[2].any()
    assert not said[3].any() and not said[4].any()  # nor before the trims


@torch.no_grad()
def test_the_favoured_phrase_of_each_kind_is_chosen(prompt: UserPrompt, text_encoder: CLIPTextModel) -> None:
    chosen = prompt.chosen(LIKES)
    torch.testing.assert_close(chosen, torch.tensor([[1.0, 0.0, 0.0, 1.0, 0.0]]), atol=1e-6, rtol=0.0)
    words, needed = prompt.words_of(chosen)
    assert needed.round().tolist() == [[1, 1, 1, 1, 1]]
    wanted = text_encoder.embeddings(torch.tensor([[3, 4, 6, 7, 8]]), torch.arange(2, 2 + N)[None])
    torch.testing.assert_close(words, wanted)
    _, needed = prompt.words_of(prompt.chosen(torch.tensor([[0.0, 1.0, 2.0, 0.0, 0.0]])))
    assert needed.round().tolist() == [[1, 0, 1, 0, 0]]  # shorter phrases leave places empty
    even = prompt.chosen(torch.zeros(1, 5))
    torch.testing.assert_close(even, torch.tensor([[1 / 2, 1 / 2, 1 / 3, 1 / 3, 1 / 3]]))
    known = prompt.known(torch.tensor([[0.5, 0.0, 0.0, 0.05, -1.0], [0.1, 0.0, 0.0, 0.05, -1.0]]))
    assert known.tolist() == [[1.0], [0.0]]


@torch.no_grad()
def test_untaught_it_adds_nothing(prompt: UserPrompt, text_encoder: CLIPTextModel) -> None:
    text, u = text_encoder(input_ids=tokens(4, 9)).last_hidden_state, torch.randn(2, WIDTH)
    assert not prompt(text, u).any()
    prompt.voice.fill_(1.0)
    prompt.favour[-1].bias.fill_(1.0)  # whatever is open is wished
    prompt.unread[-1].bias[END] = -80.0  # everything is a word of the prompt's: there is no room
    assert prompt(text, u).abs().max() < 1e-6
    prompt.unread[-1].bias[END] = 80.0
    prompt.opening.bias.fill_(-80.0)  # nothing is open
    assert prompt(text, u).abs().max() < 1e-6
    prompt.opening.bias.fill_(80.0)
    assert prompt(text, u)[:, -N:].abs().mean() > 0.1


@torch.no_grad()
def test_noise_changes_what_is_hardly_favoured_as_often_as_it_should(
    prompt: UserPrompt, text_encoder: CLIPTextModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    n, gap = 400, VARIETY
    prompt.voice.fill_(1.0)
    prompt.unread[-1].bias[END] = 80.0  # there is room
    prompt.opening.bias.fill_(80.0)  # and everything is open
    prompt.favour[-1].weight.zero_()
    prompt.favour[-1].bias.copy_(torch.tensor([1.0, 1.0 - gap, 3.0, 0.0, 0.0]))
    text, u = text_encoder(input_ids=tokens(4)).last_hidden_state, torch.randn(1, WIDTH)
    noise = -(-torch.rand(n, 5, generator=torch.Generator().manual_seed(0)).log()).log()
    torch.testing.assert_close(prompt(text, u, torch.zeros(1, 5)), prompt(text, u))
    told: list[Tensor] = []
    tell = prompt.chosen
    monkeypatch.setattr(prompt, "chosen", lambda favours: told.append(tell(favours)) or told[-1])
    said = prompt(text.expand(n, -1, -1), u.expand(n, -1), noise)
    torch.testing.assert_close(prompt(text, u, noise[7:8]), said[7:8], atol=1e-4, rtol=1e-4)
    second = (told[0][:, 1] > told[0][:, 0]).float().mean().item()
    assert abs(second - 1 / (1 + math.e)) < 0.06  # the difference of two such noises is logistic
    assert (told[0][:, 2] > 0.99).all()  # what is clearly favoured stays


def test_the_reader_is_frozen_and_all_else_learns(prompt: UserPrompt, text_encoder: CLIPTextModel) -> None:
    prompt.voice.data.fill_(1.0)
    text = text_encoder(input_ids=tokens(4)).last_hidden_state.detach()
    prompt(text, torch.randn(1, WIDTH)).square().mean().backward()
    for name, parameter in prompt.named_parameters():
        assert (parameter.grad is None) == name.startswith("reader."), name


def test_it_learns_in_bfloat16(prompt: UserPrompt, text_encoder: CLIPTextModel) -> None:
    prompt.voice.data.fill_(1.0)
    text, u = text_encoder(input_ids=tokens(4)).last_hidden_state.detach(), torch.randn(1, WIDTH)
    with torch.autocast("cpu", torch.bfloat16):
        added = prompt(text, u)
    added.float().square().mean().backward()
    torch.testing.assert_close(added.float(), prompt(text, u), atol=0.1, rtol=0.1)


def test_phrases_that_a_prompt_cannot_hold_are_refused(text_encoder: CLIPTextModel) -> None:
    with pytest.raises(ModelError, match="76 tokens; a prompt has 77"):
        UserPrompt(WIDTH, Language([("sleeve", [3] * 76)], END, text_encoder))
