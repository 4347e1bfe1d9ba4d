"""diffusers' StableDiffusionPipeline in PyTorch, one thread, channels last, compiled where the runner says so.

python -m lab.benchmarks.race.contestants.diffusers_pipeline PIPELINE [compiled]
"""

import sys
from collections.abc import Sequence
from importlib.metadata import version

import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

from lab.benchmarks.race.contestants.pipelines import draw_with, tokenizer_of
from lab.benchmarks.race.contestants.worker import work
from lab.benchmarks.race.job import Round


def main(folder: str, how: Sequence[str]) -> None:
    torch.set_num_threads(1)
    pipeline = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, tokenizer=None)
    pipeline.tokenizer = tokenizer_of(folder)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.unet.to(memory_format=torch.channels_last)
    pipeline.vae.to(memory_format=torch.channels_last)
    if "compiled" in how:
        pipeline.unet.compile(dynamic=False)
        pipeline.vae.decoder.compile(dynamic=False)
    about = {name: version(name) for name in ("diffusers", "torch", "transformers")}

    def draw(rounds: Sequence[Round]) -> list[list[bytes]]:
        with torch.inference_mode():
            return draw_with(pipeline, rounds, torch.from_numpy)

    work(draw, about)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
