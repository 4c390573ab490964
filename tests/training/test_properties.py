"""Training on properties: readings, constants by least squares, the loss against its formula, halves, and a fit."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from lie_sim.data.molecules import Molecules
from lie_sim.models import HeadConfig
from lie_sim.training import PropertyTask, TrainingConfig, named_target, property_heads, property_model, train
from lie_sim.training.molecules import predict
from lie_sim.training.properties import by_size
from lie_sim.training.targets import Target, composition_errors, explain

SAME = 1e-10
SMALL = {"width": 16, "num_heads": 8, "num_moments": 4, "kernel_hidden": 16, "cutoff": 4.0}
TARGETS = (
    Target("mu", head="dipole", kind="dipole", reading="norm", factor=0.5),
    named_target("polarizability"),
    Target("principal", head="polarizability", kind="polarizability", reading="principal"),
    named_target("charges"),
    named_target("homo:intensive"),
    named_target("U0:extensive"),
)


def labelled(count: int = 40, *, seed: int = 0) -> Molecules:
    """Clusters of H and O with fields of known form: charges by element, their dipole, Σ w r⊗r, sums over atoms."""
    random = np.random.default_rng(seed)
    sizes = random.integers(2, 6, count)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    numbers = random.choice([1, 8], offsets[-1])
    positions = 1.2 * random.standard_normal((offsets[-1], 3))
    charges, values = np.zeros(len(numbers)), []
    for start, stop in itertools.pairwise(offsets):
        x, z = positions[start:stop], numbers[start:stop].astype(float)
        q = (z - z.mean()) / 10
        charges[start:stop] = q
        r = (x[:, None] - x).reshape(-1, 3)
        near = np.exp(-np.square(r).sum(1) / 2)
        alpha = (r.T * near) @ r + 0.5 * len(z) * np.eye(3)
        values.append(
            (
                2 * np.linalg.norm(q @ x),
                alpha,
                np.linalg.eigvalsh(alpha),
                -6 - 0.1 * z.mean(),
                -20 * z.sum() - near.sum(),
            )
        )
    mu, alpha, axes, homo, u0 = (np.array(column) for column in zip(*values, strict=True))
    named = {
        "mu": mu,
        "polarizability": alpha,
        "principal": axes,
        "homo": homo,
        "U0": u0,
        "charges": charges,
    }
    lattice = np.zeros((count, 3, 3)), np.zeros((count, 3), bool)
    return Molecules(numbers, positions, offsets, *lattice, named)


def model_of(data: Molecules, targets=TARGETS):
    torch.manual_seed(0)
    model = property_model(data, targets, network=SMALL).double()
    with torch.no_grad():  # heads begin at zero
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model


def test_readings_are_those_of_a_matrix_and_a_vector() -> None:
    matrix = torch.diag(torch.tensor([1.0, 2.0, 6.0])).double()
    found = {r: Target("x", "x", "polarizability", r).read(matrix) for r in ("mean", "principal")}
    assert float(found["mean"]) == 3.0
    assert (found["principal"] - torch.tensor([1.0, 2.0, 6.0])).abs().max() < SAME
    vector = torch.tensor([3.0, 0.0, 4.0]).double()
    assert abs(float(Target("x", "x", "dipole", "norm").read(vector)) - 5) < SAME
    turned = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)).double())[0]
    again = Target("x", "x", "polarizability", "principal").read(turned @ matrix @ turned.T)
    assert (again - found["principal"]).abs().max() < SAME


def test_constants_explain_what_is_a_sum_over_elements() -> None:
    data = labelled()
    exact = replace(
        data, values={"Cv": data.composition((1, 8)) @ np.array([1.5, 4.0]), "gap": np.full(40, 7.0)}
    )
    found = property_heads(exact, [named_target("Cv:extensive"), named_target("gap:intensive")])
    assert found["Cv"].references == pytest.approx((1.5, 4.0), abs=SAME)
    assert found["gap"].mean == pytest.approx(7.0, abs=SAME)
    assert np.abs(composition_errors(exact[:30], exact[30:], named_target("Cv:extensive"))).max() < SAME
    whole = explain(data, named_target("polarizability"))
    mean = np.trace(data.values["polarizability"], axis1=1, axis2=2) / 3
    alone = replace(data, values={"alpha": mean})
    reading = Target("alpha", "polarizability", "polarizability", "mean")
    for other in (explain(alone, reading), explain(data, TARGETS[2])):
        assert whole.constants == pytest.approx(other.constants, abs=SAME)


def test_a_fresh_model_tells_what_the_composition_explains() -> None:
    data, target = labelled(), named_target("U0:extensive")
    model = property_model(data, [target], network=SMALL).double()
    task = PropertyTask(data, data, targets=[target], cutoff=model.cutoff)
    counts = data.composition((1, 8)).astype(float)
    constants = np.linalg.lstsq(counts, data.values["U0"], rcond=None)[0]
    mae = np.abs(counts @ constants - data.values["U0"]).mean()
    assert task.validate(model)["U0_mae"] == pytest.approx(mae, abs=SAME)


def test_a_prediction_that_is_no_number_is_an_error_and_not_left_out() -> None:
    data = labelled()
    model = model_of(data)
    task = PropertyTask(data, data, targets=TARGETS, cutoff=model.cutoff)
    with torch.no_grad():
        next(iter(model.parameters())).fill_(torch.nan)
    batch = task.batch(torch.arange(4), torch.Generator())
    assert torch.isnan(task.loss(model, batch))
    assert all(np.isnan(value) for value in task.validate(model).values())


def test_loss_is_that_of_the_formula_and_leaves_out_what_is_unknown() -> None:
    data = labelled()
    data.values["mu"][3] = np.nan
    model = model_of(data)
    task = PropertyTask(data, data, targets=TARGETS, cutoff=model.cutoff)
    batch = task.batch(torch.tensor([2, 3, 5, 0]), torch.Generator())
    found = {k: v.detach().numpy() for k, v in predict(model, batch, cutoff=4.0, forces=False).items()}
    rows, scale = [2, 5, 0], task.errors.scales
    mu = np.linalg.norm(found["dipole"], axis=1)[[0, 2, 3]] - 0.5 * data.values["mu"][rows]
    charges = []
    for row, k in enumerate([2, 3, 5, 0]):
        size = int(data.sizes[k])
        charges.append(found["charges"][row, :size] - data.values["charges"][data.offsets[k] :][:size])
    expected = [
        np.abs(mu).mean() / scale["mu"],
        np.abs(found["polarizability"] - data.values["polarizability"][[2, 3, 5, 0]]).mean()
        / scale["polarizability"],
        np.abs(np.concatenate(charges)).mean() / scale["charges"],
    ]
    errors = task.errors
    for target, value in zip(
        (errors.targets[0], errors.targets[1], errors.targets[3]), expected, strict=True
    ):
        off = errors.of(target, predict(model, batch, cutoff=4.0, forces=False), batch)
        assert float(off.abs().mean()) / scale[target.name] == pytest.approx(
            value, abs=1e-6
        )  # |μ| is softened by 1e-6
    one = errors.loss(predict(model, batch, cutoff=4.0, forces=False), batch)
    assert float(task.loss(model, batch).detach()) == pytest.approx(float(one), abs=SAME)


def test_halves_of_a_batch_give_the_same_loss() -> None:
    data = labelled()
    targets = [t for t in TARGETS if t.name != "charges"]  # whose number differs between the halves
    model = model_of(data, targets)
    task = PropertyTask(data, data, targets=targets, cutoff=model.cutoff)
    batch = task.batch(torch.arange(30), torch.Generator())
    parts = by_size(batch, ("positions", "numbers"))
    assert [len(part["sizes"]) for part in parts] == [15, 15]
    assert parts[0]["positions"].shape[1] < parts[1]["positions"].shape[1] == batch["positions"].shape[1]
    whole = task.errors.loss(predict(model, batch, cutoff=4.0, forces=False), batch)
    assert float(task.loss(model, batch).detach()) == pytest.approx(float(whole), abs=SAME)


def test_lengths_and_eigenvalues_have_a_slope_from_the_first_step() -> None:
    data = labelled()
    model = property_model(data, TARGETS, network=SMALL).double()
    task = PropertyTask(data, data, targets=[TARGETS[0], TARGETS[2]], cutoff=model.cutoff)
    task.loss(model, task.batch(torch.arange(8), torch.Generator())).backward()
    for parameter in (
        model.heads.flow.radial.weight,
        model.heads.by_name["polarizability"].flow.radial.weight,
    ):
        assert parameter.grad.abs().max() > 1e-3


def test_training_learns_every_target() -> None:
    data = labelled(120)
    model = property_model(data[:100], TARGETS, network=SMALL).double()
    task = PropertyTask(data[:100], data[100:], targets=TARGETS, cutoff=model.cutoff)
    before = task.validate(model)
    config = TrainingConfig(max_steps=150, batch_size=20, dtype="float64", ema_decay=0.9, validate_every=0)
    result = train(model, task, config, progress=False)
    ratios = {name: result.validation[name] / before[name] for name in before}
    assert all(ratio < 0.9 for ratio in ratios.values()), f"{ {k: round(r, 3) for k, r in ratios.items()} }"
    assert ratios["relative_mae"] < 0.6


def test_what_is_wrong_is_named() -> None:
    data = labelled()
    with pytest.raises(ValueError, match="unknown property 'colour'"):
        named_target("colour")
    with pytest.raises(ValueError, match=r"the data have no 'gap'; they have U0, charges"):
        property_heads(data, [named_target("gap:intensive")])
    with pytest.raises(ValueError, match=r"'homo' must have the shape \('M', 3\)"):
        Target("homo", head="dipole", kind="dipole").values(data)
    with pytest.raises(ValueError, match="named twice"):
        PropertyTask(data, data, targets=[named_target("charges")] * 2, cutoff=4.0)
    with pytest.raises(ValueError, match="at least one target"):
        PropertyTask(data, data, targets=[], cutoff=4.0)
    lost = replace(data, values={"homo": np.full(len(data), np.nan)})
    with pytest.raises(ValueError, match="no structure has a value of 'homo'"):
        explain(lost, named_target("homo:intensive"))
    assert isinstance(property_heads(data, TARGETS)["charges"], HeadConfig)
