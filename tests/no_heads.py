"""Images without a whole fetal head in ultrasound, uint8 [540, 800], made by code, for tests of what is flagged."""

from __future__ import annotations

import cv2
import numpy as np

from tfsono.phantoms.femur import femur_phantom
from tfsono.phantoms.head import HeadPhantom, head_phantom
from tfsono.phantoms.hip import hip_phantom

SIZE = (540, 800)


def drawn_images() -> dict[str, np.ndarray]:
    """Noise, discs, text and the like by name."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIZE[0], :SIZE[1]].astype(np.float32)
    radius = np.hypot((x - 400) / 1.25, y - 270)
    parts = (cv2.GaussianBlur(rng.normal(size=SIZE), (0, 0), 2) for _ in range(2))
    speckle = np.hypot(*parts)
    speckle /= speckle.mean()
    text, rectangle = (np.zeros(SIZE, np.uint8) for _ in range(2))
    for line in range(12):
        cv2.putText(text, "PATIENT 0123 Head biometry 12:34", (20, 40 + 42 * line), 0, 1.2, color=255, thickness=2)
    rectangle[120:420, 200:600] = 200
    disc = radius < 180
    images = {
        "noise": rng.normal(90, 40, SIZE), "speckle": 60 * speckle, "flat": 100 + rng.normal(0, 1, SIZE),
        "gradient": x / 4, "white_disc": 255.0 * disc, "noisy_disc": 40 + 100.0 * disc + rng.normal(0, 6, SIZE),
        "disc_of_speckle": speckle * (25 + 70 * disc), "cyst": speckle * (70 - 65 * disc),
        "abdomen": speckle * (15 + 60 * disc + 30 * np.exp(-((radius - 185) / 12) ** 2)),
        "blob": 220 * np.exp(-(radius / 150) ** 2), "rings": 127 + 127 * np.sin(radius / 12),
        "thin_ring": 255.0 * (np.abs(radius - 180) < 2), "checkers": 255.0 * ((x // 40 + y // 40) % 2), "text": text,
        "rectangle": rectangle}
    return {name: np.clip(image, 0, 255).astype(np.uint8) for name, image in images.items()}


def other_anatomy() -> dict[str, np.ndarray]:
    """Slices of phantoms of a thigh in ultrasound and of a hip in MR."""
    femur, _, _, _ = femur_phantom(1, (64, 64, 64), (1.4, 1.4, 1.4))
    hip = hip_phantom(1, (64, 64, 32), (1.8, 1.8, 3.6))[0]
    return {f"{name}_{axis}": as_image(np.take(volume, volume.shape[axis] // 2, axis))
            for name, volume in (("femur", femur), ("hip", hip)) for axis in range(3)}


def damaged_heads() -> dict[str, np.ndarray]:
    """A head phantom with inverted contrast, and parts of it."""
    phantom = whole_head()
    image, (x, y) = phantom.image, np.rint(phantom.reference.ellipse.center_px).astype(int)
    return {"inverted": 255 - image, "right_half": np.ascontiguousarray(image[:, x:]),
            "left_half": np.ascontiguousarray(image[:, :x]), "upper_half": np.ascontiguousarray(image[:y]),
            "lower_half": np.ascontiguousarray(image[y:])}


def whole_head() -> HeadPhantom:
    """A head phantom."""
    return head_phantom(3, SIZE, (0.15, 0.16))


def as_image(values: np.ndarray) -> np.ndarray:
    """A slice of a volume as a grey image of `SIZE`."""
    values = values.astype(np.float32) - float(values.min())
    scaled = np.clip(values / max(float(np.percentile(values, 99.5)), 1e-6) * 255, 0, 255)
    return cv2.resize(scaled, SIZE[::-1], interpolation=cv2.INTER_LINEAR).astype(np.uint8)
