"""Runs, training, labels and learning on a cluster."""

from __future__ import annotations

from result_tables.cells import Blocks, Result, listed, number, percent, source, table


def real_job(result: Result) -> str:
    """Two runs from the command line, side by side."""
    figures = result["figures"]
    rows = {
        "frames": "frames",
        "segments": "segments",
        "killed_workers": "workers killed",
        "killed_drivers": "drivers killed",
        "killed_nodes": "nodes removed and replaced",
        "frames_missing": "frames missing",
        "frames_doubled": "frames doubled",
        "diverged": "trajectories that diverged",
        "drift": "largest drift of the energy over the mean kinetic energy",
        "hours": "hours",
    }
    kinds = ("springs", "ethanol")
    cells = [[label, *(number(figures[f"{kind}_{key}"]) for kind in kinds)] for key, label in rows.items()]
    sound = ["every digest verified", *("yes" if figures[f"{kind}_sound"] else "no" for kind in kinds)]
    header = ["", "1,024 spring systems, learned model", "64 molecules of ethanol, `organic-gfn2`"]
    return table(header, [*cells, sound]) + source(result)


def active_learning(result: Result) -> str:
    """Errors of the models that were trained on frames chosen in one way or the other."""
    arms = {
        "start": "first models, 60 frames at 300 K",
        "random": "80 more, at random",
        "uncertain": "80 more, the least certain",
    }
    figures = result["figures"]
    rows = [
        [label, number(figures[f"force_mae_{arm}"]), number(figures[f"worst_force_{arm}"])]
        for arm, label in arms.items()
    ]
    rows.append(
        ["ratio of the last two", number(figures["force_error_ratio"]), number(figures["worst_force_ratio"])]
    )
    header = [
        "labels",
        "mean force error at 700 K, meV/Å",
        "99th percentile of errors of an atom's force, meV/Å",
    ]
    return table(header, rows) + source(result)


def ray_rollout(result: Result) -> str:
    """What two workers reach, and what the rest costs."""
    figures = result["figures"]
    shares = {
        "efficiency_over_multiprocessing": "two workers on Ray",
        "efficiency_joblib": "two workers of joblib, whole chunks",
        "efficiency_dask": "two workers of Dask, segments",
    }
    rows = [[f"{label}, of two bare processes", percent(figures.get(key))] for key, label in shares.items()]
    rest = {
        "gap_ms_median": "idle time of a worker between two segments, median, ms",
        "driver_ms_per_segment": "processor time of the driver for a segment, without Ray, ms",
        "segments_per_s": "segments a second that it could serve",
        "frames_per_s": "frames of 100 atoms stored a second",
        "scan_cpu_s": "processor time to find 100,000 segments, s",
        "stored_over_plain": "processor time of a stored run over that of one that keeps nothing",
    }
    rows += [[label, number(figures.get(key))] for key, label in rest.items()]
    rows.append(["bytes on disk over those of the numbers", f"{figures['bytes_over_raw']:.3f}"])
    return table(["", f"segments of {figures.get('segment_seconds', 2):g} s"], rows) + source(result)


BLOCKS: Blocks = {
    "ray_rollout": ("ray_rollout", ray_rollout),
    "chaos": (
        "chaos",
        listed(
            {
                "kills": "workers killed (SIGKILL, at a random moment)",
                "kills_of_drivers": "drivers killed",
                "second_drivers": "second drivers on the same store",
                "nodes_replaced": "nodes removed and replaced",
                "files_torn": "files cut or filled with garbage",
                "runs": "runs that they belonged to",
                "segments": "segments",
                "frames_missing": "frames missing",
                "frames_doubled": "frames doubled",
                "segments_wasted": "segments computed more than once",
                "bit_identical": "bytes equal to those of the undisturbed run, share of the runs",
            },
            share=("bit_identical",),
        ),
    ),
    "real_job": ("real_job", real_job),
    "ray_train": (
        "ray_train",
        listed(
            {
                "resume_bit_exact": "weights of the disturbed run equal to those of the undisturbed one, bit for bit",
                "report_overhead": "time that reports to Ray take, one a minute",
                "step_ratio": "time of a step on Ray over that of two processes without it",
            },
            share=("resume_bit_exact", "report_overhead"),
        ),
    ),
    "labelling": (
        "labelling",
        listed(
            {
                "labels_per_s_1": "labels a second, one worker",
                "labels_per_s_2": "two workers",
                "scaling": "two workers, of one",
                "bare_scaling": "two bare processes, of one",
                "efficiency": "two workers, of two bare processes",
                "kills": "workers killed in a further run",
                "lost": "labels lost",
                "doubled": "labels doubled",
                "identical": "file equal to that of one process, byte for byte",
            },
            share=("scaling", "bare_scaling", "efficiency", "identical"),
        ),
    ),
    "active_learning": ("active_learning", active_learning),
}
