"""From a raw volume to a mask in its own grid: what `evaluate` and `predict` call and `export` saves.

    sliding_window   where the tiles lie, and the weighted average of their probabilities
    resample         linear interpolation inside the graph
    hip              the `tf.Module` of the system: resample, tile, normalise, network, arg-max
    femur            slices -> box -> region -> mask and landmarks
    pose             volume -> landmarks, in the graph; refined on the volume, around it
    atlases, refine   poses of the training cases; training on one test volume against them
    face, face_prior  volume -> landmarks and boxes, in the graph; the graph prior that chooses among candidates
    head             picture -> probability or landmarks
    module_input     a volume as every module of volumes takes it
    segmentation     around the graph: orientation, connected components, holes
"""
