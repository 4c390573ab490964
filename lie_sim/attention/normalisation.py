"""From logits to attention weights, with the envelope inside.

    softmax    α_ij = w_ij e^{ℓ_ij} / (ε + Σ_k w_ik e^{ℓ_ik})
    constant   α_ij = w_ij ℓ_ij / (ε + Σ_k w_ik)
    norm_exp   α_ij = w_ij e^{ℓ_ij} / (ε + Σ_k w_ik)
    scaled     α_ij = w_ij ℓ_ij / n̄                       n̄ a constant: the smoothest, and size-extensive

Where w is the mask alone and ε = 0 the first three are the paper's, Σ_k w_ik being the number of neighbours.
A neighbour that leaves the cutoff takes its weight along continuously, out of the denominators too; ε > 0 keeps
them smooth when the last neighbour leaves.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

NORMALISATIONS = ("softmax", "constant", "norm_exp", "scaled")


def attention_weights(
    logits: Float[Tensor, "B M K H"],
    envelope: Float[Tensor, "B M K"],
    normalisation: str,
    *,
    epsilon: float = 0.0,
    mean_neighbours: float = 1.0,
) -> Float[Tensor, "B M K H"]:
    """Normalise the logits over the neighbours.

    Args:
        logits: ℓ, shape (B, M, K, H).
        envelope: w ≥ 0, shape (B, M, K); 0 removes a pair, whatever its logit.
        normalisation: one of ``NORMALISATIONS``.
        epsilon: ε of all but ``"scaled"``.
        mean_neighbours: n̄ of ``"scaled"``.

    Example:
        >>> logits = torch.zeros(1, 1, 3, 1)
        >>> attention_weights(logits, torch.tensor([[[1.0, 1.0, 0.0]]]), "softmax").flatten()
        tensor([0.5000, 0.5000, 0.0000])
    """
    weight = envelope[..., None]
    if normalisation == "scaled":
        return logits * (weight / mean_neighbours)
    if normalisation in ("constant", "norm_exp"):
        total = weight.sum(-2, keepdim=True) + epsilon
        values = logits if normalisation == "constant" else logits.masked_fill(weight == 0, 0.0).exp()
        return values * (weight / torch.where(total > 0, total, 1.0))
    if normalisation == "softmax":
        if logits.shape[-2] == 0:  # nobody has a neighbour: there is no largest logit
            return logits
        masked = logits.masked_fill(weight == 0, -torch.inf)
        top = masked.detach().amax(-2, keepdim=True)
        # ε is on the scale of e^0: beside it, logits below 0 must not be lifted; an empty row has no largest logit
        top = top.clamp(min=0.0) if epsilon else top.masked_fill(top == -torch.inf, 0.0)
        unnormalised = weight * torch.exp(logits.masked_fill(weight == 0, 0.0) - top)
        total = unnormalised.sum(-2, keepdim=True)
        if epsilon:
            total = total + epsilon * torch.exp(-top)
        return unnormalised / torch.where(total > 0, total, 1.0)
    raise ValueError(f"unknown normalisation {normalisation!r}; choose one of {', '.join(NORMALISATIONS)}")
