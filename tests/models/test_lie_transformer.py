"""Readouts, scales, inputs, the classifier and the registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from lie_sim.models import (
    EnergyModel,
    LieTransformer,
    LieTransformerClassifier,
    LieTransformerConfig,
    build_model,
    config_as_dict,
    model_names,
    parameter_count,
    register_model,
)
from lie_sim.models.lie_transformer import pool_points
from lie_sim.neighbors import neighbour_matrix
from lie_sim.state import Particles

ROUNDING = 1e-12


def same(one, other):
    return torch.allclose(one, other, rtol=ROUNDING, atol=ROUNDING)


def test_scales_only_change_units(make_model, make_system):
    q, particles = make_system(2)
    plain = make_model(dim=2, cutoff=2.0, softening=0.1, radial="coulomb")
    scaled = make_model(
        dim=2, cutoff=6.0, softening=0.3, radial="coulomb", length_scale=3.0, energy_scale=5.0
    )
    assert same(scaled(3 * q, particles), 5 * plain(q, particles))
    cell = 1.5 * torch.eye(2, dtype=torch.float64).expand(4, 2, 2)
    small, large = (Particles(masses=particles.masses, cell=factor * cell) for factor in (1, 3))
    one = plain(q, small, neighbour_matrix(q, small, cutoff=2.0))
    assert same(scaled(3 * q, large, neighbour_matrix(3 * q, large, cutoff=6.0)), 5 * one)


def test_deep_models_grow_no_faster_than_their_radial_basis(make_model, make_system):
    """Far outside the data a polynomial basis grows as r²; unbounded blocks would multiply it again and again."""
    q, particles = make_system(2)
    model = make_model(dim=2, num_layers=3)
    near, far, farther = (float(model.energy(q * s, particles).detach().abs().max()) for s in (1e2, 1e4, 1e6))
    assert far / near < 1.5e4
    assert farther / far < 1.5e4
    single = model.float().energy(1e6 * q.float(), particles.to(dtype=torch.float32))
    assert bool(single.isfinite().all())


def test_standardised_inputs(make_model, make_system):
    q, particles = make_system(2)
    plain = make_model(dim=2, num_attributes=1)
    means = {"mass_mean": 0.5, "mass_std": 2.0, "attribute_mean": (0.25,), "attribute_std": (4.0,)}
    shifted = make_model(dim=2, num_attributes=1, **means)
    other = Particles(masses=particles.masses * 2 + 0.5, attributes=particles.attributes * 4 + 0.25)
    assert same(shifted(q, other), plain(q, particles))


@pytest.mark.parametrize(
    "geometry", [{}, {"num_frames": 2}, {"num_moments": 2}, {"num_frames": 1, "chirality": True}]
)
@pytest.mark.parametrize("cutoff", [0.0, 3.0])
def test_masses_weigh_sources(make_model, make_system, geometry, cutoff):
    """Equivalence principle: others see two coincident halves of a body as they see the whole."""
    q, particles = make_system(2, count=4)
    weights = {"source_weight": "masses", "readout_weight": "masses"}
    options = {"num_frames": 0, "cutoff": cutoff, **geometry, **weights}
    model = make_model(dim=2, use_masses=False, num_layers=1, **options)

    def energies(q, masses):
        particles = Particles(masses=masses)
        neighbours = neighbour_matrix(q, particles, cutoff=cutoff) if cutoff else None
        return model(q, particles, neighbours)

    halves = torch.cat([q, q[:, :1]], 1)
    masses = torch.cat([particles.masses[:, :1] / 2, particles.masses[:, 1:], particles.masses[:, :1] / 2], 1)
    whole = energies(q, particles.masses)
    assert same(energies(halves, masses)[:, 1:4], whole[:, 1:4])


def test_energies_are_weighed_by_masses(make_model, make_system):
    q, particles = make_system(2, count=4)
    weights = {"source_weight": "masses", "readout_weight": "masses"}
    model = make_model(dim=2, use_masses=False, num_layers=1, num_frames=0, **weights)
    whole = model(q, particles)
    heavier = particles.masses * torch.tensor([1.0, 1.0, 1.0, 3.0], dtype=q.dtype)
    assert same(model(q, Particles(masses=heavier))[:, 3], 3 * whole[:, 3])


@pytest.mark.parametrize("readout", ["mean", "max"])
def test_intensive_readouts_share_the_total(make_model, make_system, readout):
    q, particles = make_system(2)
    energies = make_model(dim=2, readout=readout)(q, particles)
    assert same(energies, energies[:, :1].expand_as(energies))


def test_pooling_by_hand():
    f = torch.tensor([[[1.0], [5.0], [2.0], [0.0], [9.0], [9.0]]])  # three particles, two lifts each
    mask = torch.tensor([[True, True, False]])
    assert pool_points(f, mask, 2, "mean").item() == 2.0
    assert pool_points(f, mask, 2, "sum").item() == 4.0
    assert pool_points(f, mask, 2, "max").item() == 5.0
    assert pool_points(f, None, 2, "sum").item() == 13.0


def test_a_model_that_knows_nothing_of_its_particles(make_model, make_system):
    q, particles = make_system(3)
    model = make_model(dim=3, use_masses=False)
    assert model.config.num_scalars == 1
    assert same(model(q, particles), model(q, Particles(masses=3 * particles.masses)))


def test_species_of_any_integer_type(make_model, make_system):
    q, particles = make_system(2)
    model = make_model(dim=2, num_species=2)
    short = Particles(masses=particles.masses, species=particles.species.to(torch.int32))
    assert same(model(q, short), model(q, particles))
    other = Particles(masses=particles.masses, species=1 - particles.species)
    assert not same(model(q, other), model(q, particles))


def test_classifier_is_invariant_and_ignores_padding(make_system):
    q, particles = make_system(2)
    config = LieTransformerConfig(dim=2, width=8, num_heads=2, kernel_hidden=8, readout="mean")
    model = LieTransformerClassifier(config, num_outputs=3).double()
    scores = model(q, particles)
    assert scores.shape == (4, 3)
    assert same(model(-q + 1.0, particles), scores)
    mask = torch.tensor([True] * 5 + [False] * 2).expand(4, -1)
    padded = Particles(masses=torch.cat([particles.masses, torch.ones(4, 2).double()], 1), mask=mask)
    assert same(model(torch.cat([q, torch.ones(4, 2, 2).double()], 1), padded), scores)


@pytest.mark.parametrize("how", ["mean", "max"])
def test_the_linear_head_sees_every_point_and_the_others_the_pooled_features(make_system, how):
    """Two lifts, two padded particles; pooling before or after the head by hand."""
    q, particles = make_system(2)
    mask = torch.tensor([True, True, True, False, False]).expand(4, -1)
    particles = Particles(masses=particles.masses, mask=mask)
    options = {"lifting": "haar", "group": "SE(2)", "num_lifts": 2, "width": 8, "num_heads": 2}
    for head in ("linear", "deep", "residual"):
        config = LieTransformerConfig(dim=2, readout=how, head=head, **options)
        model = LieTransformerClassifier(config, num_outputs=3).double()
        torch.nn.init.normal_(model.head.out.weight) if head == "residual" else None
        points = model.backbone(q, particles)[:, :6]

        def pooled(x):
            return x.mean(1) if how == "mean" else x.amax(1)

        expected = pooled(model.head(points)) if head == "linear" else model.head(pooled(points))
        other = model.head(pooled(points)) if head == "linear" else pooled(model.head(points))
        assert same(model(q, particles), expected)
        assert not same(model(q, particles), other)


def test_a_model_is_rebuilt_from_its_configuration(make_model, make_system):
    q, particles = make_system(2)
    model = make_model(dim=2, num_attributes=1, attribute_mean=(0.5,), chirality=True)
    values = config_as_dict(model)
    values["attribute_mean"] = list(values["attribute_mean"])  # as TOML and JSON return it
    again = build_model("lie_transformer", values).double()
    again.load_state_dict(model.state_dict())
    assert isinstance(again, LieTransformer)
    assert again.config == model.config
    assert torch.equal(again(q, particles), model(q, particles))


def test_registry_names_and_errors():
    assert "lie_transformer" in model_names()
    with pytest.raises(ValueError, match=r"unknown model 'schnet'; choose one of .*lie_transformer"):
        build_model("schnet", {})
    with pytest.raises(ValueError, match=r"lie_transformer has no option widht; its options are .*width"):
        build_model("lie_transformer", {"widht": 3})

    @dataclass(frozen=True)
    class Empty:
        pass

    class Other(EnergyModel):
        name: ClassVar[str] = "lie_transformer"
        Config = Empty

    with pytest.raises(ValueError, match=r"model name 'lie_transformer' is taken by .*LieTransformer"):
        register_model(Other)
    Other.__qualname__ = "LieTransformer"  # of another module
    with pytest.raises(ValueError, match=r"taken by lie_sim.models.lie_transformer.LieTransformer: choose"):
        register_model(Other)
    assert register_model(LieTransformer) is LieTransformer
    with pytest.raises(NotImplementedError, match="Other must implement forward"):
        Other().energy(torch.zeros(1, 1, 2), Particles(masses=torch.ones(1, 1)))
    broken = Other()
    broken.config = {"width": 3}
    with pytest.raises(TypeError, match="config must be a dataclass, not dict"):
        config_as_dict(broken)


def test_parameter_count_leaves_frozen_ones_out():
    layer = torch.nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    assert parameter_count(layer) == 6
