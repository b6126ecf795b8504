"""What pyproject.toml cannot say: ``configs/``, at the top of the clone, is installed as part of the package."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["cace_pyg", "cace_pyg.*"]), "cace_pyg.configs"],
    package_dir={"cace_pyg.configs": "configs"},
)
