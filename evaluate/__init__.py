"""The evaluation scripts, one a system: as files or by `tfsono evaluate SYSTEM`; in a wheel, `tfsono.evaluate`."""
