"""Token ids as CLIP's text towers read them: causally, and only up to the first end token.

Knows ids and the end token; neither vocabularies nor models.
"""

from torch import Tensor


def without_padding(input_ids: Tensor, eos_token_id: int) -> Tensor:
    """The ids (B, T) up to the last text's end, (B, t): what follows cannot change a causal tower's pooled output.

    Short prompts padded to 77 tokens cost several times what they need. Texts without an end keep their length.
    """
    ends = input_ids == eos_token_id  # (B, T)
    if not bool(ends.any(1).all()):
        return input_ids
    return input_ids[:, : int(ends.int().argmax(1).max()) + 1]
