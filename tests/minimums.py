"""The lowest version of every requirement in setup.cfg on this Python, as constraints of pip; for `make minimums`."""

from __future__ import annotations

import configparser
from pathlib import Path

from packaging.requirements import Requirement


def minimums() -> list[str]:
    """Lines such as `numpy==2.1`, of the package and of its tests."""
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(Path(__file__).resolve().parents[1] / "setup.cfg", encoding="utf-8")
    lines = f"{setup['options']['install_requires']}\n{setup['options.extras_require']['test']}".splitlines()
    wanted = [Requirement(line) for line in lines if line.strip()]
    return [f"{each.name}=={specifier.version}" for each in wanted if each.marker is None or each.marker.evaluate()
            for specifier in each.specifier if specifier.operator == ">="]


if __name__ == "__main__":
    print("\n".join(minimums()))
