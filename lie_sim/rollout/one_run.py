"""One run, block by block: which frames are done, who is told of them, and when to stop.

    drift > bound, and "stop"   ⇒   no more blocks, neither now nor when the run is continued under the same bound
    stored  ▓▓▓▓░░▓▓▓▓░░░░      ⇒   ░ is computed, each part from the state after the ▓ before it

Shape letters: B batch, F frames of a block, N particles, d space dimension.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm import tqdm

from lie_sim.errors import ConfigError
from lie_sim.rollout.blocks import Blocks
from lie_sim.rollout.chunk import Chunk
from lie_sim.rollout.frames import Frames
from lie_sim.state import PhaseState

if TYPE_CHECKING:
    from lie_sim.rollout.runner import Rollout


@dataclass(frozen=True)
class RolloutEnd:
    """Where a run ended.

    Args:
        state: positions, momenta and time; NaN for a system that diverged, as in its frames. The time is that of the
            initial state, if it has one, and goes on from there.
        num_steps: steps done.
        diverged: whether a system diverged on the way, shape (B,).
        drift: largest |H − H₀| over the mean kinetic energy so far, among the frames of the last block, shape (B,);
            0 once a system has diverged. H includes the energy in the heat bath of a thermostat; NaN for a method that
            does not know it.
        stopped_by_drift: whether the run ended early because of it.
    """

    state: PhaseState
    num_steps: int
    diverged: Bool[Tensor, " B"]
    drift: Float[Tensor, " B"]
    stopped_by_drift: bool = False


class OneRun:
    """One run: which frames are done, and who is told of them."""

    def __init__(
        self,
        options: Rollout,
        chunks: list[Chunk],
        start: Tensor | None,
        save_every: int,
        num_steps: int,
        on_frames: Callable[[Frames], None] | None,
        store: Blocks | None,
    ) -> None:
        self.options, self.chunks, self.start, self.save_every = options, chunks, start, save_every
        self.num_frames = num_steps // save_every + 1
        self.on_frames, self.store = on_frames, store
        self.done = 0
        self.drift = torch.zeros(sum(len(chunk.alive) for chunk in chunks), dtype=torch.float64)
        self.warned = False
        self.after_gaps = [last + 1 for _, last in store.gaps()] if store is not None else []
        if store is not None:
            self._refuse_more_than_asked(store)
            self._pass_stored(store)

    def to_the_end(self, *, progress: bool) -> RolloutEnd:
        """Block by block."""
        systems = len(self.drift)
        total = systems * (self.num_frames - 1) * self.save_every
        begun = systems * max(self.done - 1, 0) * self.save_every
        stopped = self._too_much_drift()  # of a run that is continued
        with tqdm(
            total=total, initial=begun, unit="system-steps", desc="rollout", disable=not progress
        ) as bar:
            while self.done < self.num_frames and not stopped:
                stopped = self._block(bar)
                if self.store is not None and self.done in self.after_gaps and not stopped:
                    before = self.done
                    self._pass_stored(self.store)
                    bar.update(systems * (self.done - before) * self.save_every)
                    stopped = self._too_much_drift()
        q, p = (torch.cat(part) for part in zip(*(chunk.phase() for chunk in self.chunks), strict=True))
        alive = torch.cat([chunk.alive for chunk in self.chunks])
        q, p = (torch.where(alive.reshape(-1, *(1,) * (x.ndim - 1)), x, torch.nan) for x in (q, p))
        done = (self.done - 1) * self.save_every
        t = torch.full((len(q),), done * self.options.step_size, dtype=torch.float64, device=q.device)
        t = t if self.start is None else self.start.to(t) + t
        return RolloutEnd(PhaseState(q=q, p=p, t=t), done, ~alive, self.drift, stopped)

    def _block(self, bar: Any) -> bool:
        """The next frames of all chunks; whether the drift stops the run."""
        until = min((frame for frame in self.after_gaps if frame > self.done), default=self.num_frames)
        count = min(self.options.frames_per_block, until - self.done)
        parts, drifts = [], []
        for chunk in self.chunks:
            frames, drift = [], torch.zeros_like(chunk.kinetic_sum)
            for number in range(count):
                frames.append(self._next_frame(chunk, self.done + number, bar))
                drift = torch.maximum(drift, chunk.drift(frames[-1][2]))
            parts.append([torch.stack(part, dim=1) for part in zip(*frames, strict=True)])
            drifts.append(drift.cpu())
        numbers = torch.arange(self.done, self.done + count, dtype=torch.float64)
        q, p, energy = (torch.cat(part) for part in zip(*parts, strict=True))
        times = numbers.to(q.device) * (self.save_every * self.options.step_size)
        frames_of_all = Frames(self.done, times, q, p, energy)
        self.done += count
        self.drift = torch.cat(drifts)
        if self.store is not None:
            self.store.write(frames_of_all, self._end(), self.on_frames)
        elif self.on_frames is not None:
            self.on_frames(frames_of_all)
        self._show(bar)
        return self._too_much_drift()

    def _next_frame(self, chunk: Chunk, number: int, bar: Any) -> tuple[Tensor, Tensor, Tensor]:
        if number > 0:
            options = self.options
            chunk.advance(options.step_size / options.substeps, self.save_every * options.substeps)
            bar.update(self.save_every * len(chunk.alive))
        return chunk.frame()

    def _show(self, bar: Any) -> None:
        diverged = sum(int((~chunk.alive).sum()) for chunk in self.chunks)
        largest = float(self.drift.max()) if len(self.drift) else math.nan
        bar.set_postfix(drift="" if math.isnan(largest) else f"{largest:.1e}", diverged=diverged)

    def _too_much_drift(self) -> bool:
        bound = self.options.drift_bound
        if bound is None or not bool((self.drift > bound).any()):
            return False
        if not self.warned:
            self.warned = True
            count, worst = int((self.drift > bound).sum()), float(self.drift.max())
            warnings.warn(
                f"the energy of {count} of {len(self.drift)} systems has changed by more than {bound:g} of the mean "
                f"kinetic energy (by {worst:.2g} at most): use a smaller step, or another method"
                f"{'; the run ends here' if self.options.on_drift == 'stop' else ''}",
                stacklevel=2,
            )
        return self.options.on_drift == "stop"

    def _end(self) -> dict[str, Tensor]:
        """The states of all chunks, by number and name; ``alive`` and ``drift`` for all together."""
        ends = {
            f"{k}.{name}": x for k, chunk in enumerate(self.chunks) for name, x in chunk.tensors().items()
        }
        return {**ends, "alive": torch.cat([chunk.alive for chunk in self.chunks]), "drift": self.drift}

    def _refuse_more_than_asked(self, store: Blocks) -> None:
        stored = store.num_frames()
        if stored > self.num_frames:
            raise ConfigError(
                f"{store.directory} holds {(stored - 1) * self.save_every:,} steps already, more than the "
                f"{(self.num_frames - 1) * self.save_every:,} asked for: read them with StoredRollout"
            )

    def _pass_stored(self, store: Blocks) -> None:
        """Go on after the blocks that are there from the next frame on."""
        end, done = store.state_after(self.done)
        if done == self.done:
            return
        self.done, self.drift = done, end["drift"]
        for k, chunk in enumerate(self.chunks):
            prefix = f"{k}."
            own = {n.removeprefix(prefix): x for n, x in end.items() if n.startswith(prefix)}
            chunk.restore(own, done)
