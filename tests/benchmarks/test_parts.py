"""Benchmarks of many parts: what is kept, what is restored, and what does not belong together."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = """
import sys
from parts import measured, parser_of_parts
parser = parser_of_parts(None)
parser.add_argument("--max-steps", type=int)
options = parser.parse_args()
run = lambda name, options: {"name": name, "steps": options.max_steps}
measured(sys.argv[0], ["a-0"], run, options, asked=["max_steps"])
"""
NAMES = ["a-0", "a-1", "b-0"]


@pytest.fixture
def parts(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("parts")


def asked(parts: ModuleType, folder: Path, *words: str) -> argparse.Namespace:
    parser = parts.parser_of_parts(None)
    parser.add_argument("--max-steps", type=int, default=3)
    found: argparse.Namespace = parser.parse_args(["--keep", str(folder), *words])
    return found


def measure(parts: ModuleType, script: Path, options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = parts.measured(str(script), NAMES, run, options, asked=["max_steps"])
    return found


def run(name: str, options: argparse.Namespace) -> dict[str, Any]:
    raise AssertionError("parts are done by processes of their own")


def test_a_part_is_done_by_a_process_of_its_own_with_the_same_options(
    parts: ModuleType, tmp_path: Path
) -> None:
    folder = Path(parts.__file__ or "").parent
    script = tmp_path / "bench.py"
    script.write_text(f"import sys; sys.path.insert(0, {str(folder)!r})\n{SCRIPT}")
    options = asked(parts, tmp_path / "kept", "--only", "a-0", "--max-steps", "7")
    found = measure(parts, script, options)
    assert found["a-0"].pop("made")["machine"]
    assert found == {"a-0": {"name": "a-0", "steps": 7, "asked": {"max_steps": 7}}}
    found = measure(parts, script, options)
    assert measure(parts, tmp_path / "is not there.py", options) == found


def test_parts_of_other_options_are_refused(parts: ModuleType, tmp_path: Path) -> None:
    for words in (["--only", "a-0"], ["--only", "b-0"], ["--record"]):
        options = asked(parts, tmp_path, *words)
        (tmp_path / "a-0.json").write_text(json.dumps({"steps": 5, "asked": {"max_steps": 5}}))
        with pytest.raises(SystemExit, match=r"max_steps': 5.*max_steps': 3.*another folder to --keep"):
            measure(parts, tmp_path / "bench.py", options)
        (tmp_path / "a-0.json").write_text(json.dumps({"steps": 5}))
        with pytest.raises(SystemExit, match="options that it does not tell"):
            measure(parts, tmp_path / "bench.py", options)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "typo*"], r"no part is called 'typo\*'; there are a-0, a-1, b-0"),
        (["--part", "c-0"], "there is no part 'c-0'; there are a-0"),
        (["--restore"], "bench.json is not recorded yet: leave out --restore"),
        (["--record"], "a-0.json cannot be read .*: remove it, and it is done again"),
    ],
)
def test_what_is_not_there_is_said(
    parts: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.setattr(parts, "RESULTS", tmp_path)
    (tmp_path / "a-0.json").write_text('{"steps": ')
    with pytest.raises(SystemExit, match=message):
        measure(parts, tmp_path / "bench.py", asked(parts, tmp_path, *words))


def test_a_record_is_restored_beside_what_is_there(
    parts: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "RESULTS", tmp_path)
    same = {"asked": {"max_steps": 3}}
    recorded = {name: {"error": k, **same} for k, name in enumerate(("a-0", "a-1", "of earlier code"))}
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "a-1.json").write_text(json.dumps({"error": 4, **same}))
    for details in (recorded, {"groups": {}, "parts": recorded}):
        (tmp_path / "bench.json").write_text(json.dumps({"details": details}))
        found = measure(
            parts, tmp_path / "bench.py", asked(parts, tmp_path / "kept", "--restore", "--record")
        )
        assert found == {"a-0": {"error": 0, **same}, "a-1": {"error": 4, **same}}
        (tmp_path / "kept" / "a-0.json").unlink()


def test_a_record_tells_when_and_where_its_parts_were_made(
    script: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = script("record")
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    versions = {"torch": "1"}
    places = [{"date": f"2020-01-0{day}", "versions": versions, "machine": f"m{day}"} for day in (2, 1)]
    record.record("some", {}, threads=1, parts=[{"made": place} for place in places])
    found = json.loads((tmp_path / "some.json").read_text())
    assert (found["date"], found["machine"], found["versions"]) == ("2020-01-02", "m1; m2", versions)
    record.record("some", {}, threads=1, parts=[{"error": 1.0}])
    assert json.loads((tmp_path / "some.json").read_text())["date"] > "2026"
