"""The site's settings. Sphinx: autodoc, doctest and cross-references are what PyTorch and scikit-learn build on.

MkDocs was the other choice; its future is unclear. Build: `sphinx-build -W -n --keep-going docs docs/_build`.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_ext")]

import ncharness  # noqa: E402  # the source tree's, found through the line above

project = "ncharness"
author = "The ncharness authors"
copyright = author  # noqa: A001  # Sphinx's name
version = release = ncharness.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_design",
    "mathml",
    "public_names",
    "command_line",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
smartquotes = False  # --option is two hyphens

# Markdown
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4

# The reference of the library
autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 100
napoleon_numpy_docstring = False
napoleon_use_rtype = False  # the signature has the type
napoleon_use_ivar = True  # attributes once, in the class
default_role = "py:obj"  # `cdnv` in a docstring is a link where there is such a name, and code where there is none
nitpick_ignore_regex = [
    (r"py:obj", r".*"),
    (r"py:class", r"ncharness\..*"),  # in signatures: what is not public has no page, what is public has been linked
    (r"py:exc", r"CorruptFileError"),  # of the store's files
    (r"py:.*", r"(torch|np|numpy|collections|concurrent|pathlib|typing|types|enum|Tensor|nn|Executor)(\..*)?"),
]

# HTML
html_theme = "furo"
html_math_renderer = "mathml"
html_title = "ncharness"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True
