"""From a raw volume or image to a prediction on its own grid: one `tf.Module` per system.

`evaluate` and `predict` call it and `export` saves it, so a SavedModel predicts what the run does.

    hip               resample, tile, standardise, network, average, arg-max, postprocess -> mask
    femur             slices -> box -> region -> mask and landmarks
    mask_ends         a second opinion of femur on two landmarks: the ends of the mask
    pose              volume -> landmarks; around the graph, refined on the volume
    atlases, refine   poses of the training cases; test-time training against them
    face, face_prior  volume -> landmarks and boxes; the graph prior that chooses among candidates
    prior_choice      whether the prior helps on a run's validation cases
    framed            a volume on a network's grid, as it lies or rotated by its midline
    head              image -> probability or landmarks
    half_weights      a network stored in float16
    sliding_window    positions of the tiles, and the weighted average of their probabilities
    peaks             of heatmaps: second peaks, and the points of an ensemble's members
    memory            the memory that a prediction may take
    resample          linear interpolation inside the graph
    module_input      the arguments of a module of volumes
    components        largest components and holes of a mask inside the graph
    segmentation      around the graph: orientation; components and holes by SciPy, for exports of the release before
"""
