"""``lie-sim info`` and ``lie-sim config``: what a model or a run is, and what an experiment does by default."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tomli_w
import tyro
from torch import nn

from lie_sim.checkpoint import load_model, model_metadata
from lie_sim.cli.parsing import parse
from lie_sim.cli.runs import is_run, model_folder, named_experiment, show
from lie_sim.cli.simulate import describe
from lie_sim.descriptions import describe_model
from lie_sim.distributed import Run
from lie_sim.distributed.manifest import NAME
from lie_sim.experiments import open_run, read_results
from lie_sim.hamiltonian import Hamiltonian
from lie_sim.models import LieTransformerClassifier, parameter_count
from lie_sim.plain import to_plain
from lie_sim.shipped import model_card


@dataclass(frozen=True)
class InfoOptions:
    """Show what a run or a model is: kind, size, symmetry, training, figures, options.

    Args:
        model: run directory, folder of a model or of a simulation, or name of a shipped model.
    """

    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL_OR_RUN")]


@dataclass(frozen=True)
class ConfigOptions:
    """Print the default options of an experiment as TOML, for lie-sim train --config.

    Args:
        model: the model, lie_transformer or se3_transformer, where the experiment has a choice.
    """

    model: Annotated[str, tyro.conf.arg(metavar="NAME")] = ""


def config(argv: Sequence[str]) -> None:
    """Print the defaults of an experiment."""
    cls = named_experiment(argv, command="config")
    if cls is not None:
        model = parse(ConfigOptions, argv[1:], prog=f"lie-sim config {cls.name}").model
        options = cls.with_model(cls.Config(), model) if model else cls.Config()
        print(tomli_w.dumps(to_plain(options)), end="")


def info(argv: Sequence[str]) -> None:
    """Print what is known of a model."""
    path = parse(InfoOptions, argv, prog="lie-sim info").model
    if (path / NAME).is_file():
        _simulation(Run(path))
        return
    folder = model_folder(path)
    run = open_run(path) if is_run(path) else None
    model = load_model(folder)
    facts = describe_model(model)
    rows: list[tuple[str, Any]] = [("experiment", run.name)] if run else []
    rows += [("model", folder), ("kind", facts["kind"]), ("architecture", facts["architecture"])]
    show(
        [
            *rows,
            ("parameters", parameter_count(model)),
            ("dtype", facts["dtype"]),
            ("symmetry", symmetry(model)),
        ]
    )
    card = model_card(folder)
    if card is not None:
        print(f"\ncard\n{textwrap.indent(card.rstrip(), '  ')}")
    _section("options", facts["options"])
    _section("training", _plain_facts(model_metadata(folder)))
    _section("figures", read_results(path))
    options = to_plain(run.config) if run else {}
    print("\nconfiguration")
    print(textwrap.indent(tomli_w.dumps({**options, "model": facts["config"]}), "  "), end="")


def _simulation(run: Run) -> None:
    manifest = to_plain(run.manifest)
    sizes = [chunk["size"] for chunk in manifest.pop("chunks")]
    show([*describe(run).items(), ("chunks", f"{len(sizes):,} of up to {max(sizes):,} systems")])
    for title in ("model", "method_options", "versions"):
        _section(title.replace("_", " "), _plain_facts(manifest.pop(title)))
    _section("options", _plain_facts(manifest))


def symmetry(model: nn.Module) -> str:
    """The symmetry that a model has, and whether it holds exactly.

    Example:
        >>> from lie_sim import LieTransformer
        >>> symmetry(LieTransformer.default(dim=3)), symmetry(LieTransformer.paper("qm9"))
        ('E(3), exact', 'SE(3), in distribution only')
    """
    potential = model.potential if isinstance(model, Hamiltonian) else model
    declared: Any = (
        potential.backbone.lifting if isinstance(potential, LieTransformerClassifier) else potential
    )
    name = declared.equivariant_under
    exact = getattr(declared, "exact_symmetry", getattr(declared, "exact", True))
    return f"{name}, {'exact' if exact else 'in distribution only'}"


def _section(title: str, facts: Mapping[str, Any]) -> None:
    if facts:
        print(f"\n{title}")
        show(facts.items(), indent="  ")


def _plain_facts(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers and words of the metadata, without its tables."""
    return {key: value for key, value in metadata.items() if isinstance(value, str | int | float)}
