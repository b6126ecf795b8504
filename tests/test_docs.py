"""The pages of docs/: links lead somewhere, programs run, and the site is built without a warning."""

import io
import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
EXTENSIONS = re.search(r"^extensions = \[(.*)\]", (ROOT / "docs" / "conf.py").read_text(), re.MULTILINE)[1]
EXTENSIONS = re.findall(r'"(.*?)"', EXTENSIONS)
NAMED_FILE = re.compile(r"`((?:cace_pyg|configs|docs|tests|benchmarks)/[\w./-]+)`")


def text_of(page):
    """The page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors_of(page):
    """The anchors that GitHub and the site give to headings."""
    headings = re.findall(r"^#{1,3} (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_every_anchor_to_a_heading(page):
    for target, anchor in LINK.findall(text_of(page)):
        found = (page.parent / target).resolve() if target else page
        assert found.is_relative_to(ROOT) and found.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors_of(found), f"{page.name}: {target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_is_there(page):
    missing = [name for name in NAMED_FILE.findall(text_of(page)) if not (ROOT / name).exists()]
    assert not missing


def test_there_are_links_to_check():
    assert sum(len(LINK.findall(text_of(page))) for page in PAGES) > 60


@pytest.mark.parametrize("name", ["graph", "protocol"])
def test_its_program_runs(name, capsys):
    names = {}
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / f"{name}.md").read_text(), re.DOTALL):
        exec(block, names)
    printed = capsys.readouterr().out
    assert {"graph": "torch.Size([1, 256])", "protocol": "0.75 0.5"}[name] in printed


@pytest.mark.filterwarnings("ignore")  # deprecations between Sphinx and its extensions
@pytest.mark.parametrize("fault", [None, "[text](nowhere.md)", "{py:func}`~cace_pyg.read_datasets`"])
def test_the_site_is_built_without_a_warning_and_a_broken_reference_is_one(fault, tmp_path):
    """Without the pages of highlighted source, a quarter of the time, which nobody can break a reference in."""
    application = pytest.importorskip("sphinx.application", reason="the extra docs is not installed")
    source = ROOT / "docs"
    if fault:  # one page with it, so that nothing else is built
        source = tmp_path / "docs"
        source.mkdir()
        shutil.copy(ROOT / "docs" / "conf.py", source)
        (source / "_static").mkdir()
        (source / "index.md").write_text(f"# Page\n\n{fault}\n")
    warnings = io.StringIO()
    site = application.Sphinx(
        source, ROOT / "docs", tmp_path / "site", tmp_path / "doctrees", "html", status=None, warning=warnings,
        confoverrides={"extensions": [name for name in EXTENSIONS if name != "sphinx.ext.viewcode"]},
    )  # fmt: skip
    site.build()
    printed = re.sub(r"\x1b\[\d*m", "", warnings.getvalue())
    assert ("WARNING" in printed) is bool(fault), printed
    assert (tmp_path / "site" / "index.html").exists()
