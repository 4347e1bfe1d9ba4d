"""The loop that people write around ONNX files: text states, guided DPM-Solver++ (2M) in numpy, decoder.

Takes the release's own files, in which guidance and the decoder's scale are part of the graphs; `runtimes` loads them.
Several rounds are drawn in one batch.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from contract.tokens import PromptTokenizer
from lab.benchmarks.race.job import CANDIDATES, GUIDANCE, NEGATIVE_PROMPT, STEPS, Round, by_round, noise_of

Tensors = Mapping[str, np.ndarray]
Run = Callable[[Tensors], np.ndarray]  # of a graph's one output


class Loop:
    """Draws rounds with a release's graphs.

    Args:
        load: a graph file, and the batches it will get → a function that runs it.
        repository, release: where the files are.
        at_once: most rounds in a call.
        ddim: instead of DPM-Solver++, to compare pictures with a peer that has no other.
    """

    def __init__(
        self,
        load: Callable[[Path, Sequence[int]], Run],
        repository: Path,
        release: int,
        at_once: int,
        ddim: bool = False,
    ) -> None:
        rows = [CANDIDATES * n for n in range(1, at_once + 1)]
        texts = list(range(1, at_once + 1))
        graphs = {
            name: load(repository / name / str(release) / "model.onnx", batches)
            for name, batches in (("text_encoder", texts), ("denoiser", rows), ("vae_decoder", rows))
        }
        self._read, self._denoise, self._decode = graphs["text_encoder"], graphs["denoiser"], graphs["vae_decoder"]
        folder = repository / "releases" / str(release)
        manifest = json.loads((folder / "manifest.json").read_text())
        self._user = np.zeros(manifest["sizes"]["generator_user_width"], np.float32)
        self._tokenizer = PromptTokenizer((folder / "tokenizer.json").read_text(), manifest["sizes"]["text_tokens"])
        self._solver = (Ddim if ddim else Solver)(manifest["noise_schedule"])
        self._negative = self._read({"input_ids": self._tokenizer.encode([NEGATIVE_PROMPT])})  # (1, T, D), once

    def draw(self, rounds: Sequence[Round]) -> list[list[bytes]]:
        """The PNGs of each round."""
        seeds = tuple(seed for one in rounds for seed in one.seeds)
        states = self._read({"input_ids": self._tokenizer.encode([one.prompt for one in rounds])})  # (G, T, D)
        text = np.repeat(states, [len(one.seeds) for one in rounds], axis=0)  # (B, T, D)
        b = len(seeds)
        fixed = {
            "text": text,
            "negative_text": np.repeat(self._negative, b, axis=0),
            "guidance": np.full((b, 1), GUIDANCE, np.float32),
            "user": np.repeat(self._user[None], b, axis=0),
            "adapter_scale": np.zeros((b, 1), np.float32),
        }
        noise = noise_of(seeds)
        latents = self._solver.run(
            noise, lambda x, t: self._denoise({"latents": x, "timestep": np.full((b, 1), t, np.int64), **fixed})
        )
        images = self._decode({"latents": latents})
        return by_round(images, rounds)


class Solver:
    """DPM-Solver++ (2M) of Lu et al. 2022 as in diffusers: trailing timesteps, first and last step of order 1."""

    def __init__(self, schedule: Mapping[str, float | int | str]) -> None:
        first, last = float(schedule["beta_start"]), float(schedule["beta_end"])
        levels = int(schedule["num_train_timesteps"])
        alphas = np.cumprod(1 - np.linspace(first**0.5, last**0.5, levels) ** 2)
        self.timesteps = (np.arange(levels, 0, -levels / STEPS).round().astype(int) - 1).tolist()
        self.alphas = alphas
        self.sigmas = [*(((1 - alphas[t]) / alphas[t]) ** 0.5 for t in self.timesteps), 0.0]

    def run(self, latents: np.ndarray, predict: Callable[[np.ndarray, int], np.ndarray]) -> np.ndarray:
        """Clean latents from noise."""
        before = None
        for i, timestep in enumerate(self.timesteps):
            sigma, lower = self.sigmas[i], self.sigmas[i + 1]
            alpha, alpha_lower = (1 + sigma**2) ** -0.5, (1 + lower**2) ** -0.5
            clean = latents / np.float32(alpha) - np.float32(sigma) * predict(latents, timestep)
            way = clean
            if before is not None and lower > 0:
                ratio = np.log(sigma / lower) / np.log(self.sigmas[i - 1] / sigma)
                way = clean + np.float32(ratio / 2) * (clean - before)
            before = clean
            kept = np.float32(alpha_lower * lower / (alpha * sigma))
            latents = kept * latents + np.float32(alpha_lower * (1 - lower / sigma)) * way
        return latents


class Ddim(Solver):
    """DDIM of Song et al. 2021 as in diffusers: trailing timesteps, and at the end the least noise of training."""

    def run(self, latents: np.ndarray, predict: Callable[[np.ndarray, int], np.ndarray]) -> np.ndarray:
        width = len(self.alphas) // STEPS
        for timestep in self.timesteps:
            a, lower = self.alphas[timestep], self.alphas[max(0, timestep - width)]
            noise = predict(latents, timestep)
            clean = (latents - np.float32((1 - a) ** 0.5) * noise) / np.float32(a**0.5)
            latents = np.float32(lower**0.5) * clean + np.float32((1 - lower) ** 0.5) * noise
        return latents
