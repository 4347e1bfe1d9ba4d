"""The groups that training reads: candidates as tensors, with the merchant's picks.

A directory of .npy files (memory-mapped when read) and the feature schema that encoded the
profiles. A training needs only some arrays: `latents` for the generator, `images` for the reward
model. Knows nothing about where groups come from.

    features.npy    int64   (N, F)             encoded profiles, see contract.feature_schema
    selected.npy    bool    (N, K)
    input_ids.npy   int64   (N, V, 77)         V wordings of each prompt (phrases shuffled)
    latents.npy     float16 (N, K, C, S, S)    at the U-Net's scale; optional
    images.npy      uint8   (N, K, H, W, 3)    optional
    present.npy     bool    (N, K)             optional: which candidates exist, where groups differ in size
    counts.npy      float32 (N, K)             optional: how much a selected candidate counts, against others' 1
    weights.npy     float32 (N,)               optional: how often a training sees a group, against others' 1
    group_ids.npy, user_ids.npy, prompts.npy  str (N,)  optional
    feature_schema.json
"""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from contract.feature_schema import FeatureSchema
from training.common.errors import ModelError, reading

REQUIRED = {"features": ("int64", 2), "selected": ("bool", 2), "input_ids": ("int64", 3)}
OPTIONAL = {
    "latents": ("float16", 5), "images": ("uint8", 5), "present": ("bool", 2), "counts": ("float32", 2),
    "weights": ("float32", 1),
}  # fmt: skip
NAMES = ("group_ids", "user_ids", "prompts")
MOST_EPOCHS = 1_000  # in one batch; more is a mistake


class GroupError(ModelError):
    """No training is possible on these groups; the message names the array and the reason."""


@dataclass(frozen=True, eq=False)
class GroupTensors:
    """N groups of K candidates; see the module for shapes."""

    schema: FeatureSchema
    features: np.ndarray
    selected: np.ndarray
    input_ids: np.ndarray
    latents: np.ndarray | None = None
    images: np.ndarray | None = None
    present: np.ndarray | None = None
    counts: np.ndarray | None = None
    weights: np.ndarray | None = None
    group_ids: np.ndarray | None = None
    user_ids: np.ndarray | None = None
    prompts: np.ndarray | None = None  # as written

    def __post_init__(self) -> None:
        n, k = self.selected.shape
        for name, (dtype, ndim) in (REQUIRED | OPTIONAL).items():
            array = getattr(self, name)
            if array is None and name in OPTIONAL:
                continue
            if array.dtype != dtype or array.ndim != ndim or len(array) != n:
                raise GroupError(f"{name} is {array.dtype}{array.shape}, expected {dtype} of {ndim} axes, {n} groups")
            if name in OPTIONAL and ndim > 1 and array.shape[1] != k:
                raise GroupError(f"{name} has {array.shape[1]} candidates a group, selected has {k}")
        if (self.selected & ~self.there).any():
            raise GroupError("selected names candidates that are not present")
        if not (np.isfinite(self.weight) & (self.weight > 0)).all():
            raise GroupError("weights are positive numbers")
        if self.counts is not None and not (np.isfinite(self.counts) & (self.counts >= 1)).all():
            raise GroupError("counts are numbers from 1 on")
        self._check_features()

    @property
    def there(self) -> np.ndarray:
        """Which candidates exist, bool (N, K)."""
        return np.ones_like(self.selected) if self.present is None else self.present

    @property
    def weight(self) -> np.ndarray:
        """How often a training sees each group, against others' 1; float32 (N,)."""
        return np.ones(len(self.selected), np.float32) if self.weights is None else self.weights

    def chosen_of(self, rows: np.ndarray) -> np.ndarray:
        """The picks of these rows as a target: bool (R, K), or, with counts, how much each counts, float32 (R, K)."""
        selected = self.selected[rows]
        return selected if self.counts is None else np.where(selected, self.counts[rows], np.float32(0))

    def weights_of(self, rows: np.ndarray) -> np.ndarray | None:
        """The weights of these rows; None: all groups count alike."""
        return None if self.weights is None else self.weights[rows]

    def _check_features(self) -> None:
        if self.features.shape[1] != self.schema.n_slots:
            raise GroupError(f"features have {self.features.shape[1]} slots, the schema {self.schema.n_slots}")
        for feature, where in zip(self.schema.features, self.schema.slices, strict=True):
            column = self.features[:, where]
            if len(column) and not (column.min() >= 0 and column.max() < feature.n_rows):
                raise GroupError(f"feature {feature.name!r} has codes outside 0…{feature.n_rows - 1}")

    def __len__(self) -> int:
        return len(self.selected)

    def fingerprint(self) -> str:
        """A hash of merchants, prompts, candidates and picks, without pictures, which latents stand for."""
        digest = hashlib.sha256(json.dumps(self.schema.to_json(), sort_keys=True).encode())
        for array in (self.features, self.selected, self.there, self.input_ids):
            digest.update(np.ascontiguousarray(array).data)
        for optional in (self.counts, self.weights):
            if optional is not None:
                digest.update(np.ascontiguousarray(optional).data)
        if self.latents is not None:
            update_with(digest, self.latents)
        return digest.hexdigest()[:16]

    def rows_with(self, *, negatives: bool) -> np.ndarray:
        """The groups with a positive, and with a negative where one is needed."""
        usable = self.selected.any(1)
        return np.flatnonzero(usable & (self.there & ~self.selected).any(1) if negatives else usable)

    def split(self, n_last: int) -> tuple["GroupTensors", "GroupTensors"]:
        """All groups but the last n, and the last n."""
        if not 0 <= n_last < len(self):
            raise GroupError(f"cannot hold out {n_last} of {len(self)} groups")
        return self.rows(slice(0, len(self) - n_last)), self.rows(slice(len(self) - n_last, None))

    def rows(self, rows: slice | np.ndarray) -> "GroupTensors":
        """These groups only; a slice copies nothing."""
        arrays = {name: getattr(self, name) for name in (*REQUIRED, *OPTIONAL, *NAMES)}
        return replace(self, **{name: array[rows] for name, array in arrays.items() if array is not None})

    def save(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        for name in (*REQUIRED, *OPTIONAL, *NAMES):
            array = getattr(self, name)
            if array is not None:
                np.save(directory / f"{name}.npy", array)
        self.schema.write(directory / "feature_schema.json")

    @classmethod
    def load(cls, directory: Path) -> "GroupTensors":
        missing = [f"{name}.npy" for name in REQUIRED if not (directory / f"{name}.npy").is_file()]
        if missing or not (directory / "feature_schema.json").is_file():
            raise GroupError(f"{directory} is not a directory of groups: no {', '.join(missing) or 'schema'}")
        present = [name for name in (*REQUIRED, *OPTIONAL, *NAMES) if (directory / f"{name}.npy").is_file()]
        arrays = {}
        for name in present:
            path = directory / f"{name}.npy"
            with reading(path, GroupError):
                arrays[name] = np.load(path, mmap_mode="r")
        return cls(FeatureSchema.read(directory / "feature_schema.json"), **arrays)


def update_with(digest: "hashlib._Hash", array: np.ndarray, at_once: int = 256) -> None:
    """Adds an array (N, …) that may be larger than memory."""
    for start in range(0, len(array), at_once):
        digest.update(np.ascontiguousarray(array[start : start + at_once]).data)


class EpochSampler:
    """The groups in the batch of step n: every group once an epoch, in a new order.

    Groups with weights take part in an epoch as often as their weight says, against the mean of all weights; what lies
    between two whole numbers is drawn anew for every epoch. A function of (seed, n) alone, so a resumed training gets
    the same batches.
    """

    def __init__(self, rows: np.ndarray, batch_size: int, seed: int, weights: np.ndarray | None = None) -> None:
        """`weights` (R,) are of these rows; None: all alike."""
        if len(rows) == 0:
            raise GroupError("no group has both a selected candidate and whatever else the objective needs")
        if batch_size > MOST_EPOCHS * len(rows):
            raise GroupError(f"a batch of {batch_size} groups shows each of {len(rows)} over {MOST_EPOCHS} times")
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self.shares = None if weights is None else np.cumsum(weights, dtype=np.float64) / np.sum(weights, dtype=float)
        self._epoch, self._order = -1, rows

    def batch(self, n: int) -> np.ndarray:
        positions = range(n * self.batch_size, (n + 1) * self.batch_size)
        return np.array([self._at(*divmod(position, len(self.rows))) for position in positions])

    def _at(self, epoch: int, index: int) -> int:
        if epoch != self._epoch:
            rng = np.random.default_rng((self.seed, 17, epoch))
            self._order = rng.permutation(self.rows if self.shares is None else self.rows[self._drawn(rng)])
            self._epoch = epoch
        return int(self._order[index])

    def _drawn(self, rng: np.random.Generator) -> np.ndarray:
        """As many places as there are rows, each as often as its weight says or once more: systematic sampling."""
        assert self.shares is not None
        n = len(self.rows)
        return np.searchsorted(self.shares, (np.arange(n) + rng.random()) / n, side="right").clip(max=n - 1)
