"""What is handed out: a wheel and a source archive, a Dockerfile, a citation, templates for issues."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml
from setuptools.config.pyprojecttoml import read_configuration

import cace_pyg

ROOT = Path(__file__).parents[1]
PROJECT = read_configuration(ROOT / "pyproject.toml", expand=True)["project"]
BUILD = "from setuptools import build_meta; build_meta.build_sdist('dist')"
BUILD_WHEEL = "from setuptools import build_meta; build_meta.build_wheel('dist')"
FROM_ELSEWHERE = """
import sys
from pathlib import Path
import cace_pyg
from cace_pyg.__main__ import main
assert Path(cace_pyg.__file__).is_relative_to(sys.argv[1]), cace_pyg.__file__
little = ["--data.height=48", "--data.width=24", "--data.hold_out=0.3", "--data.workers=0", "--embedding.channels=16"]
little += ["--joint_phase.num_identities=4", "--threads=1", f"--data.root={sys.argv[2]}"]
assert main(["train", "--config", "synthetic", "--dry_run", *little]) == 0
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A source archive of the clone, and a wheel of what that archive holds."""
    folder = tmp_path_factory.mktemp("release")
    clone = folder / "clone"
    clone.mkdir()
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff"):
        shutil.copy(ROOT / name, clone)
    for name in ("constraints.txt", "Dockerfile", ".dockerignore", "Makefile"):
        shutil.copy(ROOT / name, clone)
    for name in ("cace_pyg", "configs"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-c", BUILD], cwd=clone, check=True, capture_output=True)
    (archive,) = (clone / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    unpacked = folder / archive.name.removesuffix(".tar.gz")
    subprocess.run([sys.executable, "-c", BUILD_WHEEL], cwd=unpacked, check=True, capture_output=True)
    (wheel,) = (unpacked / "dist").glob("*.whl")
    return archive, wheel


def files_of_the_package():
    """By their names in a wheel."""
    ours = [path for path in (ROOT / "cace_pyg").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    configs = [f"cace_pyg/configs/{path.name}" for path in (ROOT / "configs").iterdir()]
    return {*(path.relative_to(ROOT).as_posix() for path in ours), *configs}


def test_the_wheel_has_every_file_of_the_package_and_the_configurations_and_nothing_else(built):
    archive, wheel = built
    assert wheel.name == f"cace_pyg-{cace_pyg.__version__}-py3-none-any.whl"
    assert archive.name == f"cace_pyg-{cace_pyg.__version__}.tar.gz"
    with zipfile.ZipFile(wheel) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
        assert names == files_of_the_package()
        assert file.read("cace_pyg/configs/synthetic.yaml") == (ROOT / "configs" / "synthetic.yaml").read_bytes()


def test_the_wheel_takes_a_step_of_the_demo_where_there_is_no_clone(built, tiny, tmp_path):
    zipfile.ZipFile(built[1]).extractall(tmp_path / "installed")
    (tmp_path / "elsewhere").mkdir()
    program = [sys.executable, "-W", "ignore", "-c", FROM_ELSEWHERE, str(tmp_path / "installed"), str(tiny)]
    others = [folder for folder in sys.path if folder and not (Path(folder) / "cace_pyg").exists()]
    path = os.pathsep.join([str(tmp_path / "installed"), *others])
    environment = {"PYTHONPATH": path, "PATH": "", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    found = subprocess.run(program, cwd=tmp_path / "elsewhere", env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr[-2000:]
    assert "both stages of evaluation and report work" in found.stdout


def test_pythons_that_are_allowed_are_named_alike_everywhere():
    low, high = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", str(PROJECT["requires-python"]).replace(" ", "")).groups()
    allowed = [f"3.{minor}" for minor in range(int(low), int(high))]
    classified = [
        classifier.rsplit(" ", 1)[-1] for classifier in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", classifier)
    ]
    assert classified == allowed
    for name in ("Makefile", "CONTRIBUTING.md"):
        assert f"Python {allowed[0]} to {allowed[-1]}" in (ROOT / name).read_text(), name
    assert f"<= (3, {int(high) - 1})" in (ROOT / "Makefile").read_text()


def test_no_address_is_a_placeholder():
    assert all(
        re.fullmatch(r"https://[\w.-]+\.\w+/\S+", url) and "example" not in url for url in PROJECT["urls"].values()
    )


def test_the_image_is_made_of_the_tested_versions():
    lines = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    tested = re.search(r"Python (3\.\d+)", (ROOT / "constraints.txt").read_text())[1]
    assert [line for line in lines if line.startswith("FROM")] == [f"FROM python:{tested}-slim"]
    installs = [line for line in lines if "pip install" in line]
    assert installs and all(line.count("pip install") == line.count("-c constraints.txt") for line in installs)
    (extras,) = (line.removeprefix("ARG EXTRAS=").split(",") for line in lines if line.startswith("ARG EXTRAS="))
    assert set(extras) <= PROJECT["optional-dependencies"].keys()
    assert lines[-1] == f'ENTRYPOINT ["{next(iter(PROJECT["scripts"]))}"]'


def test_the_image_has_what_is_copied_into_it():
    """.dockerignore leaves everything out but what it names."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = {name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]}
    ignored, *kept, caches = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored == "*" and caches == "**/__pycache__"
    assert {line.removeprefix("!") for line in kept} == copied
    assert all((ROOT / name).exists() for name in copied)
    assert {"pyproject.toml", "setup.py", "constraints.txt", "cace_pyg", "configs"} <= copied


def test_the_constraints_hold_every_package_that_is_asked_for():
    """But for what has an environment of its own, or is compiled by hand."""
    pinned = {
        re.sub(r"[-_.]+", "-", line.split("==")[0]).lower()
        for line in (ROOT / "constraints.txt").open()
        if "==" in line
    }
    asked = [
        *PROJECT["dependencies"],
        *(requirement for extra in PROJECT["optional-dependencies"].values() for requirement in extra),
    ]
    names = {re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower() for requirement in asked}
    assert names - pinned <= {"mediapipe"}


def test_the_citation_has_this_version_and_the_paper():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == cace_pyg.__version__ and cited["license"] == PROJECT["license"]
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()
    paper = cited["preferred-citation"]
    assert paper["url"] == PROJECT["urls"]["Paper"] and paper["title"].startswith("Devil's in the Details")
    assert all(author.keys() == {"given-names", "family-names"} for author in paper["authors"])


def test_the_changes_begin_with_this_version():
    assert re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1] == cace_pyg.__version__


@pytest.mark.parametrize("name", ["bug", "idea"])
def test_a_template_for_issues_is_a_form(name):
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml").read_text())
    assert form["name"] and form["description"]
    for part in form["body"]:
        assert part["type"] in ("markdown", "textarea", "checkboxes", "input", "dropdown")
        assert part["attributes"].get("value") or part["attributes"]["label"]
    identifiers = [part["id"] for part in form["body"] if part["type"] != "markdown"]
    assert len(set(identifiers)) == len(identifiers) >= 2
