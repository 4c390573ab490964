"""The commands from end to end, on a run of three steps."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lie_sim.checkpoint import load_model, save_model
from lie_sim.cli import demo as demo_module
from lie_sim.cli import train as train_module
from lie_sim.data import Trajectories
from lie_sim.errors import NonFiniteError
from lie_sim.experiments import SpringsExperiment, open_run
from lie_sim.models import LieTransformerClassifier, LieTransformerConfig
from lie_sim.rollout import rollout as integrate
from lie_sim.state import PhaseState
from lie_sim.systems import Springs
from tests_cli_tiny import TINY

Run = Callable[..., Any]
