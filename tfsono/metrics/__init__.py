"""Measures of one case at a time, in millimetres, without TensorFlow or Keras: `overlap` counts voxels,
`surface` measures the distances between two boundaries (and has `segmentation_metrics`, everything at once),
`agreement` says what a list of cases amounts to and whether two methods differ; `landmarks`, `biometry` and
`head_case` measure points and heads in pictures [y, x], `femur_case` a mask and landmarks together, `pose_case` the
landmarks and segments of a body. Other masks are boolean and [x, y, z], spacings may be unequal, and one policy holds
for empty masks: both empty is a perfect answer; one empty is the worst one (overlap 0, every distance the diagonal of
the volume) and is flagged `undefined`, so that a table counts it instead of losing it in an average.
"""
