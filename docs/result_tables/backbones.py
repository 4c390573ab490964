"""Tables of backbones: charged particles by several models, and forces by width of two of them."""

from __future__ import annotations

from result_tables.cells import NONE, Blocks, Result, number, source, table

MODELS = {
    "lie_transformer": "Hamiltonian, LieTransformer",
    "lie_without_attention": "Hamiltonian, convolution (no attention)",
    "se3_transformer": "SE3Transformer with the paper's head",
    "set_transformer": "set transformer, no symmetry",
}
PUBLISHED = {
    "EGNN": 0.0071,
    "tensor field network": 0.0155,
    "SE(3)-Transformer": 0.0244,
}
"""Table 2 of Satorras, Hoogeboom, Welling, ICML 2021 (arXiv:2102.09844)."""
PROBLEMS = {"springs": "six springs", "charges": "five charges", "ethanol": "ethanol"}
BACKBONES = {"lie": "LieTransformer", "se3": "SE3Transformer"}
WIDTHS = (16, 32, 64)
NETWORKS = {
    "lie": "LieTransformer",
    "se3 l=1": "SE3Transformer, `lmax=1`",
    "se3": "SE3Transformer, `lmax=2`",
    "se3 dense": 'the same, `kernel="dense"`, as in the paper',
}
TASKS = {
    "ethanol": "energy and forces of ethanol",
    "benzene": "of benzene",
    "step": "loss of 16 ethanols and its gradient",
}


def charged_nbody(result: Result) -> str:
    """Error and cost of each model."""
    figures, parts = result["figures"], result["details"]
    rows = []
    for name, label in MODELS.items():
        of = [part for key, part in parts.items() if key.rsplit("-", 1)[0] == name]
        if of:
            spread = [f"{part['mse']:.4f}" for part in of]
            turned = figures.get(f"turned_{name}")
            rows.append(
                [
                    label,
                    f"{figures[f'mse_{name}']:.4f} ({', '.join(spread)})",
                    NONE if turned is None else f"{turned:.3g}",
                    number(figures[f"median_{name}"]),
                    number(figures[f"ms_per_force_{name}"]),
                    number(figures[f"ms_{name}"]),
                    f"{of[0]['parameters']:,}",
                    f"{min(part['steps'] for part in of):,}",
                ]
            )
    if "mse_linear" in figures:
        rows.append(["straight motion", f"{figures['mse_linear']:.4f}", *[NONE] * 6])
    rows += [[f"{name}, as published", f"{error:.4f}", *[NONE] * 6] for name, error in PUBLISHED.items()]
    header = [
        "model",
        "mean square error (each seed)",
        "turned / upright",
        "median",
        "ms CPU, a force",
        "ms CPU, a prediction",
        "parameters",
        "steps",
    ]
    return table(header, rows) + source(result)


def backbones(result: Result) -> str:
    """Error and time of a force by problem, backbone and width."""
    figures = result["figures"]
    rows = []
    for problem, label in PROBLEMS.items():
        for backbone, name in BACKBONES.items():
            keys = [f"{problem}-{backbone}-{width}" for width in WIDTHS]
            if any(f"{key}_error" in figures for key in keys):
                cells = [
                    f"{figures[f'{key}_error']:.2g} / {figures[f'{key}_ms']:.2g}"
                    if f"{key}_error" in figures
                    else NONE
                    for key in keys
                ]
                rows.append([label, name, *cells])
    header = ["system", "backbone", *(f"width {width}" for width in WIDTHS)]
    return table(header, rows) + source(result)


def se3_cost(result: Result) -> str:
    """CPU milliseconds by network, and how many times those of the LieTransformer."""
    figures = result["figures"]

    def cell(network: str, task: str) -> str:
        times = number(figures[f"{network}, {task}"])
        return times if network == "lie" else f"{times} ({number(figures[f'{network} over lie, {task}'])}×)"

    rows = [[label, *(cell(network, task) for task in TASKS)] for network, label in NETWORKS.items()]
    ratio = number(figures["e3nn over product"])
    products = f"\nThe products alone, by e3nn's generated code: {ratio} times the time of ours.\n"
    return table(["network", *TASKS.values()], rows) + products + source(result)


BLOCKS: Blocks = {
    "charged_nbody": ("charged_nbody", charged_nbody),
    "se3_cost": ("se3_cost", se3_cost),
    "backbones": ("backbones", backbones),
}
