"""Draws with the models of an exported release, as they are served: ONNX Runtime in the places of torch.

The same pictures as `artist`, up to rounding, in a fraction of the time; by the release's defaults, if nothing else is
said. Knows a model repository's files; nothing of Triton or of the services.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor
from tqdm import tqdm

from contract.release import model_dir, read_release, release_dir
from contract.repository import Repository
from lab.generation.artist import Drawing
from training.generator.drawing import sampler_of
from training.models.family import FamilyPaths
from training.models.tokens import encode


class ServedArtist:
    """A release of a model repository, whether it serves or not, with `Artist`'s methods."""

    def __init__(
        self, repository: Path, family: FamilyPaths, how: Drawing | None = None, number: int | None = None
    ) -> None:
        """`number` is the release's; None: the newest one."""
        number = max(Repository(repository).numbers(), default=0) if number is None else number
        self.release = read_release(release_dir(repository, number))
        self.how = how or Drawing(**vars(self.release.manifest.defaults), batch_size=16)
        self.family, self.tokenizer = family, family.tokenizer()
        self.models = {
            name: _session(model_dir(repository, name, number) / "model.onnx")
            for name in ("text_encoder", "denoiser", "vae_decoder", "user_encoder")
        }
        self.no_text = self.states([""])  # (1, 77, D)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(C, S, S) of what it denoises."""
        sizes = self.release.sizes
        return (sizes.latent_channels, sizes.latent_size, sizes.latent_size)

    def states(self, prompts: Sequence[str]) -> Tensor:
        """Text states (N, 77, D); each distinct prompt is read once."""
        distinct = list(dict.fromkeys(prompts))
        parts = [
            self.models["text_encoder"].run(None, {"input_ids": encode(self.tokenizer, distinct[at : at + 256])})[0]
            for at in range(0, len(distinct), 256)
        ]
        rows = {prompt: row for row, prompt in enumerate(distinct)}
        return torch.from_numpy(np.concatenate(parts))[[rows[prompt] for prompt in prompts]]

    def draw(self, text: Tensor, features: Tensor, noise: Tensor, desc: str) -> np.ndarray:
        """Pictures uint8 (G, K, H, W, 3) for text states (G, 77, D), profiles (G, F) and noise (G, K, C, S, S)."""
        k = noise.shape[1]
        parts = torch.arange(len(noise)).split(max(1, self.how.batch_size // k))
        found = [
            self._batch(text[part].repeat_interleave(k, 0), features[part].repeat_interleave(k, 0), noise[part])
            for part in tqdm(parts, desc=desc, mininterval=5)
        ]
        drawn = np.concatenate(found)
        return drawn.reshape(-1, k, *drawn.shape[1:])

    def _batch(self, text: Tensor, features: Tensor, noise: Tensor) -> np.ndarray:
        latents = self.denoise(noise.flatten(0, 1), self.inputs(text, features))
        (images,) = self.models["vae_decoder"].run(None, {"latents": latents.numpy()})
        return np.asarray(images)

    def inputs(self, text: Tensor, features: Tensor) -> dict[str, np.ndarray]:
        """The denoiser's inputs that are the same at every step, for text states (B, 77, D) and profiles (B, F)."""
        b = len(text)
        fixed = {
            "text": text.numpy(),
            "negative_text": self.no_text.expand_as(text).numpy(),
            "user": self._users(features),
            "guidance": np.full((b, 1), self.how.guidance_scale, np.float32),
            "adapter_scale": np.ones((b, 1), np.float32),
        }
        known = {tensor.name for tensor in self.models["denoiser"].get_inputs()}
        return {name: value for name, value in fixed.items() if name in known}

    def denoise(self, latents: Tensor, inputs: Mapping[str, np.ndarray]) -> Tensor:
        """Clean latents (B, C, S, S) from noise (B, C, S, S), with `inputs`."""
        own, b = sampler_of(self.family, self.how.sampler), len(latents)
        own.set_timesteps(self.how.num_steps)
        latents = latents * own.init_noise_sigma
        for t in own.timesteps:
            seen = own.scale_model_input(latents, t).float().numpy()
            changing = {"latents": seen, "timestep": np.full((b, 1), int(t), np.int64)}
            (eps,) = self.models["denoiser"].run(None, {**inputs, **changing})
            latents = own.step(torch.from_numpy(eps), t, latents).prev_sample
        return latents.float()

    def _users(self, features: Tensor) -> np.ndarray:
        """The generator's user vectors, (B, d)."""
        padded = np.zeros((len(features), self.release.sizes.feature_slots), np.int64)
        padded[:, : features.shape[1]] = features.numpy()
        vectors: np.ndarray = self.models["user_encoder"].run(["generator_user"], {"features": padded})[0]
        return vectors


def _session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0))))
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
