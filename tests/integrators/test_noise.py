"""Counter-based noise: published answers, distribution, and independence of how a batch is put together."""

from __future__ import annotations

import inspect
import json
import math
import subprocess
import sys

import pytest
import torch
from scipy import stats
from torch import Tensor

from lie_sim.integrators import BAOAB
from lie_sim.integrators.noise import _box_muller, check_seed, keyed_noise, normal_noise, philox

SIGNIFICANCE = 1e-3  # of tests with a fixed seed: they pass or fail for good
KNOWN_ANSWERS = [  # kat_vectors of the Random123 distribution, philox4x32-10
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> Tensor:
    return torch.tensor([int(word, 16) for word in text.split()])


def noise(trajectory: list[int], *, step: int | Tensor = 3, **changed: int) -> Tensor:
    options = {"seed": 5, "num_particles": 4, "dim": 3} | changed
    return normal_noise(trajectory=torch.tensor(trajectory), step=step, **options)


def sample() -> Tensor:
    return noise(list(range(1000)), num_particles=100, dim=1).flatten(1)


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_gives_the_published_answers(counter: str, key: str, answer: str) -> None:
    assert torch.equal(philox(words(counter), words(key)), words(answer))


def test_philox_of_a_batch_is_philox_of_each() -> None:
    counters, keys, answers = (torch.stack([words(row[i]) for row in KNOWN_ANSWERS]) for i in range(3))
    assert torch.equal(philox(counters, keys), answers)
    many = philox(counters[:, None].expand(3, 5, 4), keys[:, None])
    assert torch.equal(many, answers[:, None].expand(3, 5, 4))


def test_noise_is_made_of_philox_words_as_documented() -> None:
    step, trajectory, stream, seed = 2**40 + 7, 11, 2, 2**35 + 1
    counter = torch.tensor([[7, 11, pair, (2 << 16) | 2**8] for pair in range(2)])
    bits = philox(counter, torch.tensor([1, 8])).tolist()
    expected = []
    for a, b, c, d in bits:
        u, v = ((a << 21 | b >> 11) + 1) / 2**53, (c << 21 | d >> 11) / 2**53
        expected += [math.sqrt(-2 * math.log(u)) * f(2 * math.pi * v) for f in (math.cos, math.sin)]
    got = noise([trajectory], step=step, seed=seed, stream=stream, num_particles=1, dim=3)
    assert got.flatten().tolist() == pytest.approx(expected[:3], rel=1e-14)


def test_noise_is_standard_normal() -> None:
    """Kolmogorov–Smirnov on 1e5 numbers, and of their squares, which weighs the tails."""
    z = sample().flatten()
    assert stats.kstest(z.numpy(), "norm").pvalue > SIGNIFICANCE  # measured: 0.20
    chi2 = stats.chi2(100).cdf(z.reshape(-1, 100).square().sum(1).numpy())
    assert stats.kstest(chi2, "uniform").pvalue > SIGNIFICANCE  # measured: 0.24
    assert stats.kstest((1.03 * z).numpy(), "norm").pvalue < SIGNIFICANCE, "the test is blind"


@pytest.mark.parametrize("changed", ["seed", "stream", "step", "trajectory", "particle", "partner"])
def test_neighbouring_keys_give_uncorrelated_numbers(changed: str) -> None:
    """n = 1e5 pairs: the correlation has the standard error 1/√n = 0.0032."""
    ids, size = list(range(1000)), {"num_particles": 100, "dim": 1}
    z = sample()
    if changed == "trajectory":
        z, other = z[:-1], z[1:]
    elif changed in ("particle", "partner"):  # two numbers of one counter, and of neighbouring counters
        first = slice(0, -2, 2) if changed == "particle" else slice(0, None, 2)
        z, other = z[:, first], z[:, 2::2] if changed == "particle" else z[:, 1::2]
    else:
        other = noise(ids, **{**size, changed: {"seed": 6, "stream": 1, "step": 4}[changed]}).flatten(1)
    correlation = float((z * other).mean()) * math.sqrt(z.numel())
    assert abs(correlation) < 4, f"{correlation:.2f} standard errors"
    assert abs(float((z * (other + 0.05 * z)).mean())) * math.sqrt(z.numel()) > 4, "the test is blind"


def test_noise_of_a_trajectory_does_not_depend_on_its_batch() -> None:
    together = noise([4, 0, 9, 2**32 - 1, 7])
    for i, name in enumerate([4, 0, 9, 2**32 - 1, 7]):
        assert torch.equal(noise([name])[0], together[i])


def test_noise_of_a_particle_does_not_depend_on_padding() -> None:
    assert torch.equal(noise([1, 2], num_particles=9)[:, :4], noise([1, 2]))


def test_every_system_may_be_at_its_own_step() -> None:
    together = noise([4, 4, 6], step=torch.tensor([0, 2**33 + 5, 1]))
    for i, (name, step) in enumerate([(4, 0), (4, 2**33 + 5), (6, 1)]):
        assert torch.equal(noise([name], step=step)[0], together[i])
    assert not torch.equal(noise([4], step=5), noise([4], step=2**33 + 5)), "high bits of the step are lost"


def test_float32_is_float64_rounded() -> None:
    single = normal_noise(
        seed=5, trajectory=torch.arange(3), step=3, num_particles=4, dim=3, dtype=torch.float32
    )
    assert torch.equal(single, noise([0, 1, 2]).float())


def test_extreme_bits_give_finite_numbers() -> None:
    for word in (0, 2**32 - 1):
        z = _box_muller(*(torch.tensor([word]) for _ in range(4)))
        assert bool(z.isfinite().all())
        assert float(z.abs().max()) < 8.6  # √(2·53 ln 2): the widest number that 53 bits can give


def test_noise_of_many_steps_at_once_is_that_of_every_step() -> None:
    """Blocks of steps only save time; the third system stands still, so its step does not count on."""
    like, ids = torch.zeros(3, 4, 3, dtype=torch.float64), torch.tensor([5, 1, 8])
    first, advances = torch.tensor([0, 7, 2]), torch.tensor([True, True, False])
    numbers = keyed_noise(
        seed=5, trajectory=ids, step=first, advances=advances, num_steps=1200, num_streams=2, like=like
    )
    for k, z in enumerate(numbers):
        step, stream = divmod(k, 2)
        if step in (0, 1, 454, 455, 456, 1199):  # 455 steps are one block
            assert torch.equal(z, noise([5, 1, 8], step=first + step * advances, stream=stream))
    assert k == 2399


def test_impossible_keys_are_refused() -> None:
    with pytest.raises(ValueError, match=r"seed must be an integer from 0 to 2\*\*64 - 1, got -1"):
        noise([0], seed=-1)
    with pytest.raises(ValueError, match="seed must be an integer"):
        BAOAB(seed=True)
    for seed in (1.5, "1"):
        with pytest.raises(ValueError, match="seed must be an integer"):
            inspect.unwrap(check_seed)(seed)  # without the type checks that tests add
    with pytest.raises(ValueError, match="stream must be from 0 to 65535, got 65536"):
        noise([0], stream=65536)


def brownian(names: list[int]) -> list[list[float]]:
    """End points of Langevin trajectories with these names; runs in a worker too."""
    from lie_sim.integrators import integrate

    class Well:
        masses = torch.ones(1, dtype=torch.float64)

        def force(self, q):
            return -q

        def velocity(self, p):
            return p

    q = torch.zeros(len(names), 1, 1, dtype=torch.float64)
    run = {"step_size": 0.1, "num_steps": 20, "save_every": 20, "method": "baoab"}
    with torch.no_grad():
        x, p = integrate(Well(), q, q, trajectory=torch.tensor(names), **run)
    return torch.cat([x[:, -1, 0], p[:, -1, 0]], -1).tolist()


@pytest.mark.parametrize("workers", [2])
def test_noise_does_not_depend_on_who_computes_it(workers: int) -> None:
    """Six trajectories by one process, and dealt out to several, to the bit."""
    shares = [list(range(first, 6, workers)) for first in range(workers)]
    code = (
        "import importlib.util, json, sys;"
        f"spec = importlib.util.spec_from_file_location('noise', {__file__!r});"
        "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module);"
        "print(json.dumps(module.brownian(json.loads(sys.argv[1]))))"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, json.dumps(share)], stdout=subprocess.PIPE, text=True)
        for share in shares
    ]
    found = {}
    for share, process in zip(shares, running, strict=True):
        text, _ = process.communicate(timeout=120)
        found |= dict(zip(share, json.loads(text), strict=True))
    assert [found[name] for name in range(6)] == brownian(list(range(6)))
    assert len({tuple(end) for end in found.values()}) == 6
