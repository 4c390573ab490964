"""Options of a potential of atoms: its elements, its network, and the properties it tells besides the energy."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from torch import nn

LARGEST_ATOMIC_NUMBER = 118
GLOBAL_INPUTS = ("charge", "spin")
"""What a whole molecule may be given beside its atoms: charge in e, spin as the number of unpaired electrons."""
REFERENCES_PER_ELEMENT = {
    "intensive": 0,
    "extensive": 1,
    "charges": 0,
    "dipole": 0,
    "polarizability": 1,
    "spatial_extent": 2,
}
"""Kinds of heads, and how many reference values of each element they take."""
GEOMETRIC_KINDS = ("charges", "dipole", "polarizability", "spatial_extent")
"""Kinds that need directions, which moment attention and the SE(3)-Transformer have."""
READOUTS = ("attention", "sum", "mean", "sag", "soft_sag")
"""How the atoms of an "intensive" property are pooled."""


_TAKEN = (
    *("energy", "energies", "free_energy", "forces", "stress", "stresses", "virial", "virials"),
    *("energy_std", "energy_interval", "forces_std", "forces_bound", "stress_std", "born_effective_charges"),
    *("hessian", "magmom", "magmoms", "numbers", "positions", "momenta", "masses", "cell", "pbc"),
)
"""Names of results that are no heads."""


def check_head_name(name: str, kind: str) -> None:
    """Refuse a name that means something else, here or in ASE.

    Raises:
        ValueError: it says what the head can be called.

    Example:
        >>> check_head_name("gap", "intensive")
    """
    if not name.isidentifier() or hasattr(nn.ModuleDict(), name):
        raise ValueError(f"a head cannot be called {name!r}: give it a plain word, such as 'gap'")
    if name in _TAKEN:
        raise ValueError(f"a head cannot be called {name!r}, which is a result of its own")
    if (name in GEOMETRIC_KINDS or kind == "charges") and name != kind:
        raise ValueError(
            f"the head {name!r} is of the kind {kind!r}: charges are called 'charges', and the names "
            f"{', '.join(GEOMETRIC_KINDS)} belong to these kinds"
        )


@dataclass(frozen=True)
class HeadConfig:
    """One property that a potential tells besides the energy.

    Args:
        kind: "intensive" (a number that does not grow with the molecule, such as an orbital energy), "extensive" (a sum
            over atoms), "charges" (e), "dipole" (e Å), "polarizability" (Å³, a 3 × 3 tensor) or "spatial_extent" (Å²).
        scale: size of what the network adds, in the unit of the property.
        mean: constant that is added, of "intensive".
        references: constants of each element, added for every atom: one of "extensive" and "polarizability" (its
            trace/3), two of "spatial_extent" (all factors of |r|² first, then all constants); empty means 0.
        readout: of "intensive": "attention", "sum" or "mean" over the atoms, or the mean over the half of them that
            self-attention pooling keeps, chosen hard ("sag": jumps as atoms move) or softly ("soft_sag": smooth).

    Example:
        >>> HeadConfig("intensive", mean=-6.5, scale=0.6).kind
        'intensive'
    """

    kind: str
    scale: float = 1.0
    mean: float = 0.0
    references: tuple[float, ...] = ()
    readout: str = "attention"

    def __post_init__(self) -> None:
        if self.kind not in REFERENCES_PER_ELEMENT:
            raise ValueError(
                f"unknown kind of head {self.kind!r}; choose one of {', '.join(REFERENCES_PER_ELEMENT)}"
            )
        if self.readout not in READOUTS:
            raise ValueError(f"unknown readout {self.readout!r}; choose one of {', '.join(READOUTS)}")
        if self.readout != "attention" and self.kind != "intensive":
            raise ValueError(f"only an intensive property has a readout, not one of the kind {self.kind!r}")
        if not (self.scale > 0 and math.isfinite(self.scale)):
            raise ValueError(f"the scale of a head must be positive and finite, got {self.scale}")
        if not all(map(math.isfinite, (self.mean, *self.references))):
            raise ValueError("mean and references of a head must be finite")

    def check(self, name: str, num_elements: int) -> None:
        """Refuse references that do not fit the elements."""
        expected = REFERENCES_PER_ELEMENT[self.kind] * num_elements
        if len(self.references) not in (0, expected):
            raise ValueError(
                f"heads.{name} has {len(self.references)} references, but {num_elements} elements take {expected}"
            )
        if self.mean and self.kind != "intensive":
            raise ValueError(f"heads.{name}: only an intensive property has a mean, not {self.kind!r}")


def heads(*kinds: str, **named: str) -> dict[str, HeadConfig]:
    """Heads by name: those called like their kind, and others with the kind they are of.

    Example:
        >>> list(heads("charges", "dipole", homo="intensive"))
        ['charges', 'dipole', 'homo']
    """
    return {name: HeadConfig(kind) for name, kind in ({kind: kind for kind in kinds} | named).items()}


@dataclass(frozen=True)
class AtomicConfig:
    """What an :class:`~lie_sim.models.AtomicPotential` is made of.

    Args:
        elements: atomic numbers it knows, ascending.
        reference_energies: E₀ of each element in eV; empty means 0.
        repulsion_radii: radius R of each element in Å: pairs nearer than R_i + R_j repel each other as bare nuclei
            do; empty means no such repulsion.
        inputs: global inputs in use, of ``GLOBAL_INPUTS``; every atom sees them as its first attributes.
        heads: properties besides the energy, by name; :func:`heads` makes them.
        with_energy: False for a model that was taught properties alone: asking for its energy is an error.
        architecture: registry name of the network.
        network: options of the network. ``num_species``, ``num_attributes`` and ``keep_moments`` follow from the above.

    Example:
        >>> AtomicConfig(elements=(1, 8), heads=heads(gap="intensive")).species_of(8)
        1
    """

    elements: tuple[int, ...]
    reference_energies: tuple[float, ...] = ()
    repulsion_radii: tuple[float, ...] = ()
    inputs: tuple[str, ...] = ()
    heads: dict[str, HeadConfig] = field(default_factory=dict)
    with_energy: bool = True
    architecture: str = "lie_transformer"
    network: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = range(1, LARGEST_ATOMIC_NUMBER + 1)
        if not self.elements or any(z not in known for z in self.elements):
            raise ValueError(
                f"elements must be atomic numbers from 1 to {LARGEST_ATOMIC_NUMBER}, got {self.elements}"
            )
        if tuple(sorted(set(self.elements))) != self.elements:
            raise ValueError(f"elements must be ascending, each once, got {self.elements}")
        for name in ("reference_energies", "repulsion_radii"):
            given = len(getattr(self, name))
            if given not in (0, len(self.elements)):
                raise ValueError(f"{name} has {given} values for {len(self.elements)} elements")
        if any(not radius > 0 for radius in self.repulsion_radii):
            raise ValueError(f"repulsion_radii must be positive, got {self.repulsion_radii}")
        if tuple(name for name in GLOBAL_INPUTS if name in self.inputs) != self.inputs:
            raise ValueError(f"inputs must be some of {GLOBAL_INPUTS}, in this order, got {self.inputs}")
        self._check_heads()

    def _check_heads(self) -> None:
        if not self.heads and not self.with_energy:
            raise ValueError("with_energy=False needs heads: a model must tell something")
        for name, head in self.heads.items():
            check_head_name(name, head.kind)
            head.check(name, len(self.elements))
        found = self.network.get("lifting", "frame"), self.network.get("dim", 2)
        if self.needs_moments and self.architecture == "lie_transformer" and found != ("moments", 3):
            raise ValueError(
                f"heads of the kinds {', '.join(GEOMETRIC_KINDS)} need lifting='moments' in 3 dimensions, "
                f"not {found[0]!r} in {found[1]}; or architecture='se3_transformer'"
            )
        options = self.network.get("lmax", 2), self.network.get("dim", 3)
        if (
            self.needs_moments
            and self.architecture == "se3_transformer"
            and (options[0] < 2 or options[1] != 3)
        ):
            raise ValueError(
                f"heads of the kinds {', '.join(GEOMETRIC_KINDS)} read vectors and matrices of space: give "
                f"network.lmax of 2 or more and network.dim 3, not {options[0]} and {options[1]}"
            )

    @property
    def needs_moments(self) -> bool:
        """Whether a head reads directions or pairs."""
        return any(head.kind in GEOMETRIC_KINDS for head in self.heads.values())

    def species_of(self, atomic_number: int) -> int:
        """Place of an element in ``elements``.

        Raises:
            ValueError: the potential does not know the element.
        """
        if atomic_number not in self.elements:
            raise ValueError(f"this potential knows the elements {self.elements}, not {atomic_number}")
        return self.elements.index(atomic_number)
