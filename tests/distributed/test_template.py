"""The files to begin with are what their readers expect, and every name in them exists."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import tyro

from lie_sim.cli.main import COMMANDS, main
from lie_sim.cli.simulate import SimulateOptions
from lie_sim.cli.template import TemplateOptions
from lie_sim.distributed.manifest import ChunkEntry, Manifest
from lie_sim.distributed.ray_metrics import WENT_WRONG, RayMetrics
from lie_sim.distributed.template import TEMPLATES, template
from lie_sim.errors import ConfigError

yaml, ray_kinds = pytest.importorskip("yaml"), pytest.importorskip("ray.util.metrics")
MANIFEST = Manifest(
    {}, "leapfrog", {}, 0.1, 250, 1, 100, (ChunkEntry(4, ""), ChunkEntry(2, "")), "", "float64"
)
ENDINGS = {"Counter": ("_total",), "Gauge": ("",), "Histogram": ("_bucket", "_sum", "_count")}
"""What the exporter puts behind a name."""


@pytest.mark.parametrize("name", TEMPLATES)
def test_it_is_printed(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["template", name]) == 0
    assert capfd.readouterr().out == template(name)


def test_the_options_are_the_templates() -> None:
    assert get_args(get_args(get_type_hints(TemplateOptions, include_extras=True)["name"])[0]) == tuple(
        TEMPLATES
    )
    with pytest.raises(ConfigError, match="no template 'pbs'; there are ray, kuberay, slurm, grafana"):
        template("pbs")


def commands(text: str) -> Iterator[list[str]]:
    """Calls of lie-sim in a text, lines joined."""
    for found in re.findall(r"lie-sim (?:\w+) MODEL.*?--no-progress", text.replace("\\\n", " "), re.DOTALL):
        yield shlex.split(found.replace("\n", " ").replace('"$STORE"', "store"))


@pytest.mark.parametrize("name", ["kuberay", "slurm"])
def test_the_command_is_one_of_ours(name: str) -> None:
    """Its options are read as the command line does."""
    ((program, command, *words),) = commands(template(name))
    assert program == "lie-sim"
    assert command in COMMANDS
    options = tyro.cli(SimulateOptions, args=words)
    assert (options.model, options.address, options.segment, options.progress) == (
        "MODEL",
        "auto",
        "30s",
        False,
    )


def test_the_batch_job_is_a_script(tmp_path: Path) -> None:
    path = tmp_path / "run.sh"
    path.write_text(template("slurm"))
    for command in (["bash", "-n"], ["shellcheck"]):
        if shutil.which(command[0]):
            done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
    lines = path.read_text().splitlines()
    directives = [k for k, line in enumerate(lines) if line.startswith("#SBATCH --")]
    first = next(k for k, line in enumerate(lines) if line and not line.startswith("#"))
    assert max(directives) < first, "Slurm reads directives up to the first command"


def test_the_batch_job_goes_back_into_the_queue_when_its_time_is_up(tmp_path: Path) -> None:
    """With the commands of Slurm as files that say what was asked of them."""
    home = tmp_path / "VENV" / "bin"
    home.mkdir(parents=True)
    (home / "activate").write_text("")
    for name, does in (
        ("scontrol", f'echo "$*" >> {tmp_path}/asked'),
        ("srun", "kill -USR1 $PPID; exec sleep 30"),
    ):
        (home / name).write_text(f"#!/bin/bash\n{does}\n")
        (home / name).chmod(0o755)
    script = tmp_path / "run.sh"
    script.write_text(template("slurm"))
    names = {
        "JOB_ID": "7",
        "JOB_NODELIST": "a",
        "JOB_NUM_NODES": "1",
        "CPUS_PER_TASK": "1",
        "GPUS_ON_NODE": "0",
    }
    environment = {f"SLURM_{name}": value for name, value in names.items()}
    environment |= {"HOME": str(tmp_path), "PATH": f"{home}:/usr/bin:/bin"}
    begun = time.monotonic()
    subprocess.run(["bash", str(script)], env=environment, check=False, stdout=subprocess.DEVNULL)
    assert time.monotonic() - begun < 20, "it waits for the run in front of it"
    assert "requeue 7" in (tmp_path / "asked").read_text()


def test_the_batch_job_says_what_ray_understands() -> None:
    """Of the version that is installed."""
    symmetric_run = pytest.importorskip("ray.scripts.symmetric_run").symmetric_run
    known = {option for parameter in symmetric_run.params for option in parameter.opts}
    ours = re.search(r"ray symmetric-run (.*?) --num-cpus", template("slurm").replace("\\\n", " "), re.DOTALL)
    assert ours is not None
    assert set(re.findall(r"--[a-z-]+", ours[1])) <= known


def test_the_cluster_has_the_form_of_ray() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((resources.files("ray.autoscaler") / "ray-schema.json").read_text())
    found = yaml.safe_load(template("ray"))
    jsonschema.validate(found, schema)
    assert found["head_node_type"] in found["available_node_types"]
    assert found["available_node_types"]["head"]["resources"] == {"CPU": 0}


def test_the_job_of_kubernetes_fits_together() -> None:
    found = yaml.safe_load(template("kuberay"))
    assert (found["apiVersion"], found["kind"]) == ("ray.io/v1", "RayJob")
    cluster = found["spec"]["rayClusterSpec"]
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes
            assert container["resources"]["requests"] == container["resources"]["limits"]
            assert all(isinstance(each["value"], str) for each in container["env"])
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
    worker = cluster["workerGroupSpecs"][0]
    assert worker["minReplicas"] <= worker["replicas"] <= worker["maxReplicas"]


class Recorder:
    """A metric that remembers what it was told."""

    def __init__(
        self, name: str, description: str, boundaries: Any = None, tag_keys: tuple[str, ...] = ()
    ) -> None:
        self.name, self.keys, self.told = name, tag_keys, list[tuple[float, dict[str, str]]]()
        self.default: dict[str, str] = {}

    def set_default_tags(self, tags: dict[str, str]) -> None:
        self.default = tags

    def _record(self, value: float = 1.0, tags: dict[str, str] | None = None) -> None:
        all_tags = self.default | (tags or {})
        assert set(all_tags) == set(self.keys)
        self.told.append((value, all_tags))

    set = observe = _record

    def inc(self, value: float = 1.0, tags: dict[str, str] | None = None) -> None:
        assert value > 0, "Ray refuses anything else"
        self._record(value, tags)


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch) -> RayMetrics:
    for kind in ENDINGS:
        monkeypatch.setattr(
            f"lie_sim.distributed.ray_metrics.{kind}", type(kind, (Recorder, getattr(ray_kinds, kind)), {})
        )
    return RayMetrics("many", MANIFEST)


def test_what_is_told_is_counted(metrics: Any) -> None:
    facts = {"chunk": 0, "seconds": 2.0, "idle": 0.5, "ended": 1, "drift": 1e-3, "worker": "a:7"}
    metrics.tell("begin", segments=6)
    metrics.tell("new", number=0, **facts)
    metrics.tell("new", number=2, **facts | {"idle": np.nan, "drift": np.nan})
    metrics.tell("lost", number=1, **facts)
    metrics.tell("retry", chunk=1, number=0, error="OSError")
    here = {"run": "many", "node": "a"}
    assert metrics.segments.told == [(1.0, here)] * 2
    assert [value for value, _ in metrics.steps.told] == [400, 200]
    assert metrics.idle.told == [(0.5, here)]
    assert metrics.seconds.told == metrics.busy.told == [(2.0, here)] * 2
    assert [tags["kind"] for _, tags in metrics.failures.told] == ["lost", "retry"]
    assert [value for value, _ in metrics.missing.told] == [6, 5, 4, 5, 5]
    assert (metrics.drift.told[-1][0], metrics.ended.told[-1][0]) == (1e-3, 1)


def test_the_dashboard_shows_all_metrics_by_their_names(metrics: Any) -> None:
    """``ray_`` before each, and behind it what its kind gets."""
    exported = {
        f"ray_{each.name}{ending}" for each in metrics.all() for ending in ENDINGS[type(each).__name__]
    }
    dashboard = json.loads(template("grafana"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries += [each["query"] for each in dashboard["templating"]["list"]]
    used = set(re.findall(r"ray_lie_sim_\w+", " ".join(queries)))
    assert used <= exported
    unused = {each.name for each in metrics.all() if not any(f"ray_{each.name}" in name for name in used)}
    assert not unused
    tags = {key for each in metrics.all() for key in each.keys} | {"le"}
    assert {tag for query in queries for tag in re.findall(r" by \((\w+)\)", query)} <= tags
    assert all(query.count("(") == query.count(")") for query in queries)
    places = [tuple(panel["gridPos"][axis] for axis in "xy") for panel in dashboard["panels"]]
    assert len(set(places)) == len(places)
    assert set(WENT_WRONG) <= {"duplicate", "lost", "retry", "failed", "quarantine"}
