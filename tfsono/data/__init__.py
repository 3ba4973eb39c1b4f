"""A dataset folder, the cache of it, and the tf.data batches that training reads.

    layout, image_tables   the cases of a folder; tables of pixel sizes and points of 2D images
    description            dataset.json
    joined                 several folders as one dataset
    names, subjects        names of tables and files matched with the cases; subjects that names show
    prepare                one case in the orientation, spacing and label values of the cache
    cache                  the HDF5 file that training reads (`tfsono.audit.cache_writer` writes it)
    splits                 cases divided by subject
    heads                  the reference points and ellipses of heads
    patches                batches of patches of volumes
    slices, regions        batches of slices, and of regions of interest
    landmark_volumes       batches of whole volumes with landmarks; boxes adds the targets of anchors
    resampled              what regions and landmark_volumes share: a box rotated, scaled and resampled
    images_2d              batches of 2D images

Only the batches need TensorFlow.
"""
