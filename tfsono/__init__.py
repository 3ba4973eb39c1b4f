"""Five published medical-imaging systems in TensorFlow and Keras 3, from a folder of volumes to a SavedModel.

The packages and modules from the lowest layer up; imports go down only, or stay in one package:

    errors, files               how a command ends: one line, whatever happens; files written whole or not at all
    structure                   whether a JSON file has the structure that its reader takes
    progress                    remaining time
    parts                       which cases a process of several takes
    sides                       names that differ in left and right alone
    surroundings                environment, streams, and stderr without the lines of libraries
    locks                       a folder or file that is being written, and by whom
    hdf5                        HDF5 files of our own: checksums, and no way to another file
    config                      numbers with their sources, presets, variants, the command line
    merge                       folders of several processes -> one
    configs, geometry           one flat dataclass of numbers per paper; coordinates, without weights
    layers, losses              Keras blocks and loss functions that several papers share
    augment, augment_2d         one random transform of image, mask and landmarks: of volumes, of 2D images
    contrast                    CLAHE and letterboxing of a 2D image, in the graph
    metrics, volumes, c3d       metrics of one case in millimetres; reading and writing files; C3D weights
    reproduction                the runs, evaluations and orderings of each paper, as data
    data, phantoms, models      dataset -> cache -> tf.data; synthetic datasets; the papers' networks
    manifest                    the structure of an exported model's manifest
    report                      tables, figures and the HTML page
    training                    a run: records, checkpoints, resuming
    audit, evaluation           errors in a dataset, and the cache's writer; the loop of an evaluation
    inference -> export         one tf.Module per system, and the SavedModel that it becomes
    bare_networks               the networks of a module alone: as ONNX, and in another precision
    predict -> systems          files -> predictions and measurements; the table of systems
    planning -> plan            from what a dataset is to the settings of its trainings, measured on this machine
    doctor, demo                what would go wrong on this machine; all steps on phantoms, or on a dataset
    __main__, train, evaluate   the commands

`tfsono.predict(model, file)` predicts from Python; docs/python.md shows it and the parts that are of use on their own.

A paper never imports another paper; what two papers share moves to a lower layer.
"""

from tfsono import predict

__all__ = ["predict"]
__version__ = "0.1.0"
