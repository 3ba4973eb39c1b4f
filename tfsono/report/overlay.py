"""An image of a head with its prediction: outline, ellipse, the two axes and the numbers.

Images are [Y, X], rows first, and points (x, y), as in every other module of `head`. Drawn with OpenCV, as matplotlib
takes four times as long, more than the prediction itself; with matplotlib's font, which has all letters.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from tfsono.files import replacing
from tfsono.geometry.ellipse import Ellipse

# Okabe and Ito's colours, told apart by colour-blind readers too.
OUTLINE, ELLIPSE, OFD, BPD = "#e69f00", "#56b4e9", "#f0e442", "#cc79a7"
WIDTH, TALLEST, LINE, MARGIN = 960, 2400, 29, 14  # pixels of the figure
LETTER = 16.7  # pixels, as a font's size
STEPS = 4  # OpenCV counts in 1/2^STEPS pixels


def head_overlay(path: str | Path, pixels: np.ndarray, mask: np.ndarray | None, ellipse: Ellipse | None,
                 points_px: np.ndarray | None, lines: Sequence[str] = (), title: str = "") -> None:
    """Writes a PNG of the image with the prediction, and lines of text below it.

    Args:
      path: of the PNG.
      pixels: [Y, X] grey levels 0..255.
      mask: [Y, X] boolean, its outline is drawn; None without one.
      ellipse: in the image's pixels; None where none fits.
      points_px: [4, 2] (x, y), OFD 1, OFD 2, BPD 1, BPD 2; None without them.
      lines: below.
      title: above.
    """
    image = _drawn(pixels, mask, ellipse, points_px)
    rows, columns = image.shape[:2]
    above, below = LINE + 10, LINE * (len(lines) + 1) + 12
    canvas = Image.new("RGB", (WIDTH, above + rows + below))
    canvas.paste(Image.fromarray(image), ((WIDTH - columns) // 2, above))
    draw = ImageDraw.Draw(canvas)
    words = [("predicted outline", OUTLINE)] * (mask is not None) + [("ellipse", ELLIPSE)] * (ellipse is not None)
    words += [("OFD", OFD), ("BPD", BPD)] * (points_px is not None)
    for place, (word, colour) in enumerate(words):  # the meaning of the colours
        _write(draw, f"— {word}", (MARGIN + 190 * place, above + rows + 0.6 * LINE), colour)
    for row, line in enumerate((title, *lines)):
        _write(draw, line, (MARGIN, above + rows + (row + 0.6) * LINE if row else 0.6 * above), "white")
    with replacing(path) as partial:
        canvas.save(partial, format="PNG", compress_level=1)  # noise hardly compresses


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


def _write(draw: ImageDraw.ImageDraw, text: str, place: tuple[float, float], colour: str) -> None:
    """One line of text, its middle at a height; smaller where it would not fit."""
    if text:
        size = LETTER
        for _ in range(3):  # small letters are not quite in proportion
            size *= min(1, (WIDTH - 2 * MARGIN) / _font(size).getlength(text))
        draw.text(place, text, colour, _font(size), anchor="lm")


@functools.lru_cache(16)
def _font(size: float) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), size)
