"""The user prompt reads as the text encoder does: a user's phrases as if they stood in the prompt."""

import pytest
import torch
from torch import Tensor
from transformers import CLIPTextModel

from training.models.errors import ModelError
from training.models.user_prompt import TEXT_LENGTH, UserPrompt

WIDTH, END = 8, 1  # of u_gen; the token that ends a prompt and pads it
PHRASES = [("sleeve", [3, 4]), ("sleeve", [3]), ("trim", [5]), ("trim", [6, 7, 8]), ("trim", [9])]
N = 2 + 3  # places: the longest of each kind


@pytest.fixture
def prompt(text_encoder: CLIPTextModel) -> UserPrompt:
    torch.manual_seed(3)
    return UserPrompt(WIDTH, PHRASES, text_encoder)


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
def test_words_in_the_last_places_are_read_as_words_behind_the_prompt(
    prompt: UserPrompt, text_encoder: CLIPTextModel
) -> None:
    ids, length = tokens(4, 4), 4
    embeddings, there = text_encoder.embeddings(ids), is_word(ids)
    words = torch.randn(N, embeddings.shape[2])
    places = [torch.arange(TEXT_LENGTH - N, TEXT_LENGTH), torch.arange(length, length + N)]
    for row, at in enumerate(places):
        embeddings[row, at], there[row, at] = words, 1.0
    last, behind = prompt.read(embeddings, there)
    torch.testing.assert_close(last[places[0]], behind[places[1]], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(last[:length], behind[:length], atol=1e-4, rtol=1e-4)
    mark = prompt.read(text_encoder.embeddings(ids), is_word(ids))[0, length]
    assert not torch.allclose(last[length], mark, atol=1e-2)  # the mark of the end has heard of words behind it


@torch.no_grad()
def test_the_favoured_phrase_of_each_kind_is_chosen(prompt: UserPrompt, text_encoder: CLIPTextModel) -> None:
    chosen = prompt.chosen(torch.tensor([[1.0, 0.0, -1.0, 2.0, 0.0]]))
    torch.testing.assert_close(chosen, torch.tensor([[1.0, 0.0, 0.0, 1.0, 0.0]]), atol=1e-6, rtol=0.0)
    words, needed = prompt.words_of(chosen)
    assert needed.round().tolist() == [[1, 1, 1, 1, 1]]
    wanted = text_encoder.embeddings(torch.tensor([[3, 4, 6, 7, 8]]), torch.arange(2, 2 + N)[None])
    torch.testing.assert_close(words, wanted)
    _, needed = prompt.words_of(prompt.chosen(torch.tensor([[0.0, 1.0, 2.0, 0.0, 0.0]])))
    assert needed.round().tolist() == [[1, 0, 1, 0, 0]]  # shorter phrases leave places empty
    even = prompt.chosen(torch.zeros(1, 5))
    torch.testing.assert_close(even, torch.tensor([[1 / 2, 1 / 2, 1 / 3, 1 / 3, 1 / 3]]))


@torch.no_grad()
def test_untaught_it_adds_nothing_and_taught_it_keeps_the_prompt_s_words(
    prompt: UserPrompt, text_encoder: CLIPTextModel
) -> None:
    text, u = text_encoder(input_ids=tokens(4, 9)).last_hidden_state, torch.randn(2, WIDTH)
    assert not prompt(text, u).any()
    prompt.voice.fill_(1.0)
    prompt.unread[-1].bias[END] = -80.0  # everything is a word of the prompt's
    assert prompt(text, u).abs().max() < 1e-6
    prompt.unread[-1].bias[END] = 80.0  # nothing is
    assert prompt(text, u).abs().mean() > 0.1


def test_the_reader_is_frozen_and_all_else_learns(prompt: UserPrompt, text_encoder: CLIPTextModel) -> None:
    prompt.voice.data.fill_(1.0)
    text = text_encoder(input_ids=tokens(4)).last_hidden_state.detach()
    prompt(text, torch.randn(1, WIDTH)).square().mean().backward()
    for name, parameter in prompt.named_parameters():
        assert (parameter.grad is None) == name.startswith("reader."), name


def test_phrases_that_a_prompt_cannot_hold_are_refused(text_encoder: CLIPTextModel) -> None:
    with pytest.raises(ModelError, match="76 tokens; a prompt has 77"):
        UserPrompt(WIDTH, [("sleeve", [3] * 76)], text_encoder)
