"""The documentation is true: its code runs, its links lead somewhere, its tables show what was measured."""

from __future__ import annotations

import ast
import doctest
import importlib
import json
import re
import sys
import tomllib
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
TEXTS = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "benchmarks" / "README.md"]
PARTS = ("lie_sim", "integrators", "calculators", "distributed")
README_EXAMPLE_LINES = 20
README_LINES = 90

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
MENTIONED = re.compile(r"`((?:tests|benchmarks|examples|docs|lie_sim|integrators)/[a-z0-9_/]+\.\w+)`")

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="no docs: these tests run away from the checkout")


@dataclass(frozen=True)
class Block:
    """A fenced block of Python and where it is."""

    page: str
    number: int
    line: int
    code: str

    def run(self, namespace: dict[str, Any]) -> None:
        """Execute it, as a doctest if it is one."""
        place = f"{self.page}, block {self.number} (line {self.line})"
        if self.code.lstrip().startswith(">>>"):
            self._doctest(namespace, place)
            return
        # The offset makes line numbers of a traceback those of the page.
        source = "\n" * (self.line - 1) + self.code
        try:
            exec(compile(source, self.page, "exec"), namespace)
        except Exception as error:
            lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == self.page]
            at = f"line {lines[-1]}" if lines else "compilation"
            pytest.fail(
                f"{place} fails at {at}: {type(error).__name__}: {error}\n\n{self.code}", pytrace=False
            )

    def _doctest(self, namespace: dict[str, Any], place: str) -> None:
        test = doctest.DocTestParser().get_doctest(self.code, namespace, place, self.page, self.line - 1)
        report: list[str] = []
        failed = doctest.DocTestRunner().run(test, out=report.append, clear_globs=False).failed
        namespace.update(test.globs)
        if failed:
            pytest.fail("".join(report), pytrace=False)


def blocks(page: Path) -> list[Block]:
    """The Python blocks of a page, in order."""
    text, found = page.read_text(encoding="utf-8"), []
    for fence in FENCE.finditer(text):
        if fence[1] == "python":
            line = text[: fence.start(2)].count("\n") + 1
            found.append(Block(page.name, len(found) + 1, line, fence[2]))
    return found


def prose(page: Path) -> str:
    """A page without its code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Names of the headings of a page, as links know them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_code_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        block.run(namespace)


def test_failing_block_is_reported_with_its_place(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Page\n\n```python\nx = 1\n```\n\n```python\ny = x\ny / 0\n```\n\n```python\n>>> x\n2\n```\n"
    )
    first, second, third = blocks(page)
    namespace: dict[str, Any] = {}
    first.run(namespace)
    with pytest.raises(
        pytest.fail.Exception, match=r"page.md, block 2 \(line 8\) fails at line 9: ZeroDivision"
    ):
        second.run(namespace)
    with pytest.raises(pytest.fail.Exception, match=r"page.md, block 3(.|\n)*Expected:\n +2\nGot:\n +1"):
        third.run(namespace)


def test_readme_is_short_and_has_one_example() -> None:
    (example,) = blocks(ROOT / "README.md")
    assert len(example.code.splitlines()) < README_EXAMPLE_LINES
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= README_LINES


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_mentioned_files_exist(page: Path) -> None:
    text = prose(page)
    broken = []
    for link in LINK.findall(text):
        target, _, anchor = link.partition("#")
        if re.match(r"\w+:", link):
            continue
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(link)
    broken += [name for name in MENTIONED.findall(text) if not (ROOT / name).exists()]
    assert broken == []


def test_every_page_is_in_the_table_of_contents() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    trees = re.findall(r"```\{toctree\}\n(.*?)```", index, re.DOTALL)
    listed = [line for tree in trees for line in tree.splitlines() if re.fullmatch(r"\w+", line)]
    assert sorted(listed) == sorted(page.stem for page in DOCS.glob("*.md") if page.stem != "index")


def test_layers_are_those_of_the_import_linter() -> None:
    (contract, *_) = pyproject()["tool"]["importlinter"]["contracts"]
    (drawn,) = [f[2] for f in FENCE.finditer((DOCS / "architecture.md").read_text("utf-8")) if f[1] == "text"]
    assert drawn.splitlines() == contract["layers"]


def test_every_part_is_described() -> None:
    (contract, *_) = pyproject()["tool"]["importlinter"]["contracts"]
    parts = re.findall(r"lie_sim\.(\w+)", " ".join(contract["layers"]))
    assert sorted(first_column(DOCS / "architecture.md")) == sorted(parts)


def test_every_dependency_is_explained() -> None:
    project = pyproject()["project"]
    needed = project["dependencies"] + [
        x for extra in project["optional-dependencies"].values() for x in extra
    ]
    names = {re.split(r"[<>=[]", requirement)[0] for requirement in needed} | {"setuptools"}
    assert set(first_column(DOCS / "dependencies.md")) == names


def test_dependencies_to_run_are_those_that_the_package_imports() -> None:
    needed = {
        re.split(r"[<>=]", text)[0].replace("-", "_") for text in pyproject()["project"]["dependencies"]
    }
    read_as_data = {"de421"}
    files = [path for part in PARTS for path in (ROOT / part).rglob("*.py")]
    assert len(files) > 50
    imported = {name for path in files for name in imports(path)} - {"lie_sim"} - set(sys.stdlib_module_names)
    extras, by_fsspec = pyproject()["project"]["optional-dependencies"], {"s3fs"}
    optional = {
        re.split(r"[<>=]", text)[0] for text in extras["export"] + extras["s3"] + extras["se3"]
    } - by_fsspec
    assert (imported | read_as_data) - optional == needed
    assert optional < imported


def imports(path: Path) -> set[str]:
    """Top-level names of the modules that a file imports."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {
        name.split(".")[0]
        for name in plain | {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    }


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def first_column(page: Path) -> list[str]:
    """Names in code type that begin the rows of a page's tables."""
    return re.findall(r"^\| `([\w-]+)` \|", page.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """docs/tables.py, which is a script and not part of the package, with its folder on the path as when it runs."""
    monkeypatch.syspath_prepend(str(DOCS))
    return importlib.import_module("tables")


def test_results_page_shows_what_was_measured(tables: ModuleType) -> None:
    page = (DOCS / "results.md").read_text(encoding="utf-8")
    named = [name for _, name, _ in tables.BLOCK.findall(page)]
    assert named == list(tables.BLOCKS)
    for name, shown in zip(named, tables.BLOCK.finditer(page), strict=True):
        expected = f"<!-- begin {name} -->\n{tables.content(name)}<!-- end {name} -->"
        assert shown[0] == expected, f"the block {name} is out of date: run python docs/tables.py"


def test_changed_figure_changes_the_page(tables: ModuleType, tmp_path: Path) -> None:
    made_up = {
        "date": "2000-01-01",
        "command": "python benchmarks/solar.py --run-dir /somewhere",
        "versions": {"torch": "0"},
        "machine": "abacus",
        "threads": 1,
        "figures": {"rms_error_au": 1.24e-7, "error_over_newton": 99.7},
    }
    (tmp_path / "solar.json").write_text(json.dumps(made_up))
    page = "<!-- begin solar -->\nold\n<!-- end solar -->\nkept"
    rendered = tables.render(page, tmp_path)
    assert "1.2e-7" in rendered
    assert "| ratio of the two | 100 |" in rendered
    assert "/somewhere" not in rendered
    assert "old" not in rendered
    assert rendered.endswith("<!-- end solar -->\nkept")
    assert tables.render(rendered, tmp_path) == rendered


def test_numbers_are_rounded_to_two_digits(tables: ModuleType) -> None:
    shown = {
        0.0: "0",
        0.0123: "0.012",
        1.0: "1",
        99.6: "100",
        246.4: "250",
        841_641.0: "840,000",
        8.6e-6: "8.6e-6",
    }
    cells = importlib.import_module("result_tables.cells")
    assert {value: cells.number(value) for value in shown} == shown
    assert (cells.number(None), cells.number(float("inf"))) == ("–", "not reached")
    assert cells.percent(0.00052) == "0.1 %"
