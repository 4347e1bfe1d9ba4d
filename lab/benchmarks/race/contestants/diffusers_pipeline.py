"""diffusers' StableDiffusionPipeline in PyTorch: one thread, channels last, compiled, which saves a third of its CPU.

python -m lab.benchmarks.race.contestants.diffusers_pipeline PIPELINE

Compiled for one batch, that of a round, since a batch more takes minutes more: rounds come one after the other.
"""

import sys
from collections.abc import Sequence
from importlib.metadata import version

import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

from lab.benchmarks.race.contestants.pipelines import draw_with, tokenizer_of
from lab.benchmarks.race.contestants.worker import work
from lab.benchmarks.race.job import Round


def main(folder: str) -> None:
    torch.set_num_threads(1)
    pipeline = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, tokenizer=None)
    pipeline.tokenizer = tokenizer_of(folder)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.unet.to(memory_format=torch.channels_last)
    pipeline.vae.to(memory_format=torch.channels_last)
    pipeline.unet.compile(dynamic=False)
    pipeline.vae.decoder.compile(dynamic=False)
    about = {name: version(name) for name in ("diffusers", "torch", "transformers")}

    def draw(rounds: Sequence[Round]) -> list[list[bytes]]:
        with torch.inference_mode():
            return [pngs for one in rounds for pngs in draw_with(pipeline, [one], torch.from_numpy)]

    work(draw, about)


if __name__ == "__main__":
    main(sys.argv[1])
