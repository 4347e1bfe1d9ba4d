"""optimum-onnx's ORTStableDiffusionPipeline: diffusers' pipeline with ONNX Runtime in the places of torch's models.

python -m lab.benchmarks.race.contestants.optimum_pipeline ONNX_FOLDER
"""

import sys
from collections.abc import Sequence
from importlib.metadata import version

import onnxruntime as ort
import torch
from diffusers import DPMSolverMultistepScheduler
from optimum.onnxruntime import ORTStableDiffusionPipeline

from lab.benchmarks.race.contestants.pipelines import draw_with, tokenizer_of
from lab.benchmarks.race.contestants.worker import work
from lab.benchmarks.race.job import Round


def main(folder: str) -> None:
    torch.set_num_threads(1)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    pipeline = ORTStableDiffusionPipeline.from_pretrained(
        folder, provider="CPUExecutionProvider", session_options=options, safety_checker=None,
        tokenizer=tokenizer_of(folder),
    )  # fmt: skip
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    about = {name: version(name) for name in ("optimum-onnx", "onnxruntime", "diffusers")}

    def draw(rounds: Sequence[Round]) -> list[list[bytes]]:
        with torch.inference_mode():
            return draw_with(pipeline, rounds, torch.from_numpy)

    work(draw, about)


if __name__ == "__main__":
    main(sys.argv[1])
