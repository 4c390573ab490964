"""Heads for properties: sums, turning with the molecule, padding, distant molecules, disk, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from lie_sim import load_model, save_model
from lie_sim.lifting.moments import MomentLift
from lie_sim.models import (
    AtomicConfig,
    AtomicPotential,
    FeatureModel,
    Features,
    FeatureSizes,
    HeadConfig,
    SE3TransformerConfig,
    base,
    evaluate,
    heads,
    parameter_count,
    property_jacobian,
)
from lie_sim.models.last_layer import LastLayer
from lie_sim.models.lie_transformer import ResidualHead
from lie_sim.neighbors import neighbour_matrix
from lie_sim.state import Particles

ROUND_OFF = 1e-12  # of properties of order 1; measured: up to 2e-14
FINITE = 1e-7  # of central differences with a step of 1e-5 Å; measured: up to 3e-9
SEES = 1e-4  # change of a property of order 1 that is no rounding
NETWORKS = {
    "lie_transformer": {"width": 16, "num_heads": 4, "num_layers": 2, "num_moments": 4, "kernel_hidden": 16},
    "se3_transformer": {"width": 8, "num_heads": 4, "num_layers": 2, "kernel_hidden": 16},
}
HEADS = heads("charges", "dipole", "polarizability", r2="spatial_extent", gap="intensive", zpve="extensive")
SHAPES = {
    "charges": (1, 4),
    "dipole": (1, 3),
    "polarizability": (1, 3, 3),
    "r2": (1,),
    "gap": (1,),
    "zpve": (1,),
}


@pytest.fixture(params=list(NETWORKS))
def potential(request) -> Callable[..., AtomicPotential]:
    """Makes potentials of every architecture that has heads."""
    if request.param == "se3_transformer":
        pytest.importorskip("e3nn", reason="e3nn is not installed: pip install 'lie_sim[se3]'")

    def make(*, cutoff: float | None = None, **options) -> AtomicPotential:
        torch.manual_seed(0)
        network = NETWORKS[request.param] | ({} if cutoff is None else {"cutoff": cutoff})
        options = {"heads": HEADS, "network": network, "architecture": request.param} | options
        made = AtomicPotential.default(elements=(1, 6, 8), **options)
        with torch.no_grad():  # heads begin at zero
            for parameter in made.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape))
        return made.double()

    return make


def molecule() -> tuple[Tensor, Particles]:
    """Formaldehyde, bent out of every symmetry."""
    q = [[0.0, 0.0, 0.1], [0.1, 0.0, 1.3], [0.9, 0.1, -0.5], [-0.9, 0.3, -0.5]]
    return torch.tensor([q], dtype=torch.float64), particles_of([6, 8, 1, 1])


def particles_of(numbers: list[int], *, charge: float | None = None) -> Particles:
    count = len(numbers)
    attributes = None if charge is None else torch.full((1, count, 1), charge, dtype=torch.float64)
    species = torch.tensor([numbers])
    return Particles(
        masses=torch.ones(1, count).double(), species=species, attributes=attributes, mask=species > 0
    )


def told(model: AtomicPotential, q: Tensor, particles: Particles, neighbours=None) -> dict[str, Tensor]:
    return dict(evaluate(model, q, particles, neighbours).properties)


def difference(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    assert found.keys() == expected.keys()
    return max(float((found[name] - expected[name]).abs().max()) for name in found)


def test_every_property_has_its_shape_and_is_float64_whatever_the_network(potential) -> None:
    q, particles = molecule()
    for model, x in ((potential(), q), (potential().float(), q.float())):
        found = told(model, x, particles.to(dtype=x.dtype))
        assert model.properties == tuple(SHAPES)
        assert {name: tuple(value.shape) for name, value in found.items()} == SHAPES
        assert all(value.dtype == torch.float64 for value in found.values())


def test_properties_turn_with_the_molecule_and_stay_when_it_is_moved(potential) -> None:
    model, (q, particles) = potential(), molecule()
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)).double())
    before, after = told(model, q, particles), told(model, q @ turn.T + 7, particles)
    expected = before | {
        "dipole": before["dipole"] @ turn.T,
        "polarizability": turn @ before["polarizability"] @ turn.T,
    }
    assert difference(after, expected) < ROUND_OFF
    assert (after["dipole"] - before["dipole"]).abs().max() > SEES


def test_charges_sum_to_the_total_charge_and_make_the_dipole(potential) -> None:
    model, (q, _) = potential(inputs=("charge",)), molecule()
    with torch.no_grad():
        for parameter in model.heads.by_name["dipole"].atoms.parameters():
            parameter.zero_()
    z = torch.tensor([6.0, 8.0, 1.0, 1.0]).double()
    centre = (z[:, None] * q[0]).sum(0) / z.sum()
    for charge in (0.0, 1.0, -2.0):
        found = told(model, q, particles_of([6, 8, 1, 1], charge=charge))
        assert abs(float(found["charges"].sum()) - charge) < ROUND_OFF
        assert found["charges"].std() > SEES
        assert (found["dipole"][0] - found["charges"][0] @ (q[0] - centre)).abs().max() < ROUND_OFF


def test_the_charge_is_that_of_atoms_that_exist(potential) -> None:
    model, (q, _) = potential(inputs=("charge",)), molecule()
    exact = told(model, q, particles_of([6, 8, 1, 1], charge=1.0))
    padded = particles_of([0, 6, 8, 1, 1], charge=1.0)
    padded.attributes[0, 0] = 0.0
    found = told(model, torch.cat([q[:, :1] + 9, q], 1), padded)
    assert difference(found | {"charges": found["charges"][:, 1:]}, exact) < ROUND_OFF
    odd = particles_of([6, 8, 1, 1], charge=1.0)
    odd.attributes[0, 2] = 5.0
    with pytest.raises(ValueError, match="must be the same for every atom"):
        told(model, q, odd)


def test_a_molecule_without_atoms_spoils_no_other(potential) -> None:
    model, (q, _) = potential(), molecule()
    exact = told(model, q, particles_of([6, 8, 1, 1]))
    species = torch.tensor([[6, 8, 1, 1], [0, 0, 0, 0]])
    both = Particles(masses=torch.ones(2, 4).double(), species=species, mask=species > 0)
    found = evaluate(model, torch.cat([q, 0 * q]), both, create_graph=True).properties
    assert difference({name: value[:1].detach() for name, value in found.items()}, exact) < ROUND_OFF
    sum(value[:1].sum() for value in found.values()).backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())


def test_polarizability_is_symmetric_and_no_multiple_of_one(potential) -> None:
    model, (q, particles) = potential(), molecule()
    alpha = told(model, q, particles)["polarizability"][0]
    assert (alpha - alpha.T).abs().max() < ROUND_OFF
    assert (alpha - alpha.trace() / 3 * torch.eye(3).double()).abs().max() > SEES


def test_padding_order_and_a_list_of_neighbours_change_nothing(potential) -> None:
    model, (q, particles) = potential(), molecule()
    exact = told(model, q, particles)
    listed = neighbour_matrix(q, particles, cutoff=model.cutoff)
    assert difference(told(model, q, particles, listed), exact) < ROUND_OFF
    order = [2, 0, 3, 1]
    relabelled = told(model, q[:, order], particles_of([1, 6, 1, 8]))
    assert difference(relabelled, exact | {"charges": exact["charges"][:, order]}) < ROUND_OFF
    padded = torch.cat([q, torch.full((1, 2, 3), 3.0).double()], 1)
    found = told(model, padded, particles_of([6, 8, 1, 1, 0, 0]))
    assert (found["charges"][:, 4:] == 0).all()
    assert difference(found | {"charges": found["charges"][:, :4]}, exact) < ROUND_OFF


def test_far_apart_molecules_exchange_no_charge(potential) -> None:
    model, (q, particles) = potential(), molecule()
    one = told(model, q, particles)
    two = told(model, torch.cat([q, q + 50], 1), particles_of([6, 8, 1, 1] * 2))
    for name in ("dipole", "polarizability", "zpve"):
        assert (two[name] - 2 * one[name]).abs().max() < ROUND_OFF, name
    assert (two["charges"] - one["charges"].repeat(1, 2)).abs().max() < ROUND_OFF
    assert (two["gap"] - one["gap"]).abs().max() < ROUND_OFF


def test_references_are_those_of_the_elements_in_float64() -> None:
    given = {
        "U0": HeadConfig("extensive", references=(-16.5, -1037.123456789012, -2044.0)),
        "alpha": HeadConfig("polarizability", references=(0.4, 1.2, 0.9)),
        "r2": HeadConfig("spatial_extent", references=(1.0, 6.0, 8.0, 0.5, 2.0, 1.5)),
        "homo": HeadConfig("intensive", mean=-6.5, scale=0.6),
    }
    torch.manual_seed(0)
    network = NETWORKS["lie_transformer"]
    model = AtomicPotential.default(elements=(1, 6, 8), heads=given, network=network, with_energy=False)
    torch.nn.init.zeros_(model.heads.by_name["alpha"].flow.atom.weight)
    torch.nn.init.zeros_(model.heads.by_name["alpha"].flow.atom.bias)
    q, particles = molecule()
    found = told(model, q.float(), particles.to(dtype=torch.float32))
    assert abs(float(found["U0"]) - (2 * -16.5 - 1037.123456789012 - 2044.0)) < 1e-9
    assert (found["alpha"][0] - (0.4 * 2 + 1.2 + 0.9) * torch.eye(3).double()).abs().max() < ROUND_OFF
    assert float(found["homo"]) == -6.5
    z = torch.tensor([6.0, 8.0, 1.0, 1.0]).double()
    square = (q[0] - (z[:, None] * q[0]).sum(0) / z.sum()).square().sum(-1)
    assert (
        abs(float(found["r2"]) - float((z * square).sum() + 2.0 + 1.5 + 2 * 0.5)) < 1e-5
    )  # float32 positions


def test_jacobian_is_that_of_finite_differences_and_obeys_the_sum_rules(potential) -> None:
    model, (q, particles) = potential(), molecule()
    step = 1e-5
    for name in ("dipole", "polarizability", "gap", "r2", "zpve"):
        exact = property_jacobian(model, name, q, particles)
        assert exact.shape == (1, 4, 3, *SHAPES[name][1:])
        for atom, axis in ((0, 1), (3, 2)):
            shift = torch.zeros_like(q)
            shift[0, atom, axis] = step
            ends = [told(model, q + sign * shift, particles)[name][0] for sign in (1, -1)]
            off = float(((ends[0] - ends[1]) / (2 * step) - exact[0, atom, axis]).abs().max())
            assert off < FINITE, f"{name}: {off:.1e} above {FINITE:.0e}"
        assert exact.sum(1).abs().max() < ROUND_OFF, name  # moving everything changes nothing
    charged = potential(inputs=("charge",))
    cation = particles_of([6, 8, 1, 1], charge=1.0)
    assert property_jacobian(charged, "dipole", q, cation).sum(1).abs().max() < ROUND_OFF


def test_jacobians_of_a_batch_do_not_mix_and_train_the_weights(potential) -> None:
    model, (q, particles) = potential(), molecule()
    both = particles_of([6, 8, 1, 1]).expand(2)
    made = property_jacobian(model, "dipole", torch.cat([q, 1.1 * q]), both, create_graph=True)
    assert (made[:1] - property_jacobian(model, "dipole", q, particles)).abs().max() < ROUND_OFF
    made.square().sum().backward()
    assert model.heads.flow.radial.weight.grad.abs().max() > SEES
    with pytest.raises(ValueError, match=r"tells charges, dipole, .* not 'colour'"):
        property_jacobian(model, "colour", q, particles)
    with pytest.raises(ValueError, match="charges belong to atoms"):
        property_jacobian(model, "charges", q, particles)
    with pytest.raises(ValueError, match="tells nothing but the energy, not 'dipole'"):
        property_jacobian(potential(heads={}), "dipole", q, particles)


def test_a_neighbour_leaves_smoothly(potential) -> None:
    model = potential(cutoff=3.0)
    moved = []
    for gap in (2e-3, 1e-3, 1e-4, -1e-4):
        x = torch.tensor([[[0.0, 0, 0], [1.1, 0, 0], [0, 0, 3.0 - gap]]]).double()
        moved.append(told(model, x, particles_of([6, 8, 1])))
    for name in ("charges", "dipole", "polarizability"):
        jumps = [float((one[name] - moved[3][name]).abs().max()) for one in moved[:3]]
        assert jumps[2] < 1e-7, f"{name} {jumps}"


def test_a_lone_atom_has_its_charge_and_no_dipole(potential) -> None:
    found = told(potential(inputs=("charge",)), torch.zeros(1, 1, 3).double(), particles_of([6], charge=1.0))
    assert float(found["charges"]) == 1.0
    assert float(found["dipole"].abs().max()) == 0.0


def test_heads_survive_the_disk_and_change_neither_energy_nor_older_files(potential, tmp_path) -> None:
    model, (q, particles) = potential(), molecule()
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.config == model.config
    assert difference(told(loaded, q, particles), told(model, q, particles)) == 0
    assert (loaded(q, particles) - evaluate(model, q, particles).energies).abs().max() < ROUND_OFF
    plain = potential(heads={})
    assert plain.properties == ()
    assert evaluate(plain, q, particles).properties == {}
    assert parameter_count(plain.network) == parameter_count(plain) < parameter_count(model.network)


def test_a_model_of_properties_alone_has_no_energy(potential) -> None:
    model, (q, particles) = potential(with_energy=False), molecule()
    found = evaluate(model, q, particles)
    assert not model.has_energy
    assert found.energies.isnan().all()
    assert found.forces.isnan().all()
    assert found.properties["gap"].isfinite().all()
    with pytest.raises(ValueError, match="has no energy: it was taught charges, dipole"):
        model(q, particles)


def test_heads_that_read_directions_need_a_cutoff() -> None:
    pytest.importorskip("e3nn", reason="e3nn is not installed: pip install 'lie_sim[se3]'")
    endless = {"architecture": "se3_transformer", "network": {"cutoff": 0.0, "radial": "polynomial"}}
    with pytest.raises(ValueError, match=r"distant molecules would exchange charge: give network.cutoff > 0"):
        AtomicPotential.default(elements=(1,), heads=heads("charges"), **endless)
    assert AtomicPotential.default(elements=(1,), heads=heads(gap="intensive"), **endless).properties == (
        "gap",
    )


@dataclass(frozen=True)
class OwnConfig:
    width: int = 8
    num_species: int = 0
    num_attributes: int = 0
    cutoff: float = 4.0


class Own(FeatureModel):
    """Sums of radial functions."""

    name, Config = "own_with_features", OwnConfig
    linear_readout = True

    def __init__(self, config: OwnConfig) -> None:
        super().__init__()
        self.config, self.equivariant_under = config, "E(3)"
        self.lifting = MomentLift(3, cutoff=config.cutoff)
        self.embed = torch.nn.Linear(self.lifting.location_dim, config.width)
        self.head = ResidualHead(config.width, 1)
        self.shift = torch.zeros(3, dtype=torch.float64)

    @property
    def sizes(self) -> FeatureSizes:
        return FeatureSizes(self.config.width, self.lifting.location_dim, 0)

    def features(self, q, particles, neighbours=None) -> Features:
        pairs = self.lifting(q, particles, neighbours, q)
        return Features((self.embed(pairs.location) * pairs.envelope[..., None]).sum(2), pairs)

    def read_energies(self, features, particles) -> Tensor:
        return (self.head(features.points).squeeze(-1) + self.shift[particles.species]) * particles.mask


def test_a_network_of_ones_own_has_heads(monkeypatch) -> None:
    monkeypatch.setattr(base, "_REGISTRY", {**base._REGISTRY, Own.name: Own})
    monkeypatch.setattr(Own, "linear_readout", True)
    options = {"elements": (1, 6, 8), "architecture": Own.name}
    model = AtomicPotential(AtomicConfig(**options, heads=heads(gap="intensive", zpve="extensive"))).double()
    q, particles = molecule()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    found = evaluate(model, q, particles)
    assert found.properties.keys() == {"gap", "zpve"}
    phi = LastLayer(model)
    with phi.watched():
        energy = model.energy(q, particles)
    head = model.network.head
    weights = torch.cat([head.linear.weight[0], head.out.weight[0], head.linear.bias])
    assert (phi.features(particles) @ weights - energy).abs().max() < ROUND_OFF
    model.network.shift[:] = torch.tensor([1.0, 2.0, 3.0])  # of hydrogen, carbon and oxygen
    assert (evaluate(model, q, particles).energy - energy - 7.0).abs() < ROUND_OFF
    assert (model.energy(q, particles) - energy - 7.0).abs() < ROUND_OFF
    Own.linear_readout = False
    with pytest.raises(ValueError, match="not of a Own with linear_readout False"):
        LastLayer(model)
    with pytest.raises(ValueError, match="need features with moments, which 'own_with_features' does not"):
        AtomicPotential(AtomicConfig(**options, heads=heads("dipole"), network={"cutoff": 4.0}))


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(ValueError, match="unknown kind of head 'colour'; choose one of intensive"):
        heads("colour")
    with pytest.raises(ValueError, match="scale of a head must be positive"):
        HeadConfig("dipole", scale=0.0)
    with pytest.raises(ValueError, match="r2 has 3 references, but 2 elements take 4"):
        AtomicConfig(elements=(1, 8), heads={"r2": HeadConfig("spatial_extent", references=(1.0, 2.0, 3.0))})
    with pytest.raises(ValueError, match="only an intensive property has a mean"):
        AtomicConfig(elements=(1, 8), heads={"dipole": HeadConfig("dipole", mean=1.0)})
    with pytest.raises(ValueError, match="with_energy=False needs heads"):
        AtomicConfig(elements=(1,), with_energy=False)
    plain = {"architecture": "fully_connected", "network": {"num_particles": 2, "dim": 3}}
    with pytest.raises(ValueError, match=r"heads need an architecture .*, not 'fully_connected'"):
        AtomicPotential(AtomicConfig(elements=(1,), heads=heads(gap="intensive"), **plain))
    for name, kind in {
        "free_energy": "intensive",
        "stresses": "extensive",
        "forces_std": "intensive",
    }.items():
        with pytest.raises(ValueError, match=f"cannot be called '{name}', which is a result of its own"):
            AtomicConfig(elements=(1,), heads=heads(**{name: kind}))
    for name in ("values", "train", "training", "a b", ""):
        with pytest.raises(ValueError, match="give it a plain word"):
            AtomicConfig(elements=(1,), heads=heads(**{name: "intensive"}))
    for name, kind in {"mulliken": "charges", "dipole": "intensive"}.items():
        with pytest.raises(ValueError, match=f"the head '{name}' is of the kind '{kind}'"):
            AtomicConfig(elements=(1,), heads=heads(**{name: kind}))
    steered = {"elements": (1,), "heads": heads("dipole"), "architecture": "se3_transformer"}
    with pytest.raises(ValueError, match=r"give network.lmax of 2 or more and network.dim 3, not 1 and 3"):
        AtomicPotential.default(**steered, network={"lmax": 1})
    with pytest.raises(ValueError, match="need lifting='moments'"):
        AtomicPotential(AtomicConfig(elements=(1,), heads=heads("dipole"), network={"dim": 3}))
    with pytest.raises(ValueError, match=r"keep_moments needs vectors and matrices of space: .* lmax >= 2"):
        SE3TransformerConfig(lmax=1, keep_moments=True)
