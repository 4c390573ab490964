r"""Heads for charges, dipole, polarizability and spatial extent: sums over pairs and over the moments of atoms.

A charge t_ij = −t_ji flows along each pair, so that charges add up to the total charge Q exactly and atoms far from
each other never exchange any: the dipole of two distant molecules is the sum of their dipoles.

    t_ij  = w_ij Σ_k φ_k(r_ij) (a_k(f_i) b_k(f_j) − b_k(f_i) a_k(f_j))
    q_i   = Q/N + Σ_j t_ij
    μ     = Q (r̄ − c) − ½ Σ_ij t_ij r_ij  +  scale Σ_i Σ_m g_m(f_i) T_im¹
    α     = Σ_i (reference(Z_i) + scale s(f_i)) 1  +  scale Σ_i Σ_m g_m(f_i) T_im²  +  ½ scale Σ_ij σ_ij r_ij⊗r_ij / ℓ²
    ⟨R²⟩  = Σ_i n_i |r_i − c|² + 2 scale d_i·(r_i − c)/ℓ + s_i

with r̄ the mean position and c the centre of nuclear charge, T¹ and T² the vectors and symmetric matrices among the
moments of the atoms, gates g of the features, σ_ij = σ_ji made as t_ij with +, ℓ = 3 Å, and n_i, s_i a reference of the
element plus scale times a function of f_i (that of n_i divided by ℓ²). The first two terms of μ are Σ_i q_i (r_i − c);
written by pairs, that of a neutral system also holds in a cell. In a cell the dipole of an ion and ⟨R²⟩ depend on which
image of an atom is taken; calculators then tell NaN.

Shape letters: B batch, N particles, K neighbours, C channels, P components of a moment, m moments.
References: Nistor, Polihronov, Müser, Mosey, J. Chem. Phys. 125 (2006) 094108 (split charges); Schütt, Unke, Gastegger,
ICML 2021 (dipoles and polarizabilities of vectors).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lie_sim.models.atomic_config import HeadConfig
from lie_sim.models.head_inputs import HeadInputs
from lie_sim.models.scalar_heads import AtomOutputs, ElementTable

FLOW_CHANNELS = 8
LENGTH = 3.0
"""ℓ in Å, about the size of a small molecule."""


class PairFlow(nn.Module):
    """A number of each pair that changes its sign, or not, when the two atoms are swapped; see the module's equation.

    It does not begin at 0, where the length of a dipole has no slope.

    Args:
        width: C.
        num_radial: size of the radial basis.
        sign: −1 for t_ij, 1 for σ_ij.
    """

    def __init__(self, width: int, num_radial: int, *, sign: float) -> None:
        super().__init__()
        self.sign = sign
        self.radial = nn.Linear(num_radial, FLOW_CHANNELS)
        self.atom = nn.Linear(width, 2 * FLOW_CHANNELS)

    def forward(self, inputs: HeadInputs) -> Float[Tensor, "B N K"]:
        """t_ij or σ_ij; 0 for padding."""
        pairs = inputs.pairs
        own: Tensor = self.atom(inputs.f)
        other = pairs.sources(own)
        a, b = own[:, :, None].chunk(2, dim=-1)
        a_other, b_other = other.chunk(2, dim=-1)
        products = a * b_other + self.sign * b * a_other
        each = (self.radial(pairs.location) * products).sum(-1)
        made: Tensor = each * pairs.envelope / math.sqrt(FLOW_CHANNELS)
        return made


class ChargeHead(nn.Module):
    """Charges of the atoms in e, shape (B, N), which sum to the total charge."""

    def forward(self, inputs: HeadInputs) -> Float[Tensor, "B N"]:
        """q_i, float64; 0 for padding."""
        assert inputs.flow is not None
        share = inputs.charge.double() / inputs.mask.sum(1).clamp(min=1)
        return torch.where(inputs.mask, share[:, None] + inputs.flow.double().sum(-1), 0.0)


class MomentGates(nn.Module):
    """Σ_m g_m(f_i) T_im of some components of the moments.

    Args:
        width: C. num_moments: m.
        start: first component. stop: the one after the last.
    """

    def __init__(self, width: int, num_moments: int, *, start: int, stop: int) -> None:
        super().__init__()
        self.gates = AtomOutputs(width, num_moments)
        self.start, self.stop = start, stop

    def forward(self, inputs: HeadInputs) -> Float[Tensor, "B N p"]:
        """The gated sum of every atom."""
        assert inputs.moments is not None
        chosen = inputs.moments[:, :, self.start : self.stop]
        summed: Tensor = (chosen @ self.gates(inputs.f)[..., None]).squeeze(-1)
        return summed


class DipoleHead(nn.Module):
    """Dipole in e Å, shape (B, 3), of an ion about the centre of nuclear charge; see the module's equation."""

    def __init__(self, config: HeadConfig, *, width: int, num_moments: int) -> None:
        super().__init__()
        self.scale = config.scale
        self.atoms = MomentGates(width, num_moments, start=1, stop=4)

    def forward(self, inputs: HeadInputs) -> Float[Tensor, "B 3"]:
        """μ, float64."""
        assert inputs.vectors is not None
        assert inputs.flow is not None
        flown = (inputs.flow[..., None] * inputs.vectors).sum(2) / 2
        inner = inputs.summed(self.scale * self.atoms(inputs) - flown)
        middle = inputs.summed(inputs.offsets) / inputs.mask.sum(1, keepdim=True).clamp(min=1)
        return inputs.charge.double()[:, None] * middle + inner


class PolarizabilityHead(nn.Module):
    """Polarizability in Å³, shape (B, 3, 3), symmetric; see the module's equation.

    Args:
        config: scale, and a reference of each element.
        width: C. num_radial: size of the radial basis. num_moments: m.
        elements: atomic numbers.
    """

    place: Tensor

    def __init__(
        self,
        config: HeadConfig,
        *,
        width: int,
        num_radial: int,
        num_moments: int,
        elements: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.scale = config.scale
        self.references = ElementTable(elements, config.references)
        self.isotropic = AtomOutputs(width, 1)
        self.atoms = MomentGates(width, num_moments, start=4, stop=10)
        self.flow = PairFlow(width, num_radial, sign=1.0)
        place = torch.zeros(3, 3, dtype=torch.long)
        rows, columns = torch.triu_indices(3, 3)
        place[rows, columns] = place[columns, rows] = torch.arange(6)
        self.register_buffer("place", place, persistent=False)

    def forward(self, inputs: HeadInputs) -> Float[Tensor, "B 3 3"]:
        """α, float64."""
        r = inputs.vectors
        assert r is not None
        eye = torch.eye(3, dtype=torch.float64, device=r.device)
        along = (self.flow(inputs)[..., None] * r).mT @ r / (2 * LENGTH**2)
        at_atoms = self.atoms(inputs).double()[..., self.place]  # √2 r̂_x r̂_y off the diagonal
        each = along.double() + at_atoms * (eye + (1 - eye) * math.sqrt(0.5))
        isotropic = self.scale * self.isotropic(inputs.f).double() + self.references(inputs)
        return self.scale * inputs.summed(each) + inputs.summed(isotropic)[..., None] * eye


class SpatialExtentHead(nn.Module):
    """Electronic extent ⟨R²⟩ in Å², shape (B,), about the centre of nuclear charge; see the module's equation."""

    def __init__(
        self, config: HeadConfig, *, width: int, num_moments: int, elements: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.scale = config.scale
        self.references = ElementTable(elements, config.references, columns=2)
        self.read = AtomOutputs(width, 2)
        self.atoms = MomentGates(width, num_moments, start=1, stop=4)

    def forward(self, inputs: HeadInputs) -> Float[Tensor, " B"]:
        """⟨R²⟩, float64."""
        r = inputs.offsets
        learned, references = self.scale * self.read(inputs.f).double(), self.references(inputs)
        electrons = learned[..., 0] / LENGTH**2 + references[..., 0]
        dipoles = 2 * self.scale * (self.atoms(inputs) * r).sum(-1) / LENGTH
        own = learned[..., 1] + references[..., 1]
        return inputs.summed(electrons * r.double().square().sum(-1) + dipoles + own)
