"""Shape counting: how many squares, triangles, pentagons and L's are hidden in a cloud of 17·r corners.

Every example has r copies of each of four shapes; each copy is rotated by up to ±0.33 π about the origin,
translated, and left out with probability ½. Corners get noise N(0, 0.1), are normalised to [−1, 1] and
shuffled. The target is the number present, 0 … r, of each shape.

The distribution is that of the reference implementation, including what one would not expect of it:

- regular shapes are translated by up to 72 per axis, L's only by up to 24: the roots of unity are shifted
  by 2 in their *homogeneous* coordinate too (2 + 1 = 3, which multiplies the translation);
- one minimum and one maximum, over both axes and over corners that are *absent*, normalise an example;
- where every shape was left out, one random copy is put back, so "nothing" never occurs.

Not reproduced: its default test set is the first thousand training examples. Splits here have their own
seeds.

Shape letters: S examples, P corners (17·r), c features.
Reference: Hutchinson et al., "LieTransformer: Equivariant Self-Attention for Lie Groups", ICML 2021, §5.1
and code; Kosiorek et al., "Stacked Capsule Autoencoders", NeurIPS 2019.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lie_sim.data.dataset import split_seed
from lie_sim.data.storage import load_tensors, save_tensors, tensors_digest
from lie_sim.state import Particles

SHAPES = ("square", "triangle", "pentagon", "L")
_KIND = "constellations"
_L_CORNERS = ((1.0, 1.0), (2.0, 1.0), (3.0, 1.0), (3.0, 2.0), (3.0, 3.0))


@dataclass(frozen=True)
class ConstellationConfig:
    """The distribution; the defaults are the benchmark's.

    Args:
        repeats: r, copies of each shape.
        corner_noise: standard deviation of each coordinate before normalisation.
        max_rotation: shapes turn by at most this times π either way.
        max_translation: range of the translation of an L; regular shapes move three times as far.
        drop_probability: of each copy.
    """

    repeats: int = 2
    corner_noise: float = 0.1
    max_rotation: float = 0.33
    max_translation: float = 24.0
    drop_probability: float = 0.5

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise ValueError(f"repeats must be at least 1, got {self.repeats}")
        if not 0 <= self.drop_probability <= 1:
            raise ValueError(f"drop_probability must be from 0 to 1, got {self.drop_probability}")


@dataclass(frozen=True)
class Constellations:
    """Clouds of corners with the number of each shape.

    Args:
        positions: shape (S, P, 2).
        presence: True where the corner exists, shape (S, P).
        counts: number of squares, triangles, pentagons, L's, shape (S, 4).
        metadata: how they were made.
    """

    positions: Float[Tensor, "S P 2"]
    presence: Bool[Tensor, "S P"]
    counts: Int[Tensor, "S 4"]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """S."""
        return self.positions.shape[0]

    def __getitem__(self, index: slice | Tensor) -> Constellations:
        """Select examples."""
        positions, presence, counts = (x[index] for x in (self.positions, self.presence, self.counts))
        return Constellations(positions, presence, counts, self.metadata)

    def features(self, kind: str) -> Float[Tensor, "S P c"]:
        """Input features of each corner.

        Args:
            kind: ``"constant"`` (a single 1), or ``"distances"``: the distances to all present corners in
                descending order, absent ones counting 0, the last dropped; c = P − 1. These are already
                invariant to motions of the plane.
        """
        if kind == "constant":
            return self.positions.new_ones((*self.presence.shape, 1))
        if kind == "distances":
            exact = (
                "donot_use_mm_for_euclid_dist"  # the default loses four digits in float32 far from the origin
            )
            distance = (
                torch.cdist(self.positions, self.positions, compute_mode=exact) * self.presence[:, None, :]
            )
            return distance.sort(dim=-1, descending=True).values[..., :-1]
        raise ValueError(f'features must be "constant" or "distances", got {kind!r}')

    def particles(self, kind: str) -> Particles:
        """Corners as particles of mass 1, the features as attributes, presence as the mask."""
        masses = torch.ones_like(self.positions[..., 0])
        return Particles(masses=masses, attributes=self.features(kind), mask=self.presence)

    def transformed(self, angle: Float[Tensor, " S"], translation: Float[Tensor, "S 2"]) -> Constellations:
        """Every cloud turned about the origin by its angle (radians), then shifted by its translation."""
        rotation = torch.stack([torch.cos(angle), -torch.sin(angle), torch.sin(angle), torch.cos(angle)], -1)
        turned = self.positions @ rotation.reshape(-1, 2, 2).to(self.positions).mT
        return replace(self, positions=turned + translation[:, None].to(self.positions))

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by the names they have on disk."""
        return {"positions": self.positions, "presence": self.presence, "counts": self.counts}

    def digest(self) -> str:
        """SHA-256 of all tensors."""
        return tensors_digest(self.tensors())

    def save(self, path: str | Path) -> str:
        """Write one safetensors file, atomically, and return the digest of its tensors."""
        return save_tensors(Path(path), self.tensors(), self.metadata, kind=_KIND)

    @classmethod
    def load(cls, path: str | Path) -> Constellations:
        """Read what :meth:`save` wrote."""
        tensors, metadata = load_tensors(Path(path), kind=_KIND)
        del metadata["digest"]
        return cls(**tensors, metadata=metadata)


def make_constellations(
    num_examples: int,
    *,
    seed: int,
    config: ConstellationConfig | None = None,
    dtype: torch.dtype = torch.float32,
) -> Constellations:
    """Draw examples; the same arguments give the same bytes.

    Example:
        >>> data = make_constellations(3, seed=0)
        >>> data.positions.shape, data.counts.shape, bool(data.presence.any(1).all())
        (torch.Size([3, 34, 2]), torch.Size([3, 4]), True)
    """
    config = config or ConstellationConfig()
    generator = torch.Generator().manual_seed(seed)
    shapes = [_corners(name) for name in SHAPES * config.repeats]
    owner = torch.cat([torch.full((len(shape),), k) for k, shape in enumerate(shapes)])
    present = _present_copies(num_examples, len(shapes), config, generator)
    corners = _move(torch.cat(shapes), owner, num_examples, len(shapes), config, generator)
    order = torch.rand(corners.shape[:2], generator=generator, dtype=torch.float64).argsort(1)
    corners = corners.gather(1, order[..., None].expand_as(corners))
    corners = corners + config.corner_noise * torch.randn(
        corners.shape, generator=generator, dtype=corners.dtype
    )
    low, high = corners.amin((1, 2), keepdim=True), corners.amax((1, 2), keepdim=True)
    positions = (corners - low) / (high - low + 1e-8) * 2 - 1
    counts = present.reshape(num_examples, config.repeats, len(SHAPES)).sum(1)
    metadata = {"config": asdict(config), "seed": seed}
    return Constellations(positions.to(dtype), present[:, owner].gather(1, order), counts, metadata)


def constellation_splits(
    train: int = 10_000,
    val: int = 1_000,
    test: int = 1_000,
    *,
    seed: int = 0,
    config: ConstellationConfig | None = None,
    translation_std: float = 2.0,
) -> dict[str, Constellations]:
    """Independent splits, and the test set moved: ``train, val, test, test_t2, test_se2``.

    Each example of ``test_t2`` is shifted by its own N(0, translation_std²) per axis, and of ``test_se2``
    also turned by its own uniform angle. (The reference's files move a whole copy at once, by 10 in both
    axes or by 10°, and count the unmoved copy too; :meth:`Constellations.transformed` makes those.)
    """
    sizes = {"train": train, "val": val, "test": test}
    splits = {
        name: make_constellations(size, seed=split_seed(seed, f"constellations/{name}"), config=config)
        for name, size in sizes.items()
    }
    generator = torch.Generator().manual_seed(split_seed(seed, "constellations/motions"))
    translation = translation_std * torch.randn(test, 2, generator=generator)
    angle = 2 * math.pi * torch.rand(test, generator=generator)
    splits["test_t2"] = splits["test"].transformed(torch.zeros(test), translation)
    splits["test_se2"] = splits["test"].transformed(angle, translation)
    return splits


def _corners(name: str) -> Float[Tensor, "P 3"]:
    """Corners in the reference's homogeneous coordinates; the third multiplies the translation."""
    if name == "L":
        return torch.tensor([(x, y, 1.0) for x, y in _L_CORNERS], dtype=torch.float64)
    count = {"triangle": 3, "square": 4, "pentagon": 5}[name]
    angle = 2 * math.pi / count * torch.arange(count, dtype=torch.float64)
    return torch.stack([torch.cos(angle), torch.sin(angle), torch.ones_like(angle)], -1) + 2


def _present_copies(
    num_examples: int, num_copies: int, config: ConstellationConfig, generator: torch.Generator
) -> Bool[Tensor, "S copies"]:
    shape = (num_examples, num_copies)
    present = torch.rand(shape, generator=generator, dtype=torch.float64) >= config.drop_probability
    put_back = torch.randint(num_copies, (num_examples, 1), generator=generator)
    empty = ~present.any(1, keepdim=True)
    return present | (empty & (torch.arange(num_copies) == put_back))


def _move(
    corners: Float[Tensor, "P 3"],
    owner: Int[Tensor, " P"],
    num_examples: int,
    num_copies: int,
    config: ConstellationConfig,
    generator: torch.Generator,
) -> Float[Tensor, "S P 2"]:
    shape = (num_examples, num_copies)
    turn = torch.rand(shape, generator=generator, dtype=torch.float64) - 0.5
    angle = (2 * math.pi * config.max_rotation * turn)[:, owner]
    translation = config.max_translation * torch.rand((*shape, 2), generator=generator, dtype=torch.float64)
    x, y, weight = corners.unbind(-1)
    cosine, sine = torch.cos(angle), torch.sin(angle)
    turned = torch.stack([x * cosine - y * sine, x * sine + y * cosine], -1)
    return turned + weight[:, None] * translation[:, owner]
