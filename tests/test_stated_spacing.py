"""`--spacing_mm_of_file`: files that do not say their spacing are read with the one that the user states."""

import numpy as np
import pytest
import SimpleITK as sitk

from small_datasets import box_mask, noise
from tfsono.__main__ import run as tfsono
from tfsono.__main__ import three_numbers
from tfsono.data.cache import Cache
from tfsono.errors import UserError
from tfsono.predict.ranges import Ranges
from tfsono.systems.commands import check_options
from tfsono.predict.sources import Options

STATED = (0.5, 0.75, 2.0)


def write_without_spacing(path, array):
    """A MetaImage whose header has no ElementSpacing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0))), str(path))
    head, data = path.read_bytes().split(b"ElementDataFile = LOCAL\n", 1)
    lines = [line for line in head.split(b"\n") if not line.startswith(b"ElementSpacing")]
    path.write_bytes(b"\n".join(lines) + b"ElementDataFile = LOCAL\n" + data)


@pytest.fixture
def dataset(tmp_path):
    for number in range(2):
        write_without_spacing(tmp_path / "data" / "images" / f"case_{number}.mha", noise(number))
        write_without_spacing(tmp_path / "data" / "labels" / f"case_{number}.mha", box_mask())
    (tmp_path / "data" / "dataset.json").write_text('{"name": "d", "modality": "US", "labels": {"femur": 1}}')
    return tmp_path / "data"


def test_audit_and_cache_take_it_and_say_so(dataset, tmp_path, capsys):
    with pytest.raises(UserError, match="errors"):
        tfsono(["audit", str(dataset), "--out", str(tmp_path / "audit")])
    assert "--spacing_mm_of_file" in capsys.readouterr().out
    stated = ["--spacing_mm_of_file", ",".join(map(str, STATED))]
    assert tfsono(["audit", str(dataset), "--out", str(tmp_path / "audit"), *stated]) == 0
    assert "--spacing_mm_of_file" in (tmp_path / "audit" / "audit.json").read_text()
    tfsono(["cache", "hip", str(dataset), str(tmp_path / "c.h5"), *stated])
    with Cache(tmp_path / "c.h5", "hip") as cache:
        assert cache.spacing_mm("case_0") == STATED
    with pytest.raises(UserError, match="errors"):  # another spacing is another source: what was cached is not trusted
        tfsono(["cache", "hip", str(dataset), str(tmp_path / "c.h5")])


def test_a_prediction_is_flagged_with_it(dataset):
    path = dataset / "images" / "case_0.mha"
    with pytest.raises(UserError, match="--spacing_mm_of_file"):
        Ranges().read(path)
    volume, flags = Ranges(spacing_mm_of_file=STATED).read(path)
    assert volume.spacing_mm == STATED and any("0.5 x 0.75 x 2 mm" in flag for flag in flags)


def test_it_is_of_volumes(tmp_path):
    (tmp_path / "config.json").write_text('{"system": "head"}')
    with pytest.raises(UserError, match="--pixel_size_mm"):
        check_options(tmp_path, Options(spacing_mm_of_file=STATED))


@pytest.mark.parametrize("text", ["1,1", "0,1,1", "-1,1,1", "a,1,1", "inf,1,1", "1,1,1,1"])
def test_other_than_three_positive_numbers_are_refused(text):
    with pytest.raises(ValueError):
        three_numbers(text)
    with pytest.raises(UserError, match="spacing_mm_of_file"):
        tfsono(["audit", "nowhere", "--spacing_mm_of_file", text])
