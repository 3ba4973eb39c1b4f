"""A run: its folder, its record, its saved state, and how it goes on where it stopped."""
