"""`tfsono predict`: a run or a SavedModel, and files -> predictions in each file's own geometry, and measurements.

    sources      the options, an opened model, and the key of a model
    inputs       the files to predict, and a name for each
    tables       measurements.csv and the other tables: existing rows stay, one case is replaced at a time
    prediction   a prediction as objects, and what the predictors share
    loop         predicts each input; skips what is predicted already, reports what fails
    ranges       what of an input and a prediction lies outside of what the model was trained on
    masks        label values and border contact of a mask
    confidence   probabilities and spreads of landmarks
    landmarks    shared by the systems with landmarks in volumes
    pixel_sizes  the option --pixel_size_mm
    head_ages    gestational age, z-scores and centiles of a head: columns and words
    hip, femur, pose, face, head   one input of a system -> its files, its table rows, and a line to print

`tfsono.systems.commands` opens the models. From Python the package itself is called: `tfsono.predict(source, path)`.
"""

from __future__ import annotations

import os
import sys
import types
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfsono.predict.prediction import Prediction
    from tfsono.predict.sources import Options


class _Callable(types.ModuleType):
    """The class of this package: `tfsono.predict` is a package and a call under one name."""

    def __call__(self, source: str | os.PathLike, path: str | os.PathLike, options: Options | None = None
                 ) -> Prediction:
        """Predicts one file and returns objects: a mask or landmarks with the file's geometry; nothing is written.

        Each call opens the model; for many files open it once, by `tfsono.systems.commands.open_predictor`.

        Args:
          source: a run folder, or an exported model.
          path: a volume, an image, or a folder of one DICOM series.
          options: `tfsono.predict.sources.Options`; by default all is left to the model.

        Raises:
          UserError: an unusable model or file, an option of another system, or a file that is refused.
        """
        from tfsono.predict.sources import Options
        from tfsono.systems.commands import predict_file  # loads TensorFlow

        return predict_file(source, path, options or Options())


sys.modules[__name__].__class__ = _Callable
