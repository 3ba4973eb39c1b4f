"""A dataset folder -> an audit of it -> one HDF5 cache -> tf.data.

`layout` finds the cases of a folder, `audit` (with `audit_table`, `contact_sheet`) reads them all once and
says what is wrong, `prepare` brings one case into shape, `cache` keeps what training reads, `splits` divides
cases by subject: these know no TensorFlow. `pipeline` makes batches of patches of a cache, `pictures` of pictures,
`regions` and `slices` of regions of interest and of slices, `whole` of whole volumes; `turned` is what `regions` and
`whole` share. `heads`, `landmark_audit`, `tip_audit` and `pose_audit` know what a head's points, a bone's tips and a
body's joints should be.
"""
