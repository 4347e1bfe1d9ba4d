"""Texts without their padding: what a causal tower pools stays the same."""

import torch

from training.models.tokens import without_padding

END = 49


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
