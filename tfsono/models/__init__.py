"""The papers' networks as functional Keras models; `keras` alone, so they run on every backend of Keras."""
