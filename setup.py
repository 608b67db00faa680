"""Which folders are installed: ``envs/`` and ``agents/`` lie at the top of the repository and go inside the package."""

from setuptools import find_packages, setup

BESIDE = ("agents", "envs")

setup(
    packages=[
        *find_packages(include=["autoprune", "autoprune.*"]),
        *(f"autoprune.{name}" for folder in BESIDE for name in find_packages(include=[folder, f"{folder}.*"])),
    ],
    package_dir={f"autoprune.{folder}": folder for folder in BESIDE},
)
