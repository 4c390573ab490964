"""Freed memory is kept where that was asked for: counted in page faults, in processes of their own."""

import os
import subprocess
import sys

import pytest

from lie_sim.memory import SWITCH

PAGES = 25_000
"""About 100 MB of pages of 4 KiB; where pages are larger, the kept tensor costs none all the same."""
FAULTS = f"""
import resource, torch
{{before}}
def faults():
    begin = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones({PAGES} * 1024)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - begin
counts = [faults() for _ in range(5)]
print(counts[-1] / max(counts[0], 1))
"""
CALCULATOR = """
from lie_sim.calculators import LieTransformerCalculator
from lie_sim.models import AtomicPotential
LieTransformerCalculator(AtomicPotential.default(elements=(1,)))
"""
COMMAND = "from lie_sim.cli.main import main; main(['info', 'organic-gfn2'])"


def again(before: str, **environment: str) -> float:
    """Page faults of the fifth large tensor over those of the first; a small block may be in the way of the second."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FAULTS.format(before=before)],
        capture_output=True,
        text=True,
        check=True,
        env={name: value for name, value in os.environ.items() if name != SWITCH} | environment,
    )
    return float(done.stdout.split()[-1])


glibc = pytest.mark.skipif(
    not sys.platform.startswith("linux")
    or not hasattr(os, "confstr")
    or "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""),
    reason="only glibc gives memory back so eagerly",
)


@glibc
@pytest.mark.parametrize("before", [CALCULATOR, COMMAND], ids=["calculator", "command"])
def test_a_large_tensor_costs_no_page_faults_again(before: str) -> None:
    assert again(before) < 0.1


@glibc
def test_switched_off_every_large_tensor_costs_them_anew() -> None:
    assert again(CALCULATOR, **{SWITCH: "0"}) > 0.9
