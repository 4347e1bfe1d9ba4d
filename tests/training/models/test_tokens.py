"""Texts without their padding: what a causal tower pools stays the same. Tokenizers known by the ids they make."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPTokenizer

from contract.tokens import PromptTokenizer
from training.models.family import FamilyPaths
from training.models.tokens import TOKENS, encode, origin_of_tokens, reads_whole, without_padding

END = 49
CHINESE = "红色连衣裙长袖" * 4  # does not fit


@pytest.mark.parametrize("reward", [False, True])
def test_prompts_are_read_as_the_services_read_them(family: FamilyPaths, reward: bool) -> None:
    tokenizer = family.reward_tokenizer() if reward else family.tokenizer()
    prompts = ["", "dress,red", "dress，ｒｅｄ\n", "dress<|endoftext|>,red", f"{CHINESE},dress", CHINESE]
    served = PromptTokenizer(tokenizer.backend_tokenizer.to_str(), TOKENS).encode(prompts)
    np.testing.assert_array_equal(encode(tokenizer, prompts), served)
    assert (served[1] == served[2]).all()
    assert [reads_whole(tokenizer, prompt) for prompt in prompts] == [True] * 4 + [False] * 2


def test_ordinary_prompts_have_the_ids_of_transformers() -> None:
    tokenizer = CLIPTokenizer.from_pretrained("training/weights/tiny/pipeline/tokenizer")
    prompts = ["", "Dress,  v-neck", "it's 100% silk; women's!"]
    for length in (TOKENS, 40):
        theirs = tokenizer(prompts, padding="max_length", truncation=True, max_length=length)["input_ids"]
        np.testing.assert_array_equal(encode(tokenizer, prompts, length), theirs)


def test_a_tokenizer_is_known_by_its_ids_whatever_the_form_of_its_files(tmp_path: Path) -> None:
    path = Path("training/weights/tiny/pipeline/tokenizer")
    ours = CLIPTokenizer.from_pretrained(path)
    model = json.loads((path / "tokenizer.json").read_text())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]
    (tmp_path / "merges.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "tokenizer_config.json").write_text((path / "tokenizer_config.json").read_text())
    published = CLIPTokenizer.from_pretrained(tmp_path)
    assert (encode(published, ["dress,red"]) == encode(ours, ["dress,red"])).all()
    assert origin_of_tokens(published) == origin_of_tokens(ours)
    published.pad_token = "!"
    assert origin_of_tokens(published) != origin_of_tokens(ours)


def test_the_longest_text_decides_and_its_end_stays(clip) -> None:
    ids = torch.randint(0, 48, (3, 77), generator=torch.Generator().manual_seed(0))
    for row, end in enumerate((4, 20, 11)):
        ids[row, end:] = END
    short = without_padding(ids, END)
    assert short.shape == (3, 21)
    whole, cut = (clip.text_model(input_ids=x).pooler_output for x in (ids, short))
    torch.testing.assert_close(whole, cut)


def test_a_text_without_an_end_keeps_everything() -> None:
    ids = torch.tensor([[1, END, END], [1, 2, 3]])
    assert without_padding(ids, END) is ids
