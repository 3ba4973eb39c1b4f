"""Coordinates and what follows from them, without weights."""
