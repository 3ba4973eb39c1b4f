"""Where a model came from, in words that every manifest has."""

from __future__ import annotations

from tfsono.training.run import Run


def source_of(run: Run) -> dict:
    """The run's name, settings, weights and data."""
    return {"run": run.folder.resolve().name, "preset": run.settings.preset, "variant": run.settings.variant,
            "weights": run.weights().name, "dataset": run.data.get("dataset", ""),
            "training_cases": len(run.split.get("train", ()))}
