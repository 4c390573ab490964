"""Runs that were killed, and what became of them."""

from __future__ import annotations

from result_tables.cells import Blocks, Result, source, table


def kill_and_resume(result: Result) -> str:
    """How often a run was killed, and what became of it."""
    runs = result["details"]["runs"]
    kills = [kill for run in runs for kill in run["kills"]]
    rows = [
        ["processes killed (SIGKILL, at a random moment)", str(len(kills))],
        ["runs that they belonged to", str(len(runs))],
        ["kills in the middle of writing a checkpoint", str(sum(kill["half_written"] > 0 for kill in kills))],
        [
            "runs with step, checkpoint, weights and metrics equal to the undisturbed run, bit for bit",
            str(sum(all(run["equal"].values()) for run in runs)),
        ],
    ]
    return table(["", "number"], rows) + source(result)


def kill_rollout(result: Result) -> str:
    """How often a rollout was killed, and whether its frames are the same."""
    figures, kills = result["figures"], result["details"]["kills"]
    rows = [
        ["steps", f"{figures['steps']:,}"],
        ["processes killed (SIGKILL, at a random moment)", str(figures["kills"])],
        ["kills before the first new block was stored", str(figures["kills_without_progress"])],
        ["kills in the middle of writing a block", str(sum(kill["half_written"] > 0 for kill in kills))],
        [
            "blocks of frames equal to those of the undisturbed run, bit for bit",
            f"{figures['blocks_equal']} of {figures['blocks']}",
        ],
    ]
    return table(["", "number"], rows) + source(result)


BLOCKS: Blocks = {
    "kill_and_resume": ("kill_and_resume", kill_and_resume),
    "kill_rollout": ("kill_rollout", kill_rollout),
}
