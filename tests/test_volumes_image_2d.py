"""2D images and their masks: what is read, its notes, and one line for every file that cannot be used."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian
from scipy import ndimage
from small_images_2d import COLUMNS, ROWS, mask, outline, image, write_image_2d

from tfsono.errors import UserError
from tfsono.volumes.image import orientation_code, reorient
from tfsono.volumes.image_2d import (
    Image2D,
    is_image_2d_file,
    image_2d_name,
    volume_of_image,
    read_image_2d,
    read_mask_2d,
)
from tfsono.volumes.ultrasound_regions import region_pixel_sizes
from tfsono.volumes.volume import ConstantImageError, LabelValueError, OtherGridError

SIZE = (ROWS, COLUMNS)
ULTRASOUND, MAGNETIC_RESONANCE = "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.4"


def one_line(call, *words) -> str:
    """The text of the UserError that `call` raises; it is one line with a file, and has the words."""
    with pytest.raises(UserError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text and ": " in text and "found" in text or "every pixel" in text
    assert all(word in text for word in words), text
    return text


# ---------------------------------------------------------------------------------------------- images


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".TIFF", ".PNG"])
def test_kept_to_the_last_grey_level(tmp_path, suffix):
    found = read_image_2d(write_image_2d(tmp_path / f"a{suffix}", image(1)))
    np.testing.assert_array_equal(found.pixels, image(1))
    assert found.pixels.dtype == np.uint8 and found.pixel_size_mm is None and found.notes == ()
    assert found.path.endswith(suffix)


def test_jpeg(tmp_path):
    path = tmp_path / "a.jpg"
    cv2.imwrite(str(path), cv2.GaussianBlur(image(1), (0, 0), 3), [cv2.IMWRITE_JPEG_QUALITY, 100])
    found = read_image_2d(path)
    assert found.pixels.shape == SIZE and found.notes == ()
    assert np.abs(found.pixels.astype(int) - cv2.GaussianBlur(image(1), (0, 0), 3)).max() <= 2


def test_equal_channels_are_grey(tmp_path):
    found = read_image_2d(write_image_2d(tmp_path / "a.png", np.dstack([image(1)] * 3)))
    np.testing.assert_array_equal(found.pixels, image(1))
    assert found.notes == ()


def test_colours_become_luminance_with_a_note(tmp_path):
    """A red of 200 has the luminance 0.299 * 200 = 59.8; OpenCV stores blue first."""
    coloured = np.dstack([image(1)] * 3)
    coloured[:10, :20] = (0, 0, 200)
    found = read_image_2d(write_image_2d(tmp_path / "a.png", coloured))
    assert (found.pixels[:10, :20] == 60).all()
    np.testing.assert_array_equal(found.pixels[10:], image(1)[10:])
    assert len(found.notes) == 1 and "1.7 %" in found.notes[0] and "200 levels" in found.notes[0]


@pytest.mark.parametrize("alpha, notes", [(255, 0), (np.arange(COLUMNS), 1)])
def test_transparency(tmp_path, alpha, notes):
    layers = np.dstack([image(1)] * 3 + [np.broadcast_to(np.uint8(alpha), SIZE)])
    found = read_image_2d(write_image_2d(tmp_path / "a.png", layers))
    np.testing.assert_array_equal(found.pixels, image(1))
    assert len(found.notes) == notes


def test_sixteen_bits_are_scaled_by_the_maximum(tmp_path):
    deep = np.zeros(SIZE, np.uint16)
    deep[1, 2], deep[3, 4], deep[5, 6] = 1000, 500, 3
    found = read_image_2d(write_image_2d(tmp_path / "a.png", deep))
    assert (found.pixels[1, 2], found.pixels[3, 4], found.pixels[5, 6]) == (255, 128, 1)  # 127.5 to even, 0.765
    assert len(found.notes) == 1 and "1000" in found.notes[0]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.98])
def test_truncated(tmp_path, capfd, suffix, share):
    path = write_image_2d(tmp_path / f"a{suffix}", image(2))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    one_line(lambda: read_image_2d(path), str(path))
    assert capfd.readouterr().err == "", "the decoder's own messages"


def test_damaged_in_the_middle(tmp_path):
    path = write_image_2d(tmp_path / "a.png", image(2))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))
    one_line(lambda: read_image_2d(path), "damaged")


@pytest.mark.parametrize("content", [b"", b"hello", b"GIF89a" + bytes(500), b"RIFF" + bytes(100)])
def test_another_kind_of_file(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    one_line(lambda: read_image_2d(tmp_path / "a.png"), "PNG, JPEG, BMP, TIFF or DICOM")


def test_no_file_and_a_folder(tmp_path):
    one_line(lambda: read_image_2d(tmp_path / "none.png"), "No such file")
    (tmp_path / "folder.png").mkdir()
    one_line(lambda: read_image_2d(tmp_path / "folder.png"), "a folder")


def test_the_content_decides_not_the_name(tmp_path):
    path = write_image_2d(tmp_path / "a.bmp", image(1))
    np.testing.assert_array_equal(read_image_2d(path.rename(tmp_path / "a.png")).pixels, image(1))


@pytest.mark.parametrize("value", [0, 77])
def test_constant(tmp_path, value):
    path = write_image_2d(tmp_path / "a.png", np.full(SIZE, value, np.uint8))
    with pytest.raises(ConstantImageError, match=f"every pixel is {value}"):
        read_image_2d(path)


def test_constant_of_sixteen_bits(tmp_path):
    with pytest.raises(ConstantImageError):
        read_image_2d(write_image_2d(tmp_path / "a.png", np.full(SIZE, 700, np.uint16)))


@pytest.mark.parametrize("pixels, words", [
    (np.arange(15 * 40, dtype=np.uint8).reshape(15, 40), "40x15"),
    (np.arange(1600, dtype=np.float32).reshape(40, 40), "float32"),
])
def test_too_small_or_of_another_type(tmp_path, pixels, words):
    one_line(lambda: read_image_2d(write_image_2d(tmp_path / "a.tif", pixels)), words)


def test_pages(tmp_path):
    path = tmp_path / "a.tif"
    cv2.imwritemulti(str(path), [image(1), image(2)])
    one_line(lambda: read_image_2d(path), "found 2")


def exif(orientation: int, order: str = ">") -> bytes:
    """EXIF data with the one entry 274, as the TIFF specification has it."""
    start = b"MM\0*" if order == ">" else b"II*\0"
    return start + struct.pack(f"{order}IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)


def with_exif(path, orientation: int, order: str = ">") -> None:
    """Puts EXIF data into a PNG or a JPEG file."""
    content, data = path.read_bytes(), exif(orientation, order)
    if path.suffix == ".png":
        chunk = struct.pack(">I", len(data)) + b"eXIf" + data + struct.pack(">I", zlib.crc32(b"eXIf" + data))
        path.write_bytes(content[:33] + chunk + content[33:])
    else:
        segment = b"Exif\0\0" + data
        path.write_bytes(content[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + content[2:])


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_an_image_to_be_rotated(tmp_path, suffix, order, orientation):
    path = write_image_2d(tmp_path / f"a{suffix}", image(1))
    with_exif(path, orientation, order)
    if orientation == 1:
        assert read_image_2d(path).pixels.shape == SIZE
    else:
        one_line(lambda: read_image_2d(path), f"EXIF orientation {orientation}", "upright")


def test_names():
    assert [is_image_2d_file(name) for name in ("a.png", "b.JPG", "c.dcm", "._a.png", "d.nii.gz", "e", "f.csv")] == [
        True, True, True, False, False, False, False]
    assert image_2d_name("x/010_2HC.png") == "010_2HC" and image_2d_name("a.b.TIFF") == "a.b"
    assert image_2d_name("b.nii") == "b.nii"


# ------------------------------------------------------------------------------------------------ volumes


def test_as_a_volume():
    pixels = image(3)
    volume = volume_of_image(Image2D(pixels, 0.2, "a.png"))
    assert volume.size == (COLUMNS, ROWS, 1) and volume.array.dtype == np.uint8
    assert volume.spacing_mm == (0.2, 0.2, 1.0) and orientation_code(volume) == "LPS"
    assert volume.array[7, 3, 0] == pixels[3, 7]
    np.testing.assert_array_equal(reorient(volume).array, volume.array)


@pytest.mark.parametrize(
    "of_file, given, spacing", [(0.2, 0.3, 0.3), (0.2, None, 0.2), (None, 0.3, 0.3), (None, None, 1.0)]
)
def test_which_pixel_size(of_file, given, spacing):
    assert volume_of_image(Image2D(image(1), of_file, ""), given).spacing_mm == (spacing, spacing, 1.0)


# -------------------------------------------------------------------------------------------------- masks


@pytest.mark.parametrize("value", [1, 7, 255])
def test_filled_mask_stays_as_it_is(tmp_path, value):
    path = write_image_2d(tmp_path / "m.png", mask() * np.uint8(value))
    found = read_mask_2d(path, SIZE)
    np.testing.assert_array_equal(found, mask())
    assert found.dtype == np.uint8


def test_holes_of_a_filled_mask_stay(tmp_path):
    holed = mask()
    holed[40:50, 50:60] = 0
    np.testing.assert_array_equal(read_mask_2d(write_image_2d(tmp_path / "m.png", holed), SIZE), holed)


@pytest.mark.parametrize("layers", [1, 3, 4])
def test_outline_is_filled(tmp_path, layers):
    """Against scikit-image's flood from a corner."""
    from skimage.segmentation import flood

    drawn = outline()
    reference = ~flood(drawn > 0, (0, 0), connectivity=1)
    stored = drawn if layers == 1 else np.dstack([drawn, 0 * drawn, 0 * drawn, np.full_like(drawn, 255)][:layers])
    found = read_mask_2d(write_image_2d(tmp_path / "m.png", stored), SIZE)
    np.testing.assert_array_equal(found > 0, reference)
    assert np.count_nonzero(found) > 10 * np.count_nonzero(drawn) / 2


def test_outline_that_leaves_the_image(tmp_path):
    """The part of the ellipse in the image, but for what a straight edge of pixels may differ by."""
    whole = cv2.ellipse(np.zeros((ROWS + 40, COLUMNS), np.uint8), (60, 70), (50, 45), 15, 0, 360, 1, -1)
    drawn = cv2.ellipse(np.zeros((ROWS + 40, COLUMNS), np.uint8), (60, 70), (50, 45), 15, 0, 360, 255, 1)
    reference, cut = whole[40:], drawn[40:]
    assert not ndimage.binary_fill_holes(cut)[20, 60], "it is open, and flooding fills nothing"
    found = read_mask_2d(write_image_2d(tmp_path / "m.png", cut), SIZE)
    assert np.count_nonzero(found != reference) < 0.01 * reference.sum()


def test_outline_with_a_gap(tmp_path):
    drawn = outline()
    drawn[:, 55:62] = 0
    found = read_mask_2d(write_image_2d(tmp_path / "m.png", drawn), SIZE)
    assert np.count_nonzero(found != mask()) < 0.04 * mask().sum()


def test_lines_that_enclose_nothing(tmp_path):
    straight = cv2.line(np.zeros(SIZE, np.uint8), (5, 5), (100, 70), 255, 1)
    cross = cv2.line(straight.copy(), (5, 70), (100, 5), 255, 1)
    for number, drawn in enumerate((straight, cross)):
        path = write_image_2d(tmp_path / f"{number}.png", drawn)
        one_line(lambda path=path: read_mask_2d(path, SIZE), "encloses nothing")


def test_empty_mask_is_no_mistake_here(tmp_path):
    assert not read_mask_2d(write_image_2d(tmp_path / "m.png", 0 * mask()), SIZE).any()


def test_mask_of_another_size(tmp_path):
    path = write_image_2d(tmp_path / "m.png", mask())
    with pytest.raises(OtherGridError, match="90x131.*131x90"):
        read_mask_2d(path, (COLUMNS, ROWS))


def test_masks_that_are_none(tmp_path):
    with pytest.raises(LabelValueError, match="levels"):
        read_mask_2d(write_image_2d(tmp_path / "m.png", image(1)), SIZE)
    one_line(lambda: read_mask_2d(write_image_2d(tmp_path / "m.jpg", mask()), SIZE), "JPEG", "as PNG")


def test_smoothed_mask_is_a_mask(tmp_path):
    smooth = cv2.GaussianBlur(mask() * np.uint8(255), (0, 0), 1.0)
    found = read_mask_2d(write_image_2d(tmp_path / "m.png", smooth), SIZE)
    np.testing.assert_array_equal(found > 0, smooth > 0)


# -------------------------------------------------------------------------------------------------- DICOM


def write_dicom(path, pixels: np.ndarray, tags: dict[str, str] | None = None, spacing=None):
    """One frame [Y, X] or [Y, X, 3 (RGB)], or several [N, Y, X], of ultrasound."""
    image = sitk.GetImageFromArray(pixels, isVector=pixels.shape[-1] == 3)
    for tag, value in {"0008|0060": "US", "0008|0016": ULTRASOUND, **(tags or {})}.items():
        image.SetMetaData(tag, value)
    if spacing:
        image.SetSpacing(spacing)
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(path))
    writer.SetImageIO("GDCMImageIO")
    writer.KeepOriginalImageUIDOn()
    writer.Execute(image)
    return path


def region(step_x: float, step_y: float, unit: int = 3, kind: int = 1, undefined: bool = False) -> bytes:
    """An item of the sequence of regions, implicit little endian, as DICOM PS3.5 7.5 has it."""
    whole = ((0x6012, kind), (0x6014, 1), (0x6024, unit), (0x6026, unit))
    fields = [(tag, struct.pack("<H", value)) for tag, value in whole]
    fields += [(tag, struct.pack("<d", value)) for tag, value in ((0x602C, step_x), (0x602E, step_y))]
    content = b"".join(struct.pack("<HHI", 0x18, tag, len(value)) + value for tag, value in fields)
    end = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) if undefined else b""
    return struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF if undefined else len(content)) + content + end


def explicit(implicit: bytes) -> bytes:
    """The same items with the value representations written out."""
    kinds = {0x6012: b"US", 0x6014: b"US", 0x6024: b"US", 0x6026: b"US", 0x602C: b"FD", 0x602E: b"FD"}
    found, position = b"", 0
    while position < len(implicit):
        group, tag, length = struct.unpack_from("<HHI", implicit, position)
        if group == 0xFFFE:
            inner = implicit[position + 8 : position + 8 + length] if length != 0xFFFFFFFF else b""
            length = len(explicit(inner)) if inner else length
            found += struct.pack("<HHI", group, tag, length)
            found += explicit(inner)
            position += 8 + len(inner)
        else:
            found += struct.pack("<HH2sH", group, tag, kinds[tag], length) + implicit[position + 8 :][:length]
            position += 8 + length
    return found


def add_regions(path, regions: list[bytes], undefined: bool = False) -> None:
    """Puts the sequence into a file of SimpleITK's, implicit little endian, for its own, which has no units."""
    content, items = path.read_bytes(), b"".join(regions)
    end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0) if undefined else b""
    head = struct.pack("<HHI", 0x18, 0x6011, 0xFFFFFFFF if undefined else len(items))
    start, stop = content.index(b"\x18\x00\x11\x60"), content.index(b"\x20\x00\x0d\x00")
    path.write_bytes(content[:start] + head + items + end + content[stop:])


def test_dicom_frame(tmp_path):
    found = read_image_2d(write_dicom(tmp_path / "a.dcm", image(1)))
    np.testing.assert_array_equal(found.pixels, image(1))
    assert found.pixel_size_mm is None and found.notes == (), "ITK's spacing of 1 is no pixel size"


def test_dicom_without_suffix(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", image(1)).rename(tmp_path / "IM_0001")
    assert is_image_2d_file(path) and image_2d_name(path) == "IM_0001"
    assert read_image_2d(path).pixels.shape == SIZE


def test_dicom_in_colour(tmp_path):
    coloured = np.dstack([image(1)] * 3)
    coloured[:10, :20] = (200, 0, 0)
    found = read_image_2d(write_dicom(tmp_path / "a.dcm", coloured))
    assert (found.pixels[:10, :20] == 60).all() and "luminance" in found.notes[0]


@pytest.mark.parametrize("undefined", [False, True])
def test_pixel_size_of_the_regions(tmp_path, undefined):
    """0.012 cm are 0.12 mm; a spectrum in cm/s is ignored."""
    path = write_dicom(tmp_path / "a.dcm", image(1))
    spectrum = region(0.5, 3.0, unit=7, kind=3, undefined=undefined)
    add_regions(path, [spectrum, region(0.012, 0.012, undefined=undefined)], undefined)
    assert region_pixel_sizes(path) == [pytest.approx((0.12, 0.12))]
    assert read_image_2d(path).pixel_size_mm == pytest.approx(0.12)


@pytest.mark.parametrize("undefined", [False, True])
def test_regions_in_explicit_encoding(tmp_path, undefined):
    meta = struct.pack("<HH2sH", 2, 0x10, b"UI", 20) + b"1.2.840.10008.1.2.1\0"
    items = explicit(region(0.02, 0.021, undefined=undefined))
    length = 0xFFFFFFFF if undefined else len(items)
    sequence = struct.pack("<HH2sHI", 0x18, 0x6011, b"SQ", 0, length) + items
    sequence += struct.pack("<HHI", 0xFFFE, 0xE0DD, 0) if undefined else b""
    name = struct.pack("<HH2sH", 0x10, 0x10, b"PN", 4) + b"A^B "
    (tmp_path / "a.dcm").write_bytes(bytes(128) + b"DICM" + meta + name + sequence)
    assert region_pixel_sizes(tmp_path / "a.dcm") == [pytest.approx((0.2, 0.21))]


def write_with_pydicom(path, syntax) -> None:
    """An ultrasound image with one calibrated region, encoded as the transfer syntax says."""
    part = Dataset()
    part.RegionSpatialFormat, part.PhysicalUnitsXDirection, part.PhysicalUnitsYDirection = 1, 3, 3
    part.PhysicalDeltaX = part.PhysicalDeltaY = 0.015
    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = syntax
    file.SOPClassUID, file.SOPInstanceUID, file.Modality = ULTRASOUND, "1.2.3", "US"
    file.SequenceOfUltrasoundRegions = [part]
    file.Rows, file.Columns = SIZE
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 8, 8, 7, 0
    file.PixelData = image(1).tobytes()
    file["PixelData"].VR = "OB"
    file.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_regions_in_big_endian_and_deflated_files(tmp_path, syntax):
    write_with_pydicom(tmp_path / "a.dcm", syntax)
    assert region_pixel_sizes(tmp_path / "a.dcm") == [pytest.approx((0.15, 0.15))]
    found = read_image_2d(tmp_path / "a.dcm")
    np.testing.assert_array_equal(found.pixels, image(1))
    assert found.pixel_size_mm == pytest.approx(0.15)


def test_damaged_headers_have_no_regions_and_print_nothing(tmp_path, capfd, recwarn):
    """Whatever bytes are wrong; without the try and the filter, both fail."""
    path, random = tmp_path / "a.dcm", np.random.default_rng(4)
    for syntax in (ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian):
        write_with_pydicom(path, syntax)
        whole = np.frombuffer(path.read_bytes(), np.uint8)
        sizes = []
        for _ in range(200):
            damaged = whole.copy()
            damaged[random.integers(132, 600, 4)] = random.integers(0, 256, 4)
            path.write_bytes(damaged.tobytes())
            sizes.append(region_pixel_sizes(path))
        assert [] in sizes
    assert capfd.readouterr() == ("", "") and not recwarn.list


def test_regions_that_differ_or_are_not_square(tmp_path):
    for number, regions in enumerate(([region(0.01, 0.01), region(0.02, 0.02)], [region(0.01, 0.02)])):
        path = write_dicom(tmp_path / f"{number}.dcm", image(1))
        add_regions(path, regions)
        found = read_image_2d(path)
        assert found.pixel_size_mm is None and "0.1 to 0.2 mm" in found.notes[0]


def test_a_header_cut_off_has_no_regions(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", image(1))
    add_regions(path, [region(0.012, 0.012)])
    content = path.read_bytes()
    start = content.index(b"\x18\x00\x11\x60")
    for end in range(start, start + 88, 7):
        path.write_bytes(content[:end])
        assert region_pixel_sizes(path) == []


@pytest.mark.parametrize("sides, found_mm", [((0.31, 0.31), 0.31), ((0.31, 0.4), None)])
def test_pixel_spacing(tmp_path, sides, found_mm):
    tags = {"0008|0016": MAGNETIC_RESONANCE, "0008|0060": "MR"}
    found = read_image_2d(write_dicom(tmp_path / "a.dcm", image(1), tags, sides))
    assert found.pixel_size_mm == (found_mm and pytest.approx(found_mm))
    assert any("modality MR" in note for note in found.notes)
    assert any("not square" in note for note in found.notes) == (found_mm is None)


def test_several_frames(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", np.stack([image(1), image(2), image(3), image(4)]))
    one_line(lambda: read_image_2d(path), "found 4", "one frame")


def test_truncated_dicom(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", image(1))
    path.write_bytes(path.read_bytes()[:-3000])
    one_line(lambda: read_image_2d(path), "DICOM")


def test_a_dicom_mask_is_refused(tmp_path):
    one_line(lambda: read_mask_2d(write_dicom(tmp_path / "m.dcm", mask()), SIZE), "DICOM")


# ---------------------------------------------------------------------------------------------- real data


def test_real_images(shared_data):
    paths = sorted((shared_data / "hc18" / "images").glob("*.png"))[::50]
    for path in paths:
        found = read_image_2d(path)
        reference = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        np.testing.assert_array_equal(found.pixels, reference)
        mask_path = shared_data / "hc18" / "masks" / f"{path.stem}_mask.png"
        drawn = cv2.imread(str(mask_path), cv2.IMREAD_GRAYSCALE) > 0
        np.testing.assert_array_equal(read_mask_2d(mask_path, reference.shape) > 0, drawn)
    assert len(paths) >= 9


def test_real_masks_through_their_outlines(shared_data, tmp_path):
    """HC18 provides outlines; those of the real masks must give the masks back, at the border too."""
    folder = shared_data / "hc18" / "masks"
    for name in ("000_HC", "186_HC", "346_HC", "352_2HC", "500_HC"):
        drawn = (cv2.imread(str(folder / f"{name}_mask.png"), cv2.IMREAD_GRAYSCALE) > 0).astype(np.uint8)
        padded = np.pad(drawn, 1)
        rim = (padded & ~cv2.erode(padded, np.ones((3, 3), np.uint8)))[1:-1, 1:-1]
        inner = np.zeros_like(rim)
        inner[1:-1, 1:-1] = 1
        open_at_the_border = rim & (inner | ~np.pad(drawn[1:-1, 1:-1], 1))  # the ellipse continues outside
        path = write_image_2d(tmp_path / f"{name}.png", open_at_the_border * np.uint8(255))
        found = read_mask_2d(path, drawn.shape)
        assert np.count_nonzero(found != drawn) <= 0.01 * drawn.sum(), name
