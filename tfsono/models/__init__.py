"""The papers' networks as functional Keras models; `keras` alone, so they run on every backend of Keras.

    hip      encoder of C3D's widths, decoder, classifiers at three depths
    femur    U-nets with a mask and a landmark branch; the first stage of slices; the discriminator
    pose     U-net of heatmaps, with or without a recurrence over the joints; the discriminator
    face     region proposal network, SSD, Faster R-CNN and heatmaps on one backbone
    head     four networks of landmarks, three of segmentation
    mean     an ensemble as one network
"""
