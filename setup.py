"""The package is described in setup.cfg; pip needs this file as well."""

from setuptools import setup

setup()
