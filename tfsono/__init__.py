"""Five published medical-imaging systems in TensorFlow and Keras 3, from a folder of volumes to a SavedModel.

The rooms of the package, from the ground up; imports go down only, or stay in one room:

    errors, files, config       mistakes of the user's; files whole or not at all; numbers with where they come from
    progress, quiet             times in words; stderr without the lines that TensorFlow always writes
    configs, geometry           one flat dataclass of numbers per paper; coordinates, without weights
    layers, losses              Keras blocks and loss functions that several papers share
    augment, augment_picture    one random transform of image, mask and landmarks: of volumes, of pictures
    contrast                    a picture's contrast and its place in the network's frame, in the graph
    metrics, volumes, c3d       one case measured in millimetres; files read and written; C3D weights
    data, phantoms, models      dataset -> audit -> cache -> tf.data; synthetic volumes; the papers' networks
    training, report            a run that records, saves and goes on; tables, figures and one page
    inference -> export         one tf.Module per system, and the SavedModel that it becomes
    systems -> predict          a run's module and manifest, by system; files in, answers out
    __main__, train, evaluate   the commands

A paper never imports another paper; what two of them need moves down a floor.
"""

__version__ = "0.1.0"
