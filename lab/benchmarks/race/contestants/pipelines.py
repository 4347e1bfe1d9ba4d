"""What diffusers' and optimum's pipelines are called with alike: prompts, and the noise of the seeds."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from lab.benchmarks.race.job import CANDIDATES, GUIDANCE, NEGATIVE_PROMPT, STEPS, Round, by_round, noise_of


def tokenizer_of(folder: str) -> PreTrainedTokenizerFast:
    """CLIP's, from its tokenizer.json alone: transformers 4, which optimum-onnx wants, looks for other files."""
    return PreTrainedTokenizerFast(
        tokenizer_file=str(Path(folder) / "tokenizer" / "tokenizer.json"), model_max_length=77,
        bos_token="<|startoftext|>", eos_token="<|endoftext|>", pad_token="<|endoftext|>",
    )  # fmt: skip


def draw_with(pipeline: Any, rounds: Sequence[Round], tensor: Callable[[np.ndarray], Any]) -> list[list[bytes]]:
    """The PNGs of each round; all in one batch. `tensor` makes the pipeline's kind of the noise."""
    noise = noise_of(tuple(seed for one in rounds for seed in one.seeds))
    pictures = pipeline(
        prompt=[one.prompt for one in rounds],
        negative_prompt=[NEGATIVE_PROMPT] * len(rounds),
        num_images_per_prompt=CANDIDATES,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        latents=tensor(noise),
        output_type="np",
    ).images
    return by_round((pictures * 255).round().astype(np.uint8), rounds)
