"""An image of a head with its prediction: outline, ellipse, the two axes and the numbers.

Images are [Y, X], rows first, and points (x, y), as in every other module of `head`. Drawn with OpenCV, as matplotlib
takes four times as long, more than the prediction itself; with matplotlib's font, which has all letters.
"""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from tfsono.files import replacing
from tfsono.geometry.ellipse import Ellipse

# Okabe and Ito's colours, told apart by colour-blind readers too.
OUTLINE, ELLIPSE, OFD, BPD = "#e69f00", "#56b4e9", "#f0e442", "#cc79a7"
DOUBT = "#b22222"
WIDTH, TALLEST, LINE, MARGIN = 960, 2400, 29, 14  # pixels of the figure
LETTER = 16.7  # pixels, as a font's size
MOST_FLAG_LINES = 4
STEPS = 4  # OpenCV counts in 1/2^STEPS pixels


@dataclass(frozen=True)
class Judgement:
    """How far an image's prediction is to be trusted, and its scale.

    Attributes:
      flags: in words.
      flagged: whether they speak against the prediction.
      pixel_size_mm: None where unknown.
    """

    flags: str = ""
    flagged: bool = False
    pixel_size_mm: float | None = None


def head_overlay(path: str | Path, pixels: np.ndarray, mask: np.ndarray | None, ellipse: Ellipse | None,
                 points_px: np.ndarray | None, lines: Sequence[str] = (), title: str = "",
                 values: Mapping[str, str] = MappingProxyType({}), judgement: Judgement = Judgement()) -> None:
    """Writes a PNG of the image with the prediction, and lines of text below it.

    Args:
      path: of the PNG.
      pixels: [Y, X] grey levels 0..255.
      mask: [Y, X] boolean, its outline is drawn; None without one.
      ellipse: in the image's pixels; None where none fits.
      points_px: [4, 2] (x, y), OFD 1, OFD 2, BPD 1, BPD 2; None without them.
      lines: below.
      title: above.
      values: of `hc`, `ofd` and `bpd`, in words; in their colours, before the lines.
      judgement: a doubt is written in white on red below the image, which has a red frame.
    """
    image = _drawn(pixels, mask, ellipse, points_px)
    if judgement.pixel_size_mm:
        _draw_scale(image, judgement.pixel_size_mm * pixels.shape[1] / image.shape[1])
    rows, columns = image.shape[:2]
    flags, doubt = _flag_lines(judgement), DOUBT if judgement.flagged else None
    above, below = LINE + 10, LINE * (len(lines) + len(flags) + 1) + 12
    canvas = Image.new("RGB", (WIDTH, above + rows + below))
    canvas.paste(Image.fromarray(image), ((WIDTH - columns) // 2, above))
    draw = ImageDraw.Draw(canvas)
    if doubt:
        draw.rectangle((0, above, WIDTH - 1, above + rows - 1), outline=doubt, width=4)
        draw.rectangle((0, above + rows, WIDTH, above + rows + len(flags) * LINE + 4), fill=doubt)
    for row, line in enumerate(flags):
        _write(draw, line, (MARGIN, above + rows + (row + 0.6) * LINE), "white" if doubt else OFD)
    top = above + rows + len(flags) * LINE
    words = [(f"ellipse, HC {values['hc']}" if values else "ellipse", ELLIPSE)] * (ellipse is not None)
    words += [(f"{key.upper()} {values.get(key, '')}".strip(), colour) for key, colour in (("bpd", BPD), ("ofd", OFD))
              ] * (points_px is not None)
    words += [("predicted outline", OUTLINE)] * (mask is not None)
    left = MARGIN
    for word, colour in words:  # the meaning of the colours
        left += _write(draw, f"— {word}", (left, top + 0.6 * LINE), colour) + 1.5 * MARGIN
    for row, line in enumerate((title, *lines)):
        _write(draw, line, (MARGIN, top + (row + 0.6) * LINE if row else 0.6 * above), "white")
    with replacing(path) as partial:
        canvas.save(partial, format="PNG", compress_level=1)  # noise hardly compresses


def _flag_lines(judgement: Judgement) -> list[str]:
    """The flags in lines that fit, as one is never to be overlooked; the first one says what they are."""
    if not judgement.flags:
        return []
    words = f"{'FLAGGED, not to be relied on' if judgement.flagged else 'Note'}: {judgement.flags}"
    return textwrap.wrap(words, 100)[:MOST_FLAG_LINES]


def _draw_scale(image: np.ndarray, pixel_size_mm: float) -> None:
    """A bar of 10 mm, or of 1 mm where that is too long, at the lower left."""
    length = next((mm for mm in (10, 1) if mm / pixel_size_mm < image.shape[1] / 3), 0)
    if not length:
        return
    y, left, right = image.shape[0] - MARGIN, MARGIN, MARGIN + round(length / pixel_size_mm)
    bar = np.array([[left, y - 5], [left, y + 5], [left, y], [right, y], [right, y - 5], [right, y + 5]], np.int32)
    for colour, width in (((0, 0, 0), 4), ((255, 255, 255), 1)):
        cv2.polylines(image, [bar], isClosed=False, color=colour, thickness=width + 1)
        cv2.putText(image, f"{length} mm", (MARGIN, y - 12), cv2.FONT_HERSHEY_SIMPLEX, 0.55, color=colour,
                    thickness=width, lineType=cv2.LINE_AA)


def _drawn(pixels: np.ndarray, mask: np.ndarray | None, ellipse: Ellipse | None, points_px: np.ndarray | None
           ) -> np.ndarray:
    """[rows, columns, RGB]: the image as wide as the figure, with the prediction."""
    scale = min(WIDTH / pixels.shape[1], TALLEST / pixels.shape[0])
    size = tuple(max(1, round(side * scale)) for side in pixels.shape[::-1])
    grey = cv2.resize(np.clip(pixels, 0, 255).astype(np.uint8), size,
                      interpolation=cv2.INTER_LINEAR if scale > 1 else cv2.INTER_AREA)
    image = cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
    if ellipse is not None:
        _line(image, ellipse.contour(360), scale=scale, colour=ELLIPSE, width=2, closed=True)
    if mask is not None:  # on the ellipse and thinner, so that both are seen where they agree
        inside = cv2.resize(mask.astype(np.uint8) * 255, size, interpolation=cv2.INTER_LINEAR) > 127
        outlines = cv2.findContours(inside.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0]
        cv2.drawContours(image, outlines, -1, color=ImageColor.getrgb(OUTLINE), thickness=1, lineType=cv2.LINE_AA)
    if points_px is not None:
        arm = 8 / scale
        for pair, colour in ((points_px[:2], OFD), (points_px[2:], BPD)):
            _line(image, pair, scale, colour, width=1)
            for point in pair:
                for way in ((arm, 0), (0, arm)):
                    _line(image, np.array([point - way, point + way]), scale, colour, width=2)
    return image


def _line(image: np.ndarray, points_px: np.ndarray, scale: float, colour: str, width: int, closed: bool = False
          ) -> None:
    """Draws a line through points [n, 2] of the original image; none if one of them is undefined."""
    places = np.clip((points_px + 0.5) * scale - 0.5, -10 * TALLEST, 10 * TALLEST)
    if np.isfinite(places).all():
        fixed = np.rint(places * 2**STEPS).astype(np.int32)
        cv2.polylines(image, [fixed], isClosed=closed, color=ImageColor.getrgb(colour), thickness=width,
                      lineType=cv2.LINE_AA, shift=STEPS)


def _write(draw: ImageDraw.ImageDraw, text: str, place: tuple[float, float], colour: str) -> float:
    """One line of text, its middle at a height; smaller where it would not fit. Returns its length in pixels."""
    if not text:
        return 0.0
    size = LETTER
    for _ in range(3):  # small letters are not quite in proportion
        size *= min(1, (WIDTH - MARGIN - place[0]) / _font(size).getlength(text))
    draw.text(place, text, colour, _font(size), anchor="lm")
    return _font(size).getlength(text)


@functools.lru_cache(16)
def _font(size: float) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), size)
