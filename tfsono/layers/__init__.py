"""Keras blocks that several papers share; `keras` and `keras.ops` alone, no TensorFlow.

    blocks, nodes         of 3D networks: (de)convolution, normalisation, ReLU; the nodes of a U-net
    planar                of 2D networks
    batch_normalization   faster than Keras's, with a choice of the statistics at test
    folding               a trained network with its normalisations folded into the convolutions
    attention             additive gates, CBAM, atrous spatial pyramid pooling
    transformer           tokens and blocks of a vision transformer
    recurrent             a convolutional GRU over a tree of joints
    trilinear             a convolution of upsampled features without upsampling them
    proposals             the two stages of Faster R-CNN
    critic                the discriminator
    recompute             gradient checkpointing
    standardise           zero mean, unit variance, without the padding
    precision             the precision of the layers that are made
"""
