"""Keras blocks that several papers share; `keras` and `keras.ops` alone, no TensorFlow."""
