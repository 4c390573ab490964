r"""InducedLieAttention: every particle sees all others through k landmarks, in time and memory N·k.

    in    T_a   = Σ_i P_ia λ_ia (W_V f_i) ⊗ Y(r̂_ia) / n̄,    λ_ia = W_λ SiLU( U a_ia + U_i f_i )
    out   out_i = W_O Σ_a Σ_l γ_ia^l (T_a^l · Y^l(r̂_ia)),   γ_ia = W_γ SiLU( U′ a_ia + U_f f_i + U_t b(T_a⁰) ) + G a_ia

with Y(r̂) all products of up to four components of r̂ = r/√(1 + r²), r the vector to the landmark in units of the reach
(:mod:`lie_sim.lifting.powers`), and b(x) = x/√(1 + x²).
The landmark carries a soft group element, the functions u_a(n̂) = T_a·Y(n̂) on the sphere around it, and the relative
pose of particle and landmark is (a_ia, u_a(r̂_ia)): radial functions of the distance, and what the element says in the
direction of the particle. The two hops are attention with that pose as location kernel; together they are an attention
matrix of low rank, Σ_a γ_ia P_ja λ_ja Y(r̂_ia)·Y(r̂_ja), and no number belongs to a place in the list of particles.
Sums are divided by the constant n̄ as in the "scaled" attention beside it.

The literal projection of Linformer, a learned matrix over the numbers of the tokens, would change the result when
particles are exchanged and needs a fixed N: :data:`WHY_NO_LINFORMER`.

Shape letters: B batch, M points, k landmarks, C channels, H heads, R radial functions, P components of Y.

References: Lee et al., "Set Transformer", ICML 2019, arXiv:1810.00825 (attention through inducing points); Wang et al.,
"Linformer", arXiv:2006.04768; Greengard and Rokhlin, J. Comput. Phys. 73 (1987) 325 (moments that stand for particles).
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from lie_sim.activations import silu
from lie_sim.lifting.base import LandmarkGeometry
from lie_sim.lifting.landmarks import LANDMARK_ORDER
from lie_sim.lifting.powers import orders_of_products
from lie_sim.lifting.radial import compress

WHY_NO_LINFORMER = (
    "attention='linformer' is refused on particles: its projection is a learned matrix over their numbers in the list, "
    "so that exchanging two of them would change the energy, and it fits one N only. attention='induced' does the same "
    "job in time and memory proportional to N, through landmarks made of the particles"
)


class InducedLieAttention(nn.Module):
    """Attention from points to landmarks and back; see the module's equation.

    Args:
        dim: space dimension d.
        width: C. num_heads: H. location_dim: R.
        hidden: width of the kernel networks.
        mean_neighbours: n̄.
    """

    orders: Tensor

    def __init__(
        self,
        dim: int,
        *,
        width: int,
        num_heads: int,
        location_dim: int,
        hidden: int,
        mean_neighbours: float = 1.0,
    ) -> None:
        super().__init__()
        self.num_heads, self.mean_neighbours = num_heads, mean_neighbours
        self.sizes = [num_heads, hidden, hidden]
        self.point = nn.Linear(width, sum(self.sizes))
        self.location_in = nn.Linear(location_dim, hidden, bias=False)
        self.location_out = nn.Linear(location_dim, hidden, bias=False)
        self.landmark = nn.Linear(num_heads, hidden, bias=False)
        self.kernel_in = nn.Linear(hidden, num_heads)
        orders = orders_of_products(dim, LANDMARK_ORDER)
        self.kernel_out = nn.Linear(hidden, len(orders) * num_heads)
        self.linear_gate = nn.Linear(location_dim, len(orders) * num_heads, bias=False)
        self.out = nn.Linear(num_heads, width)
        self.register_buffer("orders", orders, persistent=False)
        nn.init.zeros_(self.kernel_out.weight)

    def forward(self, f: Float[Tensor, "B M C"], landmarks: LandmarkGeometry) -> Float[Tensor, "B M C"]:
        """What the landmarks tell each point of all points."""
        value, inward, outward = self.point(f).split(self.sizes, dim=-1)
        kernel = self.kernel_in(silu(self.location_in(landmarks.location) + inward[:, :, None]))
        elements = self._collect(kernel * value[:, :, None], landmarks)
        summary = self.landmark(compress(elements[:, :, 0]))[:, None]
        hidden = self.location_out(landmarks.location) + outward[:, :, None] + summary
        gates = self.kernel_out(silu(hidden)) + self.linear_gate(landmarks.location)
        change: Tensor = self.out(self._spread(gates, elements, landmarks))
        return change

    def _collect(self, values: Float[Tensor, "B M k H"], landmarks: LandmarkGeometry) -> Tensor:
        """T_a, shape (B, k, P, H)."""
        weighted = landmarks.directions * (landmarks.shares / self.mean_neighbours)[..., None]
        return weighted.permute(0, 2, 3, 1) @ values.permute(0, 2, 1, 3)

    def _spread(
        self, gates: Float[Tensor, "B M k O"], elements: Float[Tensor, "B k P H"], landmarks: LandmarkGeometry
    ) -> Tensor:
        """Σ_a Σ_l γ_ia^l (T_a^l · Y^l(r̂_ia)), shape (B, M, H)."""
        by_order = (elements[..., None, :] * self.orders.T[..., None]).flatten(-2)  # (B, k, P, orders · H)
        steered = landmarks.directions.transpose(1, 2) @ by_order
        summed = (gates * steered.transpose(1, 2)).sum(2)
        change: Tensor = summed.unflatten(-1, (len(self.orders), -1)).sum(-2)
        return change
