"""Trained models that come with lie_sim, each a folder as ``save_model`` writes it and a card.

    lie_sim/shipped/NAME/model.json, weights-….safetensors, card.md

Wherever a model is asked for, its name will do: ``LieTransformerCalculator("organic-gfn2")``. A folder of that name in
the working directory comes first.
"""

from __future__ import annotations

from pathlib import Path

from lie_sim.errors import CheckpointError

_MANIFEST, _CARD = "model.json", "card.md"
_HOME = Path(__file__).parent


def shipped_models() -> dict[str, str]:
    """Names of the models, and the first line of their cards.

    Example:
        >>> all(isinstance(line, str) for line in shipped_models().values())
        True
    """
    folders = sorted(path.parent for path in _HOME.glob(f"*/{_MANIFEST}"))
    return {folder.name: _first_line(folder / _CARD) for folder in folders}


def _first_line(card: Path) -> str:
    return card.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")


def resolve_model(name_or_path: str | Path) -> Path:
    """The folder of a model: a path if there is something, of a run directory its model, else a shipped model.

    Raises:
        CheckpointError: it is neither; the message lists the shipped models.

    Example:
        >>> resolve_model("organic-gfn3")
        Traceback (most recent call last):
        lie_sim.errors.CheckpointError: organic-gfn3 is neither a folder nor a shipped model; ...
    """
    path = Path(name_or_path)
    if path.exists():
        of_a_run = path / "model"
        return of_a_run if not (path / _MANIFEST).exists() and (of_a_run / _MANIFEST).exists() else path
    known = shipped_models()
    if str(name_or_path) in known:
        return _HOME / str(name_or_path)
    raise CheckpointError(
        f"{name_or_path} is neither a folder nor a shipped model; shipped are {', '.join(known) or 'none'}"
    )


def model_card(name_or_path: str | Path) -> str | None:
    """The card of a model: its data, errors and limits, as Markdown; None if it has none.

    Raises:
        CheckpointError: there is no such model.
    """
    card = resolve_model(name_or_path) / _CARD
    return card.read_text(encoding="utf-8") if card.is_file() else None
