"""The documentation site: ``make docs``."""

import contextlib
import functools
import importlib
import sys
from pathlib import Path

from docutils import nodes
from docutils.utils.math import latex2mathml
from numpy.typing import ArrayLike
from sphinx.ext.napoleon.docstring import GoogleDocstring
from sphinx.util.typing import stringify_annotation

sys.path.insert(0, str(Path(__file__).parents[1]))
from cace_pyg import __version__

project = "cace_pyg"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx_copybutton"]
exclude_patterns = ["_build"]
smartquotes = False  # they make a dash of --resume
nitpicky = True  # a reference to a name that does not exist is a warning, and make docs allows none

myst_enable_extensions = ["dollarmath", "attrs_block"]
myst_heading_anchors = 3
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Shapes", "notes_style")]

html_theme = "furo"
html_title = "cace_pyg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_math_renderer = "mathml"
copybutton_exclude = ".linenos, .gp, .go"
pygments_dark_style = "github-dark"


def link_name(app, env, node, contnode):
    """Find what a docstring calls by a name that is right in its own file, such as ``CaceNet`` or ``Gallery.add``.

    A name that exists but has no entry here, such as one of torch, becomes plain text. One that does not exist stays
    unresolved, which Sphinx reports.
    """
    if node.get("refdomain") != "py":
        return None
    module, owner = node.get("py:module"), node.get("py:class")
    ours = [name for name in sorted(sys.modules) if name.startswith("cace_pyg")]
    places = ["", f"{module}.{owner}.", *(f"{name}." for name in [module, *ours])]
    found = next((found for place in places if (found := find(place + node["reftarget"])) is not None), None)
    if found is None:
        is_written = "refwarn" in node  # in a docstring, not by Sphinx for a type in a signature
        return None if is_written else contnode
    python = env.domains.python_domain
    for name, entry in python.objects.items():
        if not entry.aliased and find(name) is found:
            return python.resolve_xref(env, node["refdoc"], app.builder, "obj", name, node, contnode)
    return contnode


@functools.cache
def find(name):
    """The object with a dotted name, in modules that are loaded and in ours; None where there is none."""
    parts = name.split(".")
    if parts[0] == "cace_pyg":
        with contextlib.suppress(ImportError):
            importlib.import_module(".".join(parts[:-1]))
    for count in range(len(parts), 0, -1):
        if (found := sys.modules.get(".".join(parts[:count]))) is not None:
            for part in parts[count:]:
                found = getattr(found, part, None)
            return found
    return None


def shorten_signature(app, what, name, obj, options, signature, return_annotation):
    """Numpy's ``ArrayLike`` by its name; no signature for a settings class, whose fields follow with their defaults."""
    if signature and "<factory>" in signature:
        return "", return_annotation
    short = [text and text.replace(ARRAY_LIKE, "ArrayLike") for text in (signature, return_annotation)]
    return tuple(short)


ARRAY_LIKE = stringify_annotation(ArrayLike, "smart")
# napoleon reads "cuda:1" in the text below an attribute as a type and its description
GoogleDocstring._parse_attribute_docstring = GoogleDocstring._consume_to_end


def write_math(self, node):
    """Formulas as MathML, which browsers draw without a script from elsewhere."""
    block = isinstance(node, nodes.math_block)
    tree = latex2mathml.tex2mathml(node.astext(), as_block=block)
    self.body.append(f'<div class="math">{tree}</div>' if block else str(tree))
    raise nodes.SkipNode


def setup(app):
    app.connect("missing-reference", link_name)
    app.connect("autodoc-process-signature", shorten_signature)
    app.add_html_math_renderer("mathml", (write_math, None), (write_math, None))
