"""The training scripts, one a system: `python train/SYSTEM.py` or `tfsono train SYSTEM`; in a wheel, `tfsono.train`."""
