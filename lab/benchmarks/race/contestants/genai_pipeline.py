"""OpenVINO GenAI's Text2ImagePipeline, on graphs made from the same ONNX files, a thread, float32.

python -m lab.benchmarks.race.contestants.genai_pipeline ONNX_FOLDER

It has no DPM-Solver++: it draws by DDIM with as many steps, which costs the same and gives other pictures.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino_genai as genai
from openvino_tokenizers import convert_tokenizer

from lab.benchmarks.race.contestants.pipelines import tokenizer_of
from lab.benchmarks.race.contestants.worker import work
from lab.benchmarks.race.job import CANDIDATES, GUIDANCE, NEGATIVE_PROMPT, STEPS, Round, by_round, noise_of

SIDE_PX = 64


class Noise(genai.Generator):
    """Gives the pipeline a round's noise, a candidate at a time."""

    def __init__(self, seeds: tuple[int, ...]) -> None:
        super().__init__()
        self.left = [*noise_of(seeds)]

    def next(self) -> float:
        raise NotImplementedError("single numbers are not asked for")

    def randn_tensor(self, shape: ov.Shape) -> ov.Tensor:
        count = int(np.prod(tuple(shape))) // self.left[0].size
        taken, self.left = self.left[:count], self.left[count:]
        return ov.Tensor(np.ascontiguousarray(np.stack(taken).reshape(tuple(shape))))


def converted(folder: Path, into: Path) -> None:
    """OpenVINO's directory of a pipeline."""
    shutil.copytree(folder, into, ignore=shutil.ignore_patterns("model.onnx"))
    for name in ("text_encoder", "unet", "vae_decoder"):
        ov.save_model(ov.convert_model(folder / name / "model.onnx"), into / name / "openvino_model.xml", False)
    tokenizer = convert_tokenizer(tokenizer_of(str(folder)), max_length=77, use_max_padding=True)
    ov.save_model(tokenizer, into / "tokenizer" / "openvino_tokenizer.xml", False)
    for config in into.rglob("*.json"):  # its reader takes no null
        if config.parent.name != "tokenizer":
            config.write_text(json.dumps(_present(json.loads(config.read_text()))))


def _present(config: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if value is not None and value != [None, None]}


def main(folder: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        into = Path(place) / "pipeline"
        converted(Path(folder), into)
        pipeline = genai.Text2ImagePipeline.stable_diffusion(  # by parts: it refuses the directory as a whole
            genai.Scheduler.from_config(into / "scheduler" / "scheduler_config.json"),
            genai.CLIPTextModel(into / "text_encoder"),
            genai.UNet2DConditionModel(into / "unet"),
            genai.AutoencoderKL(into / "vae_decoder"),
        )
        pipeline.reshape(CANDIDATES, SIDE_PX, SIDE_PX, GUIDANCE)
        how = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        pipeline.compile("CPU", **how)

    def draw(rounds: Sequence[Round]) -> list[list[bytes]]:
        pictures = [
            pipeline.generate(
                one.prompt, negative_prompt=NEGATIVE_PROMPT, generator=Noise(one.seeds),
                num_images_per_prompt=CANDIDATES,
                num_inference_steps=STEPS, guidance_scale=GUIDANCE, width=SIDE_PX, height=SIDE_PX,
            ).data
            for one in rounds
        ]  # fmt: skip
        return by_round(np.concatenate(pictures), rounds)

    work(draw, {"openvino-genai": version("openvino-genai"), "sampler": "ddim"})


if __name__ == "__main__":
    main(sys.argv[1])
