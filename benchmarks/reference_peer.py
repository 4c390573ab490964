"""How fast and how good is the published LieTransformer, run as its authors wrote it?

Runs the reference implementation of Hutchinson et al. from a user's own clone, in a process of its own, and
prints JSON lines: parameter counts, the cost of a training step, a training curve. The clone is not copied
and not changed: what does not run as published is repaired in the text of a file as it is loaded
(``REPAIRS``), and stand-ins replace packages that are imported but not needed for what is measured here
(``install_stand_ins``).

    python benchmarks/reference_peer.py --reference DIR --lieconv DIR params [--model M --dump FILE]
    python benchmarks/reference_peer.py --reference DIR --lieconv DIR step [--model M --batch 100]
    python benchmarks/reference_peer.py --reference DIR --lieconv DIR train TRAIN TEST --budget 600

Needs torch, torchdiffeq, einops, safetensors, numpy, matplotlib and pillow; nothing of lie_sim.
Shapes: S systems, T points of a chunk, N = 6 particles, d = 2; z (S, 2 N d) is q, then p, each (N, d) flat.
Reference: Hutchinson, Le Lan, Zaidi, Dupont, Teh, Kim, "LieTransformer", ICML 2021.
"""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.machinery
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from types import CodeType, ModuleType, SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

COMMITS = {
    "lie-transformer": "81a0aa3fc480cd0ab12c8ee45a68de607e78e781",
    "LieConv": "9bab353dbfa7c777190c485a1658f999c462de44",
}
# File of the LieConv fork -> (text, replacement). The text must occur exactly once, or loading stops.
REPAIRS = {
    # a starred expression in parentheses without a comma is a SyntaxError in every Python 3
    "lie_conv/lieGroups.py": ("(*p.shape[:2])", "(*p.shape[:2],)"),
}
# name -> (model configuration of the clone, settings that differ from its defaults)
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "lietransformer-t2": ("dynamics", {}),
    "lietransformer-se2c": (
        "dynamics",
        {"group": "SE(2)_canonical", "lift_samples": 2, "num_layers": 3, "dim_hidden": 80},
    ),
    "lieconv-t2": ("HLieResNet", {"k": 384, "num_layers": 4}),
    "hfc": ("HFC", {"k": 256}),
    "constellation-t2": ("constellation", {"group": "T2"}),
    "constellation-se2c": ("constellation", {"group": "SE2_canonical", "lift_samples": 2}),
    "qm9-t3": ("molecule", {"group": "T3"}),
    "qm9-se3": (
        "molecule",
        {
            "group": "SE3",
            "architecture": "lieconv",
            "attention_fn": "dot_product",
            "dim_hidden": 1504,
            "feature_embed_dim": 8,
            "fill": 0.5,
            "kernel_dim": 6,
            "kernel_type": "2232",
            "lift_samples": 4,
            "max_sample_norm": 1e6,
            "mc_samples": 25,
            "positive_quaternions": True,
            "use_pseudo_lift": True,
        },
    ),
}
SPRING_MODELS = ("lietransformer-t2", "lietransformer-se2c", "lieconv-t2", "hfc")
# What the data configurations of the clone would have set.
DATA_SETTINGS: dict[str, dict[str, Any]] = {
    "dynamics": {"sys_dim": 2, "data_config": "configs/dynamics/spring_dynamics_data.py", "debug": False},
    "constellation": {"patterns_reps": 2},
    "molecule": {"num_species": 5, "charge_scale": 9.0, "task": "homo", "ds_stats": None},
}
Batch = tuple[tuple[Tensor, Tensor, Tensor], Tensor]  # ((z at the first point, sys_params, ts), z)


# --- loading the clone --------------------------------------------------------------------------------------
class _AttributeDict(dict[str, Any]):
    """A dictionary whose entries are attributes too."""

    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__


class _Flags(ModuleType):
    """Keeps name -> default of every ``DEFINE_…`` call, whatever its type."""

    def __init__(self) -> None:
        super().__init__("forge.flags")
        self.defaults: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Callable[..., None]:
        if not name.startswith("DEFINE_"):
            raise AttributeError(name)
        return lambda flag, default, description="": self.defaults.update({flag: default})


def _stand_in(name: str, placeholders: Sequence[str] = (), **attributes: Any) -> None:
    """An importable module; ``placeholders`` are names that are imported or inherited from but never used."""
    module = sys.modules[name] = ModuleType(name)
    module.__path__ = []
    module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
    for key in placeholders:
        setattr(module, key, type(key, (), {}))
    for key, value in attributes.items():
        setattr(module, key, value)
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)


def install_stand_ins() -> _Flags:
    """Replace oil, forge, attrdict, h5py and torchvision in this process; returns the flag registry."""
    flags = _Flags()
    for name in ("oil", "oil.utils", "oil.datasetup", "h5py", "torchvision", "torchvision.transforms"):
        _stand_in(name)
    _stand_in("oil.utils.utils", ["Eval"])
    _stand_in("oil.datasetup.datasets", ["EasyIMGDataset"])
    _stand_in("oil.model_trainers", ["Trainer"])
    _stand_in("torchvision.datasets", ["MNIST"])
    download = ["download_url", "download_and_extract_archive", "extract_archive", "verify_str_arg"]
    _stand_in("torchvision.datasets.utils", download)
    _stand_in("torchvision.datasets.vision", ["VisionDataset"])
    _stand_in("attrdict", AttrDict=_AttributeDict)
    _stand_in("forge", flags=flags)
    sys.modules["forge.flags"] = flags
    return flags


class _RepairingLoader(importlib.machinery.SourceFileLoader):
    """Compiles the repaired text; reads and writes no byte code, so the clone stays as it is."""

    def get_code(self, fullname: str) -> CodeType:
        text = Path(self.path).read_text(encoding="utf-8")
        for name, (before, after) in REPAIRS.items():
            if self.path.endswith(name):
                if text.count(before) != 1:
                    raise ImportError(
                        f"expected {before!r} once in {self.path}, found it {text.count(before)} times: "
                        f"is the clone at {COMMITS['LieConv'][:7]}?"
                    )
                text = text.replace(before, after)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # the download code of LieConv compares with "is"
            return compile(text, self.path, "exec", dont_inherit=True)


class _ReferenceFinder(importlib.abc.MetaPathFinder):
    """Finds the three packages of the two clones, and nothing else, without touching ``sys.path``."""

    def __init__(self, reference: Path, lieconv: Path) -> None:
        self.roots = {"eqv_transformer": reference, "lie_conv": lieconv, "corm_data": lieconv}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        root = self.roots.get(fullname.partition(".")[0])
        if root is None:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path or [str(root)])
        if spec is None or spec.origin is None:
            return None
        spec.loader = _RepairingLoader(fullname, spec.origin)
        return spec


class Reference:
    """The two clones, importable in this process.

    Args:
        reference: clone of oxcsml/lie-transformer.
        lieconv: clone of MJHutchinson/LieConv; None means the submodule directory of ``reference``.
    """

    def __init__(self, reference: Path, lieconv: Path | None = None) -> None:
        self.root = reference.resolve()
        self.lieconv = (lieconv or reference / "LieConv").resolve()
        for wanted in (self.root / "eqv_transformer", self.lieconv / "lie_conv"):
            if not wanted.is_dir():
                raise SystemExit(f"expected the directory {wanted}; see benchmarks/README.md for the clones")
        self.flags = install_stand_ins()
        sys.meta_path.insert(0, _ReferenceFinder(self.root, self.lieconv))

    def commits(self) -> dict[str, str]:
        """Commit of each clone, with a mark where it is not the one that was tested."""
        found = {}
        for name, path in (("lie-transformer", self.root), ("LieConv", self.lieconv)):
            command = ["git", "-C", str(path), "rev-parse", "HEAD"]
            head = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
            found[name] = head if head == COMMITS[name] else f"{head or 'unknown'} (tested: {COMMITS[name]})"
        return found

    def build(self, name: str, changes: dict[str, Any], *, seed: int = 0) -> Any:
        """The named model of ``MODELS``, an untyped module; those of springs map a ``Batch`` to its loss."""
        kind, settings = MODELS[name]
        settings = settings | changes
        if kind in ("HLieResNet", "HFC"):
            return self._baseline(kind, settings, seed)
        self.flags.defaults = {}
        path = self.root / "configs" / kind / "eqv_transformer_model.py"
        loader = _RepairingLoader(f"reference_{kind}", str(path))
        module: Any = ModuleType(loader.name)
        loader.exec_module(module)
        known = self.flags.defaults | DATA_SETTINGS[kind]
        if unknown := settings.keys() - known.keys():
            raise SystemExit(f"{name} has no setting {sorted(unknown)}; it has {sorted(known)}")
        if (kind, settings.get("group")) == ("constellation", "T2"):
            # the published chain of ifs refuses every group but SE2 and SE2_canonical
            module.SE2_canonical = lambda alpha: module.T(2)
            settings = settings | {"group": "SE2_canonical"}
        settings = {key: str(v) if isinstance(known[key], str) else v for key, v in settings.items()}
        return module.load(SimpleNamespace(**known | {"model_seed": seed} | settings))[0]

    def _baseline(self, kind: str, settings: dict[str, Any], seed: int) -> Any:
        from eqv_transformer.dynamics_predictor import DynamicsPredictor
        from lie_conv import dynamicsTrainer

        torch.manual_seed(seed)
        return DynamicsPredictor(getattr(dynamicsTrainer, kind)(**settings))


# --- data ---------------------------------------------------------------------------------------------------
def sample_springs(count: int, *, seed: int, points: int = 5) -> Batch:
    """Spring systems as the reference draws them, each with one aligned chunk of its exact trajectory.

    m = 3U + 0.1, k = 5U, q = 0.4 N, p = 0.6 N less its mean over systems; the motion
    dq_i/dt = p_i / m_i, dp_i/dt = -2 k_i Σ_j k_j (q_i - q_j) by matrix exponential; 500 points on [0, 5], and
    a random chunk of ``points`` of them. Float64.
    """
    random = torch.Generator().manual_seed(seed)
    draw: dict[str, Any] = {"generator": random, "dtype": torch.float64}
    m, k = 3 * torch.rand(count, 6, **draw) + 0.1, 5 * torch.rand(count, 6, **draw)
    q, p = 0.4 * torch.randn(count, 6, 2, **draw), 0.6 * torch.randn(count, 6, 2, **draw)
    state = torch.cat([q, p - p.mean(0, keepdim=True)], dim=1)  # (S, 12, 2)
    stiffness = 2 * (torch.diag_embed(k * k.sum(1, keepdim=True)) - k[:, :, None] * k[:, None, :])
    motion = torch.zeros(count, 12, 12, dtype=torch.float64)
    motion[:, :6, 6:], motion[:, 6:, :6] = torch.diag_embed(1 / m), -stiffness
    dt = 5 / 499
    first = torch.randint(0, 500 // points, (count,), generator=random) * points * dt
    chunk = [torch.matrix_exp(motion * first[:, None, None]) @ state]
    step = torch.matrix_exp(motion * dt)
    for _ in range(points - 1):
        chunk.append(step @ chunk[-1])
    z = torch.stack(chunk, dim=1).flatten(2)  # (S, T, 24)
    ts = (torch.arange(points, dtype=torch.float64) * dt).expand(count, -1)
    return (z[:, 0], torch.stack([m, k], dim=-1), ts), z


def read_springs(path: Path) -> Batch:
    """Chunks from a safetensors file: z (S, T, 24), sys_params (S, 6, 2) = (m, k), ts (T,), as float32."""
    data = load_file(path)
    shapes = {key: tuple(data[key].shape) for key in sorted(data)[:8]}
    try:
        z, params, ts = (data[key].float() for key in ("z", "sys_params", "ts"))
    except KeyError as missing:
        raise SystemExit(f"{path} lacks {missing}; expected z, sys_params, ts, found {shapes}") from None
    if (z.shape, params.shape) != ((len(z), len(ts), 24), (len(z), 6, 2)):
        raise SystemExit(f"expected z (S, T, 24), sys_params (S, 6, 2), ts (T,) in {path}, found {shapes}")
    return (z[:, 0], params, ts.expand(len(z), -1)), z


def take(batch: Batch, rows: Tensor | slice) -> Batch:
    """Some systems of a batch."""
    (z0, params, ts), z = batch
    return (z0[rows], params[rows], ts[rows]), z[rows]


def cast(batch: Batch, dtype: torch.dtype) -> Batch:
    """A batch in another floating point type."""
    (z0, params, ts), z = batch
    return (z0.to(dtype), params.to(dtype), ts.to(dtype)), z.to(dtype)


# --- params -------------------------------------------------------------------------------------------------
def run_params(reference: Reference, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Parameter counts; on request state-dict shapes, or a file with one evaluation and its weights."""
    names = [options.model] if options.model else list(MODELS)
    counts, shapes = {}, {}
    for name in names:
        model = reference.build(name, options.set, seed=options.seed)
        counts[name] = sum(weight.numel() for weight in model.parameters())
        shapes[name] = {key: list(value.shape) for key, value in model.state_dict().items()}
    result: dict[str, Any] = {"parameters": counts}
    if options.shapes:
        result["state_dict"] = shapes
    if options.dump:
        if len(names) > 1 or names[0] in ("qm9-se3", "lieconv-t2", "hfc"):
            raise SystemExit(
                "--dump takes one deterministic LieTransformer: give --model lietransformer-t2, …"
            )
        tensors = evaluate_once(model, names[0], options)
        settings = {"model": names[0], "settings": json.dumps(MODELS[names[0]][1] | options.set)}
        save_file(
            {key: value.contiguous() for key, value in tensors.items()}, options.dump, metadata=settings
        )
        result["dump"] = {key: list(value.shape) for key, value in tensors.items() if "weights" not in key}
    yield result


def evaluate_once(model: Any, name: str, options: argparse.Namespace) -> dict[str, Tensor]:
    """Weights, input, values after each stage and output of a LieTransformer, in float64.

    The weights are moved off their initial values, at which all layer norms are equal and a mix-up of them
    would go unseen.
    """
    random = torch.Generator().manual_seed(options.seed)
    model = model.double().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += options.perturb * torch.randn(weight.shape, generator=random, dtype=torch.float64)
    network: Any = next(
        module for module in model.modules() if hasattr(module, "net") and hasattr(module, "group")
    )
    stages: dict[str, Tensor] = {}

    def record(stage: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            stages.setdefault(stage, (output if isinstance(output, Tensor) else output[1]).detach().clone())

        return hook

    def record_lift(module: nn.Module, inputs: Any) -> None:
        stages.setdefault("stages.pairs", inputs[0][0].detach().clone())

    handles = [part.register_forward_hook(record(f"stages.{i}")) for i, part in enumerate(network.net)]
    handles.append(network.net.register_forward_pre_hook(record_lift))
    if name in SPRING_MODELS:
        tensors = _evaluate_springs(model, options.batch, options.seed)
    else:
        tensors = _evaluate_points(network, name, options.batch, random)
    for handle in handles:
        handle.remove()
    return {f"weights.{key}": value for key, value in network.state_dict().items()} | stages | tensors


def _evaluate_springs(model: Any, count: int, seed: int) -> dict[str, Tensor]:
    batch = sample_springs(count, seed=seed)
    (z0, params, ts), z = batch
    leaf = z0.clone().requires_grad_()
    energy = model.predictor.compute_H(leaf, params)
    (gradient,) = torch.autograd.grad(energy.sum(), leaf)
    tensors = {"input.z": z0, "input.sys_params": params, "input.ts": ts[0], "output.H": energy.detach()}
    tensors["output.V"] = model.predictor.compute_V((z0[:, :12].reshape(-1, 6, 2), params)).detach()
    tensors["output.dH_dz"] = gradient
    outcome = model(batch)
    return (
        tensors
        | {"output.rollout": outcome.prediction.detach(), "output.loss": outcome.loss.detach()}
        | {"input.truth": z}
    )


def _evaluate_points(network: Any, name: str, count: int, random: torch.Generator) -> dict[str, Tensor]:
    """The bare network (lift, blocks, pooling, output layers) on random points, some of them masked."""
    from eqv_transformer.eqv_attention import EquivariantTransformer

    dim, channels = (3 if name.startswith("qm9") else 2), network.net[0].module.in_features
    x = torch.randn(count, 9, dim, generator=random, dtype=torch.float64)
    features = torch.randn(count, 9, channels, generator=random, dtype=torch.float64)
    mask = torch.arange(9)[None, :] < torch.randint(4, 10, (count, 1), generator=random)
    output = EquivariantTransformer.forward(network, (x, features, mask)).detach()
    return {"input.x": x, "input.features": features, "input.mask": mask, "output": output}


# --- step ---------------------------------------------------------------------------------------------------
def peak_rss_mb() -> float:
    """Largest resident set of this process so far, in MB (2^20 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def run_step(reference: Reference, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """CPU seconds and memory of a training step: rollout of the chunk, loss, backward, Adam."""
    model = reference.build(options.model, options.set, seed=options.seed)
    batch = cast(sample_springs(options.batch, seed=options.seed), torch.float32)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    model.train()
    baseline = peak_rss_mb()
    timings, losses = [], []
    for _ in range(options.warmup + options.repeats):
        marks, wall = [time.process_time()], time.perf_counter()
        loss = model(batch).loss
        marks.append(time.process_time())
        optimiser.zero_grad()
        loss.backward()
        marks.append(time.process_time())
        optimiser.step()
        marks.append(time.process_time())
        timings.append(
            (marks[-1] - marks[0], marks[1] - marks[0], marks[2] - marks[1], time.perf_counter() - wall)
        )
        losses.append(loss.item())
    counted = timings[options.warmup :]
    median = [statistics.median(column) for column in zip(*counted, strict=True)]
    yield {
        "model": options.model,
        "batch": options.batch,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "cpu_s_per_step": median[0],
        "cpu_s_rollout": median[1],
        "cpu_s_backward": median[2],
        "wall_s_per_step": median[3],
        "cpu_s_counted": [timing[0] for timing in counted],
        "cpu_s_warmup": [timing[0] for timing in timings[: options.warmup]],
        "peak_rss_mb": peak_rss_mb(),
        "baseline_rss_mb": baseline,
        "losses": losses,
    }


# --- train --------------------------------------------------------------------------------------------------
def held_out_error(model: Any, test: Batch, batch: int) -> float:
    """Mean squared error of the rollouts over all points of the chunk and all coordinates."""
    model.eval()
    with torch.no_grad():
        parts = [take(test, slice(i, i + batch)) for i in range(0, len(test[1]), batch)]
        total = sum(float(model(part).mse) * len(part[1]) for part in parts)
    model.train()
    return total / len(test[1])


def learning_rate(options: argparse.Namespace, epoch: int, cpu_s: float) -> float:
    """Cosine from the initial rate to 0: over the epochs, as published, or over the CPU budget."""
    progress = epoch / options.epochs if options.schedule == "epochs" else cpu_s / options.budget
    return float(options.lr) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def run_train(reference: Reference, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The published protocol on given data until the epochs or the CPU budget end; tests are not charged."""
    train, test = read_springs(options.train), read_springs(options.test)
    model = reference.build(options.model, options.set, seed=options.seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=options.lr, betas=(0.9, 0.999))
    random = torch.Generator().manual_seed(options.seed)
    cpu_s, step, epoch, due = 0.0, 0, 0, 0.0
    loss: float | None = None  # there is none before the first step
    key = f"test_mse{test[1].shape[1]}"
    model.train()

    def report() -> dict[str, Any]:
        error = held_out_error(model, test, options.batch)
        return {"cpu_s": cpu_s, "step": step, "epoch": epoch, "train_loss": loss, key: error}

    while epoch < options.epochs and cpu_s < options.budget:
        for rows in torch.randperm(len(train[1]), generator=random).split(options.batch):
            if cpu_s >= due:
                yield report()
                due += options.every
            began = time.process_time()
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(options, epoch, cpu_s)
            outcome = model(take(train, rows))
            optimiser.zero_grad()
            outcome.loss.backward()
            optimiser.step()
            cpu_s, step, loss = cpu_s + time.process_time() - began, step + 1, outcome.loss.item()
            if not math.isfinite(loss):
                raise SystemExit(f"the loss became {loss} at step {step} after {cpu_s:.0f} CPU-s")
            if cpu_s >= options.budget:
                break
        else:
            epoch += 1
    done = {"finished": True, "epochs_planned": options.epochs, "peak_rss_mb": peak_rss_mb()}
    yield report() | {"model": options.model, "systems": len(train[1]), "batch": options.batch} | done


# --- command line -------------------------------------------------------------------------------------------
def setting(text: str) -> tuple[str, Any]:
    """``name=value`` with a JSON value, or a bare word."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reference", type=Path, required=True, help="clone of oxcsml/lie-transformer")
    parser.add_argument("--lieconv", type=Path, help="clone of MJHutchinson/LieConv; default: the submodule")
    parser.add_argument("--threads", type=int, default=1)
    modes = parser.add_subparsers(dest="mode", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--seed", type=int, default=0)
    shared.add_argument(
        "--set",
        type=setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the model",
    )

    params = modes.add_parser("params", parents=[shared], help="parameter counts")
    params.add_argument("--model", choices=list(MODELS), help="default: all")
    params.add_argument("--shapes", action="store_true", help="add the shapes of the state dict")
    params.add_argument(
        "--dump", type=Path, help="safetensors file for weights, an input and what comes of it"
    )
    params.add_argument("--batch", type=int, default=4, help="systems in the dumped input")
    params.add_argument("--perturb", type=float, default=0.1, help="noise on the dumped weights")

    step = modes.add_parser("step", parents=[shared], help="cost of a training step")
    step.add_argument("--model", choices=SPRING_MODELS, default="lietransformer-t2")
    step.add_argument("--batch", type=int, default=100)
    step.add_argument("--repeats", type=int, default=5)
    step.add_argument(
        "--warmup", type=int, default=3, help="steps not counted; the first three cost up to twice as much"
    )

    train = modes.add_parser("train", parents=[shared], help="training curve against CPU seconds")
    train.add_argument("train", type=Path, help="safetensors: z (S, T, 24), sys_params (S, 6, 2), ts (T,)")
    train.add_argument("test", type=Path, help="the same, held out")
    train.add_argument("--model", choices=SPRING_MODELS, default="lietransformer-t2")
    train.add_argument("--budget", type=float, required=True, help="CPU seconds of training")
    train.add_argument("--every", type=float, default=60.0, help="CPU seconds of training between tests")
    train.add_argument("--batch", type=int, default=100)
    train.add_argument("--lr", type=float, default=1e-3)
    train.add_argument("--epochs", type=int, default=200)
    train.add_argument(
        "--schedule", choices=["epochs", "budget"], default="epochs", help="what the cosine spans"
    )
    options = parser.parse_args(arguments)
    options.set = dict(options.set)
    return options


def main() -> None:
    options = parse()
    results, sys.stdout = sys.stdout, sys.stderr  # the reference prints while it builds models
    torch.set_num_threads(options.threads)
    reference = Reference(options.reference, options.lieconv)
    run = {"params": run_params, "step": run_step, "train": run_train}[options.mode]
    environment = {
        "mode": options.mode,
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "torchdiffeq", "einops")},
        "commits": reference.commits(),
    }
    for line in run(reference, options):
        last = options.mode != "train" or "finished" in line
        print(json.dumps(line | environment if last else line), file=results, flush=True)


if __name__ == "__main__":
    main()
