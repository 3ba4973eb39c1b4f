"""Landmarks: hand-solved points in each format, real fiducials on a real template, there and back."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk

from tfsono.errors import UserError
from tfsono.volumes.image import Volume, orientation_code, read_volume, write_volume
from tfsono.volumes.landmarks import (
    Box,
    box_to_mm,
    points_to_mm,
    points_to_vox,
    read_landmark_names,
    read_landmarks,
    read_landmarks_csv,
    write_markups,
)
from tfsono.volumes.volume import image_from_array

PIR = (0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0)


@pytest.fixture
def volume() -> Volume:
    """x runs to posterior, y to inferior, z to the right."""
    array = np.arange(5 * 7 * 3, dtype=np.int16).reshape(5, 7, 3)
    return Volume(array, (0.5, 0.8, 2.5), (10.0, -20.0, 30.0), PIR, "image.nii.gz")


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def refusal(path, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        read_landmarks(path, *arguments)
    assert "\n" not in str(caught.value) and path.name in str(caught.value)
    return str(caught.value)


def test_voxels_to_millimetres_hand_solved(volume):
    """Voxel (2, 1, 1): 1 mm to posterior, 0.8 mm to inferior, 2.5 mm to the right."""
    np.testing.assert_allclose(points_to_mm(np.array([[2, 1, 1]]), volume), [[7.5, -19.0, 29.2]])
    np.testing.assert_allclose(points_to_vox(np.array([[7.5, -19.0, 29.2]]), volume), [[2, 1, 1]])


def test_voxels_to_millimetres_against_simpleitk(shared_data):
    volume = read_volume(shared_data / "io_samples/niivue_demos/FLAIR.nrrd")
    image = image_from_array(volume.array, volume)
    points = np.random.default_rng(0).uniform(0, 120, (20, 3))
    expected = [image.TransformContinuousIndexToPhysicalPoint(point.tolist()) for point in points]
    np.testing.assert_allclose(points_to_mm(points, volume), expected, atol=1e-9)
    back = points_to_vox(points_to_mm(points, volume), volume)
    np.testing.assert_allclose(back, points, atol=1e-9)


def test_missing_points_stay_missing(volume):
    points = np.array([[1.0, 2.0, 3.0], [np.nan] * 3])
    for convert in (points_to_mm, points_to_vox):
        assert np.isnan(convert(points, volume)).tolist() == [[False] * 3, [True] * 3]


def test_real_fiducials_fit_the_template(shared_data):
    """The anterior commissure is near the origin of MNI space; RAS became LPS, so y has changed its sign."""
    folder = shared_data / "io_samples" / "afids_mni"
    points = read_landmarks(folder / "tpl-MNI152NLin2009cAsym_afids.fcsv")
    assert list(points) == [str(number) for number in range(1, 33)]
    np.testing.assert_allclose(points["1"], (0.231, -2.93275, -4.899), atol=1e-9)
    volume = read_volume(folder / "tpl-MNI152NLin2009cAsym_res-02_T1w.nii.gz")
    assert orientation_code(volume) == "RAS"
    voxels = points_to_vox(np.stack(list(points.values())), volume)
    assert (voxels > 0).all() and (voxels < np.array(volume.size) - 1).all()
    rounded = sitk.ReadImage(volume.path).TransformPhysicalPointToIndex(points["1"].tolist())
    np.testing.assert_array_equal(np.rint(voxels[0]), rounded)
    # left and right ends of the lateral structures lie on both sides, the commissures before and behind
    assert points["1"][1] < points["2"][1] and np.ptp([point[0] for point in points.values()]) > 40


def test_all_oasis_fiducials_are_read(shared_data):
    files = sorted((shared_data / "landmark_layouts" / "oasis_afids").rglob("*.fcsv"))
    assert len(files) == 30
    for path in files:
        points = np.stack(list(read_landmarks(path).values()))
        assert points.shape == (32, 3) and np.isfinite(points).all()
        assert 20 < np.linalg.norm(points[0] - points[1]) < 35  # from one commissure to the other, in mm


@pytest.mark.parametrize(("system", "sign"), [("0", -1), ("RAS", -1), ("1", 1), ("LPS", 1)])
def test_fcsv_headers(tmp_path, system, sign):
    path = write(
        tmp_path / "points.fcsv",
        f"# Markups fiducial file version = 4.11\n# CoordinateSystem = {system}\n"
        "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
        '1,1.5,-2.5,3.5,0,0,0,1,1,1,0,"tip, proximal",,\n2,4,5,6,0,0,0,1,1,1,0,,,\n',
    )
    points = read_landmarks(path)
    assert list(points) == ["tip, proximal", "2"]
    np.testing.assert_array_equal(points["tip, proximal"], (sign * 1.5, sign * -2.5, 3.5))


def test_fcsv_refusals(tmp_path):
    header = "# CoordinateSystem = LPS\n# columns = id,x,y,z,label\n"
    assert "IJK" in refusal(write(tmp_path / "a.fcsv", "# CoordinateSystem = IJK\n"))
    assert "CoordinateSystem" in refusal(write(tmp_path / "b.fcsv", "1,2,3,4\n"))
    assert "'tip' twice" in refusal(write(tmp_path / "c.fcsv", header + "1,1,2,3,tip\n2,1,2,3,tip\n"))
    assert "three numbers" in refusal(write(tmp_path / "d.fcsv", header + "1,1,two,3,tip\n"))


def test_markups_there_and_back(tmp_path):
    points = {
        "proximal": np.array([1.1, -2.2, 1 / 3]),
        "distal": np.array([-4.0, 5.5, 6.0]),
        "lost": np.full(3, np.nan),
    }
    path = tmp_path / "case.mrk.json"
    write_markups(path, points, [("proximal", "distal"), ("proximal", "lost")])
    back = read_landmarks(path)
    assert list(back) == list(points)
    for name in points:
        np.testing.assert_array_equal(back[name], points[name])
    assert [one.name for one in tmp_path.iterdir()] == ["case.mrk.json"]


def test_markups_are_what_slicer_reads(tmp_path):
    """The properties and words of markups-schema-v1.0.3; no NaN, which JSON lacks."""
    path = tmp_path / "case.mrk.json"
    points = {"a": np.array([1.0, 2.0, 3.0]), "b": np.full(3, np.nan), "c": np.array([4.0, 5.0, 6.0])}
    write_markups(path, points, [("a", "c"), ("a", "b")])
    content = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(name))
    assert content["@schema"].endswith("markups-schema-v1.0.3.json#")
    markups = content["markups"]
    assert [one["type"] for one in markups] == ["Fiducial", "Line"]
    assert all(one["coordinateSystem"] == "LPS" and one["coordinateUnits"] == "mm" for one in markups)
    controls = markups[0]["controlPoints"]
    assert [one["label"] for one in controls] == ["a", "b", "c"]
    assert [one["positionStatus"] for one in controls] == ["defined", "missing", "defined"]
    assert "position" not in controls[1] and controls[2]["position"] == [4.0, 5.0, 6.0]
    assert [one["position"] for one in markups[1]["controlPoints"]] == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]


def test_markups_as_slicer_writes_them(tmp_path):
    """RAS, an undefined point (its position an empty string), no status, a line next to the list."""
    controls = [
        {"id": "1", "label": "a", "position": [1.0, 2.0, 3.0]},
        {"id": "2", "label": "b", "position": "", "positionStatus": "undefined"},
        {"id": "3", "label": "", "position": [4.0, 5.0, 6.0], "positionStatus": "defined"},
    ]
    line = {"type": "Line", "coordinateSystem": "RAS", "controlPoints": controls[:1]}
    fiducials = {"type": "Fiducial", "coordinateSystem": "RAS", "controlPoints": controls}
    points = read_landmarks(write(tmp_path / "a.mrk.json", {"markups": [line, fiducials]}))
    assert list(points) == ["a", "b", "3"] and np.isnan(points["b"]).all()
    np.testing.assert_array_equal(points["a"], (-1, -2, 3))
    alone = read_landmarks(write(tmp_path / "b.mrk.json", {"markups": [line]}))
    np.testing.assert_array_equal(alone["a"], (-1, -2, 3))


def corners(roi: dict) -> np.ndarray:
    """[8, 3] of an ROI as its schema defines it: elements 0, 3, 6 of the orientation are the vector of its x axis."""
    axes = np.array([[roi["orientation"][row * 3 + axis] for row in range(3)] for axis in range(3)])
    steps = np.array(np.meshgrid(*[(-0.5, 0.5)] * 3, indexing="ij")).reshape(3, 8).T
    return np.array(roi["center"]) + (steps * roi["size"]) @ axes


@pytest.mark.parametrize("mirrored", [False, True])
def test_boxes_are_regions_of_interest_in_the_patient(tmp_path, volume, mirrored):
    """Against SimpleITK's corners, on a rotated grid, and on a left-handed one."""
    direction = np.array(PIR).reshape(3, 3) * ([1, 1, -1] if mirrored else 1)
    grid = Volume(volume.array, volume.spacing_mm, volume.origin_mm, tuple(direction.ravel()))
    box_vox = np.array([0.25, 1.5, -0.5, 3.0, 4.75, 1.5])
    points = {"tip": np.array([1.0, 2.0, 3.0]), "lost": np.full(3, np.nan)}
    boxes = {"tip": box_to_mm(box_vox, grid), "lost": box_to_mm(np.full(6, np.nan), grid)}
    path = tmp_path / "case.mrk.json"
    write_markups(path, points, boxes=boxes)
    fiducials, roi = json.loads(path.read_text(encoding="utf-8"))["markups"]
    assert (fiducials["type"], roi["type"], roi["roiType"], roi["name"]) == ("Fiducial", "ROI", "Box", "tip")
    assert (roi["coordinateSystem"], roi["coordinateUnits"], roi["insideOut"]) == ("LPS", "mm", False)
    assert [one["position"] for one in roi["controlPoints"]] == [roi["center"]]  # one of them is a Box's centre
    assert roi["size"] == pytest.approx([2.75 * 0.5, 3.25 * 0.8, 2.0 * 2.5])
    assert np.linalg.det(np.reshape(roi["orientation"], (3, 3))) == pytest.approx(1)  # a rotation, not a mirror
    image = image_from_array(grid.array, grid)
    indices = np.array(np.meshgrid(*box_vox.reshape(2, 3).T, indexing="ij")).reshape(3, 8).T
    expected = [image.TransformContinuousIndexToPhysicalPoint(index.tolist()) for index in indices]
    np.testing.assert_allclose(sorted(map(tuple, corners(roi).round(6))), sorted(map(tuple, np.round(expected, 6))))
    back = read_landmarks(path)  # what is read are the landmarks alone
    assert list(back) == ["tip", "lost"] and back["tip"].tolist() == [1, 2, 3] and np.isnan(back["lost"]).all()


def test_regions_alone_are_no_landmarks(tmp_path):
    box = Box(np.array([1.0, 2.0, 3.0]), np.eye(3), np.array([4.0, 5.0, 6.0]))
    write_markups(tmp_path / "case.mrk.json", {"tip": np.zeros(3)}, boxes={"eye": tuple(box)})
    content = json.loads((tmp_path / "case.mrk.json").read_text(encoding="utf-8"))
    roi = content["markups"][1]
    line = {"type": "Line", "controlPoints": [{"label": "a", "position": [7, 8, 9]}]}
    alone = read_landmarks(write(tmp_path / "line.mrk.json", {"markups": [roi, line]}))
    assert list(alone) == ["a"] and alone["a"].tolist() == [7, 8, 9]
    assert read_landmarks(write(tmp_path / "roi.mrk.json", {"markups": [roi]})) == {}


def test_files_without_boxes_are_what_they_were(tmp_path):
    """Byte by byte: no box, and no other order or space."""
    points = {"a": np.array([1.0, -2.5, 3.0])}
    for boxes in (None, {}, {"a": Box(np.full(3, np.nan), np.eye(3), np.ones(3))},
                  {"a": Box(np.zeros(3), np.eye(3), np.array([1.0, 0, 1]))}):
        write_markups(tmp_path / "case.mrk.json", points, boxes=boxes)
        assert (tmp_path / "case.mrk.json").read_bytes() == PLAIN


PLAIN = b"""{
 "@schema": "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/\
markups-schema-v1.0.3.json#",
 "markups": [
  {
   "type": "Fiducial",
   "name": "landmarks",
   "coordinateSystem": "LPS",
   "coordinateUnits": "mm",
   "controlPoints": [
    {
     "id": "1",
     "label": "a",
     "position": [
      1.0,
      -2.5,
      3.0
     ],
     "positionStatus": "defined"
    }
   ]
  }
 ]
}
"""


def test_markups_refusals(tmp_path):
    def found(**changed) -> str:
        markup = {"type": "Fiducial", "controlPoints": [{"label": "a", "position": [1, 2, 3]}]} | changed
        return refusal(write(tmp_path / "a.mrk.json", {"markups": [markup]}))

    assert "'IJK'" in found(coordinateSystem="IJK")
    assert "um" in found(coordinateUnits="um")
    assert "three numbers" in found(controlPoints=[{"label": "a", "position": [1, 2]}])
    assert "twice" in found(controlPoints=[{"label": "a", "position": [1, 2, 3]}] * 2)
    assert "must be JSON" in refusal(write(tmp_path / "b.mrk.json", "{"))
    assert "object" in refusal(write(tmp_path / "c.json", "[]"))
    assert "must exist" in refusal(tmp_path / "nobody.mrk.json")
    assert "landmarks are" in refusal(write(tmp_path / "d.txt", ""))


def test_writing_refusals(tmp_path):
    with pytest.raises(UserError, match=r"\.mrk\.json; found 'a\.json'"):
        write_markups(tmp_path / "a.json", {})
    with pytest.raises(UserError, match="folder"):
        write_markups(tmp_path / "nowhere" / "a.mrk.json", {})
    with pytest.raises(ValueError, match="'c'"):
        write_markups(tmp_path / "a.mrk.json", {"a": np.zeros(3)}, [("a", "c")])
    for box in ((np.zeros(3), np.eye(3), np.array([1, -1, 1])), (np.zeros(3), np.ones(9), np.ones(3))):
        with pytest.raises(ValueError, match="box 'b' must have"):
            write_markups(tmp_path / "a.mrk.json", {"a": np.zeros(3)}, boxes={"b": box})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1.0), ("cm", 0.1), ("m", 1e-3), ("um", 1e3)])
def test_voxel_annotation(tmp_path, volume, unit, factor):
    spacing = [value * factor for value in volume.spacing_mm]
    named = {"tip": [2, 1, 1], "zeros": [0, 0, 0], "ones": [-1, -1, -1], "one": [3, -2, 1], "none": None}
    named["nan"] = [float("nan")] * 3  # Python writes and reads NaN in JSON
    content = {"spacing": spacing, "spacing_unit": unit, "landmarks": named}
    points = read_landmarks(write(tmp_path / "case_landmark.json", content), volume)
    np.testing.assert_allclose(points.pop("tip"), (7.5, -19.0, 29.2))
    assert list(points) == ["zeros", "ones", "one", "none", "nan"]
    assert all(np.isnan(point).all() for point in points.values())


def test_voxel_annotation_refusals(tmp_path, volume):
    def found(content, like=volume) -> str:
        return refusal(write(tmp_path / "case_landmark.json", content), like)

    named = {"tip": [2, 1, 1]}
    assert "need their image" in found({"landmarks": named}, None)
    assert "found (0.5, 0.5, 0.5) mm" in found({"spacing": 0.5, "landmarks": named})
    assert "spacing_unit" in found({"spacing": 0.5, "spacing_unit": "inch", "landmarks": named})
    assert "'landmarks'" in found({"landmarks": [1, 2, 3]})
    assert "'tip' must be three numbers" in found({"landmarks": {"tip": [1, 2]}})


@pytest.mark.parametrize("spacing", [
    {}, {"spacing": None}, {"spacing": None, "spacing_unit": "furlong"}, {"spacing": []}, {"spacing": [None] * 3},
    {"spacing": float("nan")}, {"spacing": [0.5, 0.8, 2.5], "spacing_unit": None}, {"spacing": ["0.5", "0.8", "2.5"]},
    {"spacing": [500, 800, 2500], "spacing_unit": "\u00b5m"}, {"spacing": [0.05, 0.08, 0.25], "spacing_unit": "CM"},
    {"spacing": [0.5, 0.8, 2.5], "spacing_unit": "millimeters"}, {"spacing": [0.50001, 0.8, 2.5]},
], ids=str)
def test_a_spacing_that_is_absent_or_the_images(tmp_path, volume, spacing):
    path = write(tmp_path / "case_landmark.json", {**spacing, "landmarks": {"tip": [2, 1, 1]}})
    np.testing.assert_allclose(read_landmarks(path, volume)["tip"], (7.5, -19.0, 29.2))


@pytest.mark.parametrize("missing", [
    None, [], "", [None] * 3, [float("nan")] * 3, ["nan"] * 3, [float("nan"), 1, 2], [0, 0, 0], [0.0, 0, -0.0],
    [-1, -1, -1], [-1.0, 3, 2], [3, 2, -1000],
], ids=str)
def test_every_mark_of_a_missing_point(tmp_path, volume, missing):
    named = {"tip": [2, 1, 1], "lost": missing, "corner": [0, 0, 1]}
    points = read_landmarks(write(tmp_path / "case_landmark.json", {"landmarks": named}), volume)
    assert list(points) == list(named) and np.isnan(points["lost"]).all()
    assert np.isfinite(points["corner"]).all() and np.isfinite(points["tip"]).all()


def test_a_spacing_in_contradiction_with_the_image(tmp_path, volume):
    def found(spacing, unit="mm") -> str:
        content = {"spacing": spacing, "spacing_unit": unit, "landmarks": {"tip": [2, 1, 1]}}
        return refusal(write(tmp_path / "case_landmark.json", content), volume)

    assert "must be that of image.nii.gz, (0.5, 0.8, 2.5) mm; found (1, 0.8, 2.5) mm" in found([1, 0.8, 2.5])
    assert found([1, 0.8, 2.5]).endswith("mm")  # no guess where none fits
    assert "in cm it would be the image's" in found([0.05, 0.08, 0.25])
    assert "in mm it would be the image's" in found([0.5, 0.8, 2.5], "um")
    assert "the image's in the order (z, y, x)" in found([2.5, 0.8, 0.5])
    assert "the image's in the order (z, x, y)" in found([2500, 500, 800], "um")
    for wrong in ([0, 0, 0], [-1, -1, -1], [0.5, 0.8, -2.5], 0):
        assert "must be positive, or null" in found(wrong)
    assert "'spacing' must be three numbers" in found([0.5, 0.8])
    assert "'spacing' must be three numbers" in found({"x": 0.5})


def test_indices_with_their_axes_in_another_order(tmp_path, volume):
    """The image has 5x7x3 voxels."""
    def read(**named):
        path = write(tmp_path / "case_landmark.json", {"landmarks": named})
        return read_landmarks(path, volume)

    for first, order in (([2, 6, 4], "(z, y, x)"), ([2, 4, 6], "(z, x, y)"), ([6, 4, 2], "(y, x, z)"),
                         ([4.6, 4, 2], "(y, x, z)")):
        with pytest.raises(UserError) as caught:
            read(tip=first, middle=[1, 1, 1], lost=None)
        text = str(caught.value)
        assert "\n" not in text and "image.nii.gz, 5x7x3 voxels; found 'tip' at" in text
        assert f"all of them inside if the order is {order}" in text
    # points that fit in no order are reported by the audit, one by one; one on the image's face is inside
    np.testing.assert_allclose(points_to_vox(read(tip=[2, 6, 9])["tip"], volume), [2, 6, 9])
    np.testing.assert_allclose(points_to_vox(read(a=[2, 6, 4], b=[6, 4, 2])["a"], volume), [2, 6, 4])
    np.testing.assert_allclose(points_to_vox(read(tip=[4.5, 6.5, 2.5])["tip"], volume), [4.5, 6.5, 2.5])


def test_a_name_twice_in_an_annotation(tmp_path, volume):
    text = '{"landmarks": {"tip": [1, 2, 1], "end": [2, 1, 1], "tip": [2, 2, 2]}}'
    assert "'tip' twice" in refusal(write(tmp_path / "case_landmark.json", text), volume)


def test_positions_that_are_no_three_numbers(tmp_path, volume):
    for wrong in ("123", 5, {"x": 1}, [1, 2, 3, 4], [[1, 2, 3]], [1, "two", 3], [1, 2]):
        path = write(tmp_path / "case_landmark.json", {"landmarks": {"tip": wrong}})
        assert "'tip' must be three numbers" in refusal(path, volume)


def test_names_alone_need_no_image(tmp_path, volume):
    named = {"b": [1, 2, 3], "a": [99, 2], "c": None}
    path = write(tmp_path / "case_landmark.json", {"spacing": "wrong", "landmarks": named})
    assert read_landmark_names(path) == ("b", "a", "c")
    write_markups(tmp_path / "case.mrk.json", {"tip": np.zeros(3), "end": np.full(3, np.nan)})
    assert read_landmark_names(tmp_path / "case.mrk.json") == ("tip", "end")
    for name, content in (("d.json", {"landmarks": []}), ("e.json", "{"), ("f.txt", "")):
        with pytest.raises(UserError, match=name):
            read_landmark_names(write(tmp_path / name, content))
    with pytest.raises(UserError, match="must exist"):
        read_landmark_names(tmp_path / "nobody.json")


def test_label_image_hand_solved(tmp_path, volume):
    labels = np.zeros(volume.size, np.uint8)
    labels[2, 1, 1] = 7
    labels[0:3, 4, 0] = 2
    write_volume(tmp_path / "labels.nii.gz", labels, volume)
    points = read_landmarks(tmp_path / "labels.nii.gz", volume)
    assert list(points) == ["2", "7"]
    np.testing.assert_allclose(points["7"], (7.5, -19.0, 29.2))
    np.testing.assert_allclose(points["2"], points_to_mm(np.array([1, 4, 0]), volume))


def test_real_label_images(shared_data):
    """Seven single voxels an atlas; of the anterior horns, 1 lies right and 2 left."""
    folders = sorted((shared_data / "fetal_brain_mr").glob("fetal_SB_atlas_GA2[12]_*"))
    for folder in folders:
        like = read_volume(folder / "srr.nii.gz")
        points = read_landmarks(folder / "lmks.nii.gz", like)
        assert list(points) == ["1", "2", "3", "4", "5", "10", "11"]
        assert points["1"][0] < points["2"][0]
        voxels = points_to_vox(np.stack(list(points.values())), like)
        np.testing.assert_allclose(voxels, np.rint(voxels), atol=1e-5)
    assert len(folders) == 2


def test_table_of_all_cases(tmp_path):
    path = write(
        tmp_path / "landmarks.csv",
        "case,name,x_mm,y_mm,z_mm,reader\na,tip,1.5,2,-3,me\na,end,,,,me\nb,tip,4,5,6,you\n",
    )
    table = read_landmarks_csv(path)
    assert {case: list(points) for case, points in table.items()} == {"a": ["tip", "end"], "b": ["tip"]}
    np.testing.assert_array_equal(table["a"]["tip"], (1.5, 2, -3))
    assert np.isnan(table["a"]["end"]).all()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "found no row"),
        ("case,name,x,y,z\na,tip,1,2,3\n", "found case, name, x, y, z"),
        ("case,name,x_mm,y_mm,z_mm\na,tip,1,2,3\na,tip,1,2,3\n", "twice"),
        ("case,name,x_mm,y_mm,z_mm\na,tip,1,two,3\n", "three numbers"),
    ],
)
def test_table_refusals(tmp_path, text, word):
    with pytest.raises(UserError, match=word):
        read_landmarks_csv(write(tmp_path / "landmarks.csv", text))
