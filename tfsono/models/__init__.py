"""The papers' networks as functional Keras models; `keras` alone, so they run on every backend of Keras.

    hip, femur, pose, face, head   `build`: a config -> its network
    mean                           several networks as one, the mean of their outputs
"""
