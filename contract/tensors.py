"""The fixed maxima of the tensor contract.

A model's versions share one config.pbtxt, so widths that follow from the feature schema or the vocabulary are padded:
a release with one more profile feature is loaded beside the old one. Features beyond those in use are not read, vector
entries beyond are zero. What is in use stands in the release's manifest. A family beyond the maxima needs a repository,
and with it a deployment, of its own.
"""

from collections.abc import Mapping

from contract.release import Sizes

Shapes = Mapping[str, tuple[int, ...]]  # tensor → dimensions without the batch

FEATURE_SLOTS = 32  # F, integers of an encoded profile
PHRASES = 256  # V, of a vocabulary
GENERATOR_USER_WIDTH = 256  # d of the vector that the generator reads
REWARD_USER_WIDTH = 512  # d of the vectors that the reward model's towers read


def room_for(in_use: int, maximum: int) -> int:
    """The padded width for a family that uses this much: the maximum, or the next power of two above it."""
    return max(maximum, 1 << (in_use - 1).bit_length() if in_use > 1 else 1)


def shapes(sizes: Sizes) -> dict[str, Shapes]:
    """The dimensions of every model's tensors in a release of these sizes."""
    latents = (sizes.latent_channels, sizes.latent_size, sizes.latent_size)
    image = (sizes.image_size_px, sizes.image_size_px, 3)
    states, ids = (sizes.text_tokens, sizes.text_width), (sizes.text_tokens,)
    of_reward, of_generator = (sizes.reward_user_width,), (sizes.generator_user_width,)
    return {
        "denoiser": {
            "latents": latents, "noise": latents, "text": states, "negative_text": states, "user": of_generator,
            "timestep": (1,), "guidance": (1,), "adapter_scale": (1,),
        },
        "vae_decoder": {"latents": latents, "image": image},
        "vae_encoder": {"latents": latents, "image": image},
        "user_encoder": {
            "features": (sizes.feature_slots,), "reward_text_user": of_reward, "reward_image_user": of_reward,
            "generator_user": of_generator, "favours": (sizes.phrases,),
        },
        "text_encoder": {"input_ids": ids, "hidden": states},
        "reward_text": {"input_ids": ids, "user": of_reward, "embedding": (sizes.reward_width,)},
        "reward_image": {"image": image, "user": of_reward, "embedding": (sizes.reward_width,)},
    }  # fmt: skip
