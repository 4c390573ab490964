"""From a table of observations with gaps to a Hamiltonian: fill the gaps, fit by shooting, fill them again, forecast.

    table ─► gaps filled by attention ─► starts of segments ─► energy and starts fitted by shooting ─┐
                                              ▲                                                      │
                                              └────────── gaps filled by the fitted motion ──────────┘

The first part of every track is fitted; what was observed in the last part is compared with the forecast, which begins
with one motion through the last fitted observations. Then the end of every track is forecast further. A run can be
stopped at any time, and the same call goes on.

Shape letters: T times, N particles, d space dimension, M measurements, S segments.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from lie_sim.errors import CheckpointError, ConfigError, DataError
from lie_sim.fitting.config import FitConfig
from lie_sim.fitting.ends import last_parts, motions_at_ends
from lie_sim.fitting.forecast import FittedTrack, forecasts
from lie_sim.fitting.gaps import Filled, fill, fitted_imputer
from lie_sim.fitting.segments import Segments
from lie_sim.fitting.shooting import Shooting, ShootingTask
from lie_sim.fitting.table import ObservedTable, Track
from lie_sim.fitting.units import Units, units_of
from lie_sim.hamiltonian import Hamiltonian
from lie_sim.models import LieTransformer
from lie_sim.state import Particles
from lie_sim.training import TrainingConfig, train

_FEWEST = 3
"""Positions of a particle in the fitted part of each track."""


_RIVALS = ("forecast_at_rest", "forecast_straight")
_NO_BETTER = (
    "The forecast is no better than rest or straight motion: the energy is not learned, or the system is not closed. "
    "Give it more steps (--fit-steps), longer tracks, or the right masses (--masses, --distinct)."
)


@dataclass(frozen=True)
class Fit:
    """What :func:`fit` found.

    Args:
        hamiltonian: in units of ``units``: positions / s, momenta / (⟨m⟩ s/τ), masses / ⟨m⟩.
        units: s and τ.
        particles: one system of them, with these masses.
        tracks: filled in and forecast.
        figures: errors, in the unit of length: ``noise`` of observed positions as it was assumed; ``residual``, the
            root mean square of what the motion leaves of them, a little less than the noise, as starts follow it;
            ``imputed``, mean absolute error of positions that were hidden from attention, before the fit; ``forecast``
            and its rivals ``forecast_at_rest`` and ``forecast_straight``, root mean square over what was held out.
    """

    hamiltonian: Hamiltonian
    units: Units
    particles: Particles
    tracks: tuple[FittedTrack, ...]
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def warning(self) -> str:
        """What to do about a forecast that is no better than rest or straight motion; empty where it is better."""
        rivals = [self.figures[name] for name in _RIVALS if name in self.figures]
        return _NO_BETTER if rivals and not self.figures["forecast"] < min(rivals) else ""


def fit(
    table: ObservedTable,
    config: FitConfig | None = None,
    run: str | Path | None = None,
    *,
    restart: bool = False,
    progress: bool = False,
) -> Fit:
    """Fit a closed system: particles that act on each other, without friction and without forces from outside.

    Args:
        table: what was observed.
        config: options.
        run: folder where the stages are kept; the same call goes on after an interruption.
        restart: begin again where the folder has stages of another fit.
        progress: show bars.

    Raises:
        ConfigError: there are not as many masses as particles, or the folder is of a fit with other options.
        CheckpointError: the folder is of a fit to other data.
        DataError: nothing moves, tracks are too short, or a particle is hardly seen in the fitted part.

    Example:
        >>> import numpy as np
        >>> from lie_sim.fitting import Ledger, ObservedTable, Track
        >>> t = np.linspace(0, 4, 41)
        >>> x = np.stack([np.cos(t), -np.cos(t)], axis=-1)[:, :, None]
        >>> x[10:15, 0] = np.nan
        >>> seen = ObservedTable((Track("", t, x),), ("a", "b"), 1, ("x",), ("", ""), Ledger(0, 0, 0, 0, {}, ()))
        >>> found = fit(seen, FitConfig(imputer_steps=2, fit_steps=2, rounds=1, end_steps=0, width=8))
        >>> found.tracks[0].values.shape, bool(np.isfinite(found.tracks[0].forecast).all())
        ((41, 2, 1), True)
    """
    config = config or FitConfig()
    folder = None if run is None else Path(run)
    hamiltonian = _hamiltonian(table, config)
    particles, fitted = _particles(table, config), [_end(each, config) for each in table.tracks]
    parts = [_part(each, end) for each, end in zip(table.tracks, fitted, strict=True)]
    _check_seen(parts, table)
    units = units_of(parts, table.dim)
    factors = units.factors(table.dim, velocities=table.has_velocities)
    centres = [_centre(each, table.dim) for each in parts]
    scaled = [
        Track(each.name, (each.times - each.times[0]) / units.time, (each.values - centre) / factors)
        for each, centre in zip(table.tracks, centres, strict=True)
    ]
    known = [_part(each, end) for each, end in zip(scaled, fitted, strict=True)]
    if folder is not None and restart:
        shutil.rmtree(folder / "stages", ignore_errors=True)
    training = TrainingConfig(
        max_steps=config.imputer_steps,
        batch_size=16,
        learning_rate=1e-2,
        validate_every=max(1, config.imputer_steps // 8),
        ema_decay=0.98,
        seed=config.seed,
    )
    with _same_fit(folder, "imputer_steps"):
        imputer, hidden_error = fitted_imputer(
            known,
            table.dim,
            window=config.window,
            training=training,
            run=_stage(folder, "gaps"),
            progress=progress,
        )
    filled = by_attention = fill(imputer, known, window=config.window)
    noise = config.noise / units.length if config.noise is not None else _noise(known, table.dim)
    segments = Segments(known, table.dim, particles, config.segment)
    for number in range(config.rounds):
        shooting = Shooting(hamiltonian, *segments.starts(filled))
        task = ShootingTask(
            segments.tensors(filled, noise, trusted=number == 0),
            joint=2 * noise,
            step_size=segments.step_size,
        )
        chosen = _shooting_options(config, number)
        with _same_fit(folder, "fit_steps"):
            train(shooting, task, chosen, _stage(folder, f"round{number}"), progress=progress)
        filled, residual = segments.refilled(shooting)
        assumed = noise
        if config.noise is None:
            noise = min(max(residual, 1e-4), noise)
    filled = [_surer(*pair) for pair in zip(filled, by_attention, strict=True)]
    hamiltonian.requires_grad_(False)
    ends, parts_at_ends, starts = last_parts(segments, shooting, filled)
    motions = motions_at_ends(
        hamiltonian,
        ends,
        parts_at_ends,
        table.dim,
        particles,
        noise,
        steps=config.end_steps,
        starts=starts,
    )
    tracks, errors_ahead = forecasts(*motions, scaled, filled, config.forecast)
    figures = {"noise": assumed, "residual": residual, "imputed": hidden_error, **errors_ahead}
    return Fit(
        hamiltonian,
        units,
        particles,
        tuple(
            each.in_units(seen, units.time, factors, centre)
            for each, seen, centre in zip(tracks, table.tracks, centres, strict=True)
        ),
        {name: units.length * value for name, value in figures.items()},
    )


def _hamiltonian(table: ObservedTable, config: FitConfig) -> Hamiltonian:
    species = len(table.particles) if config.distinct else 0
    with torch.random.fork_rng(devices=[]):  # the caller's generator stays as it was
        torch.default_generator.manual_seed(config.seed)
        model = LieTransformer.default(dim=table.dim, width=config.width, num_species=species)
    return Hamiltonian(model).double()


def _shooting_options(config: FitConfig, number: int) -> TrainingConfig:
    return TrainingConfig(
        max_steps=config.fit_steps,
        batch_size=128,
        learning_rate=1e-2,
        weight_decay=0.0,
        warmup_steps=20,
        validate_every=max(1, config.fit_steps // 6),
        ema_decay=0.98,
        seed=config.seed + number,
        dtype="float64",
    )


def _particles(table: ObservedTable, config: FitConfig) -> Particles:
    count = len(table.particles)
    if len(config.masses) not in (1, count):
        raise ConfigError(
            f"there are {count} particles ({', '.join(table.particles)}) and {len(config.masses)} masses: give one for "
            "all, or one for each"
        )
    masses = torch.tensor(config.masses, dtype=torch.float64).expand(1, count)
    species = torch.arange(count)[None] if config.distinct else None
    return Particles(masses=masses / masses.mean(), species=species)


def _end(track: Track, config: FitConfig) -> int:
    """How many times are fitted."""
    last = track.times[-1] - config.holdout * (track.times[-1] - track.times[0])
    end = int(np.searchsorted(track.times, last, side="right"))
    if end < 4:
        where = f"trajectory {track.name}" if track.name else "the table"
        raise DataError(f"{where} has {len(track.times)} times, {end} of them to fit: at least 4 are needed")
    return end


def _check_seen(parts: Sequence[Track], table: ObservedTable) -> None:
    """Refuse particles that the fitted part hardly shows."""
    for part in parts:
        seen = np.isfinite(part.values[..., : table.dim]).all(-1).sum(0)
        few = [name for name, count in zip(table.particles, seen.tolist(), strict=True) if count < _FEWEST]
        if few:
            where = f" of trajectory {part.name}" if part.name else ""
            raise DataError(
                f"{', '.join(few)} {'are' if len(few) > 1 else 'is'} seen less than {_FEWEST} times in the fitted part"
                f"{where}: leave {'them' if len(few) > 1 else 'it'} out, or hold less out"
            )


def _centre(track: Track, dim: int) -> np.ndarray:
    """Mean position, and 0 for velocities, shape (M,)."""
    centre = np.zeros(track.values.shape[-1])
    centre[:dim] = np.nanmean(track.values[..., :dim], axis=(0, 1))
    return centre


def _surer(one: Filled, other: Filled) -> Filled:
    """Of two fillings, at every place the one that expects the smaller error.

    Example:
        >>> one, other = (Filled(np.full(2, x), np.array(b)) for x, b in ((1.0, [0.1, 0.5]), (2.0, [0.3, 0.3])))
        >>> _surer(one, other).values.tolist()
        [1.0, 2.0]
    """
    surer = one.scale < other.scale
    return Filled(np.where(surer, one.values, other.values), np.where(surer, one.scale, other.scale))


def _part(track: Track, end: int) -> Track:
    """The first times of a track."""
    return Track(track.name, track.times[:end], track.values[:end])


def _stage(folder: Path | None, name: str) -> Path | None:
    return None if folder is None else folder / "stages" / name


@contextmanager
def _same_fit(folder: Path | None, steps: str) -> Iterator[None]:
    """Say what is to be done where a stage is of another fit, and call its number of steps by the name it has here."""
    try:
        yield
    except (ConfigError, CheckpointError) as error:
        if folder is None or not (folder / "stages").exists():
            raise
        raise type(error)(
            f"{folder} holds a fit to another table, or with other masses or options: use those again, another "
            f"folder, or begin anew with restart=True, --restart on the command line. "
            + str(error).replace("max_steps", steps)
        ) from error


def _noise(tracks: Sequence[Track], dim: int) -> float:
    """Of positions, from how far each is off the line between those before and after it: an upper bound."""
    found = []
    for track in tracks:
        for series in track.values[..., :dim].reshape(len(track.times), -1).T:
            there = np.isfinite(series)
            t, x = track.times[there], series[there]
            if len(t) > 2:
                share = (t[1:-1] - t[:-2]) / (t[2:] - t[:-2])
                off = x[1:-1] - (1 - share) * x[:-2] - share * x[2:]
                found.append(np.abs(off) / np.sqrt(1 + share**2 + (1 - share) ** 2))
    typical = float(np.median(np.concatenate(found))) / 0.6745 if found else 0.1
    return min(max(typical, 1e-4), 0.3)
