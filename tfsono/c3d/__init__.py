"""C3D weights: the public formats, and their transfer into an encoder. Neither Caffe nor PyTorch is needed.

    weights = read_c3d(path)                             the format is recognised by content
    kernels = encoder_kernels(weights)                   arrays [x, y, z, input, output]
    print(transfer_into(model, kernels, layer_names, weights))

    weights     the six kernels, and the requirements on a file
    wire        protocol-buffer fields, for caffe
    caffe, hdf5, npz, checkpoint        one family of files each: lists the tensors of a file, without loading them
    read        recognises a file, checks it, loads the six kernels
    transfer    colour, axes, and the layers of a Keras model

C3D: D. Tran et al., Learning Spatiotemporal Features with 3D Convolutional Networks, ICCV 2015.
"""

from tfsono.c3d.read import read_c3d
from tfsono.c3d.transfer import TransferReport, encoder_kernels, transfer_into
from tfsono.c3d.weights import LAYERS, WIDTHS, C3DWeights

__all__ = ["LAYERS", "WIDTHS", "C3DWeights", "TransferReport", "encoder_kernels", "read_c3d", "transfer_into"]
