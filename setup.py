"""What pyproject.toml cannot say: ``configs/``, at the top of the clone, is part of the package in wheels."""

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """``configs/`` becomes ``cace_pyg/configs/``; its files are named in pyproject.toml's package-data."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.packages = [*self.packages, "cace_pyg.configs"]
        self.package_dir = {**self.package_dir, "cace_pyg.configs": "configs"}


setup(cmdclass={"build_py": BuildWithConfigs})
