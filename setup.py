"""Everything that describes the package stands in setup.cfg; pip needs this file beside it."""

from setuptools import setup

setup()
