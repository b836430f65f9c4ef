"""Settings of Sphinx: `make docs` builds this folder."""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))

import generated  # noqa: E402

import fastprune  # noqa: E402

project = "fastprune"
author = "The fastprune maintainers"
release = version = fastprune.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_generated/*"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
smartquotes = False  # --option stays as it is typed
# In docstrings `name` is a link where there is such an object, and code elsewhere.
default_role = "py:obj"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"fastprune {release}"
html_show_sphinx = False
html_copy_source = False

generated.write(FOLDER / "_generated")
