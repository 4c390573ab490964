"""Sphinx settings: MyST pages, the furo theme, and the API page from the docstrings."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lie_sim import __version__

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "lie_sim"
author = "The lie_sim authors"
copyright = author
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"lie_sim {release}"

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

BAR = re.compile(r"(``.*?``)|(\|)")


def escape_bars(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """In our docstrings |x| is a norm; in reStructuredText it would be a substitution."""
    lines[:] = [BAR.sub(lambda found: found[1] or r"\|", line) for line in lines]


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", escape_bars, priority=900)
