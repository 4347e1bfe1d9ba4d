"""The fixed maxima of the tensor contract.

A model's versions share one config.pbtxt, so widths that follow from the feature schema or the vocabulary are padded:
a release with one more profile feature is loaded beside the old one. Features beyond those in use are not read, vector
entries beyond are zero. What is in use stands in the release's manifest. A family beyond the maxima needs a repository,
and with it a deployment, of its own.
"""

FEATURE_SLOTS = 32  # F, integers of an encoded profile
PHRASES = 256  # V, of a vocabulary
GENERATOR_USER_WIDTH = 256  # d of the vector that the generator reads
REWARD_USER_WIDTH = 512  # d of the vectors that the reward model's towers read


def room_for(in_use: int, maximum: int) -> int:
    """The padded width for a family that uses this much: the maximum, or the next power of two above it."""
    return max(maximum, 1 << (in_use - 1).bit_length() if in_use > 1 else 1)
