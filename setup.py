"""The package is described in setup.cfg, except for the scripts of train/ and evaluate/, which it carries."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["tfsono", "tfsono.*"]), "tfsono.train", "tfsono.evaluate"],
      package_dir={"tfsono.train": "train", "tfsono.evaluate": "evaluate"})
