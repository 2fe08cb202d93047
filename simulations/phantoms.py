"""Pixels that look like something, of numpy alone and from a seeded generator.

A thorax of ellipses with lungs, spine and noise; a head with ventricles in two weightings; a hand-like
radiograph; a breast with texture; an ultrasound sector as a colour cine. Not for teaching anatomy, only for
telling the images apart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint16] | NDArray[np.int16] | NDArray[np.uint8]


def _grid(n: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    axis = np.linspace(-1, 1, n, dtype=np.float32)
    return np.meshgrid(axis, axis)


def _ellipse(
    x: NDArray[np.float32], y: NDArray[np.float32], cx: float, cy: float, rx: float, ry: float
) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1
    return inside


def ct_slice(index: int, count: int, rng: np.random.Generator, n: int = 512) -> NDArray[np.int16]:
    """A thorax slice in Hounsfield units."""
    x, y = _grid(n)
    t = index / max(count - 1, 1)
    image = np.full((n, n), -1000, np.float32)
    body = _ellipse(x, y, 0, 0.05, 0.82, 0.58)
    image[body] = 40
    image[_ellipse(x, y, 0, 0.05, 0.78, 0.54) ^ body] = -90
    lung = 0.28 + 0.1 * np.sin(np.pi * t)
    for side in (-1, 1):
        image[_ellipse(x, y, side * 0.38, 0.0, lung, 0.4 * np.sin(np.pi * (0.15 + 0.7 * t)) + 0.02)] = -820
    image[_ellipse(x, y, 0.1, -0.08, 0.22 * np.sin(np.pi * t) + 0.03, 0.2)] = 55
    image[_ellipse(x, y, 0, 0.42, 0.11, 0.1)] = 420
    image[_ellipse(x, y, 0, 0.42, 0.06, 0.055)] = 180
    for angle in np.linspace(0.15, np.pi - 0.15, 9):
        for side in (-1, 1):
            shift = 0.03 * np.sin(12 * t + angle * 5)
            image[
                _ellipse(x, y, side * 0.72 * np.sin(angle), 0.05 - 0.5 * np.cos(angle) + shift, 0.035, 0.03)
            ] = 600
    if 0.4 < t < 0.55:
        image[_ellipse(x, y, -0.42, -0.1, 0.06, 0.06)] = 30  # the nodule that everyone looks for
    image += rng.normal(0, 14, image.shape).astype(np.float32)
    return image.astype(np.int16)


def mr_slice(
    index: int, count: int, rng: np.random.Generator, weighting: str, n: int = 256
) -> NDArray[np.uint16]:
    """A head slice, T1- or T2-weighted."""
    x, y = _grid(n)
    t = index / max(count - 1, 1)
    r = 0.35 + 0.4 * np.sin(np.pi * (0.1 + 0.8 * t))
    fluid, grey, white, fat = (120, 420, 560, 800) if weighting == "T1" else (900, 480, 340, 500)
    image = np.zeros((n, n), np.float32)
    image[_ellipse(x, y, 0, 0, r * 0.95 + 0.06, r + 0.08)] = fat
    image[_ellipse(x, y, 0, 0, r * 0.95, r)] = fluid
    image[_ellipse(x, y, 0, 0, r * 0.9, r * 0.95)] = grey
    fold = 0.05 * np.sin(18 * np.arctan2(y, x) + 6 * t)
    image[((x / (r * 0.78)) ** 2 + (y / (r * 0.83)) ** 2) < 1 + fold] = white
    for side in (-1, 1):
        image[_ellipse(x, y, side * 0.09, -0.05, 0.05, 0.2 * np.sin(np.pi * t) + 0.01)] = fluid
    image += rng.normal(0, 18, image.shape).astype(np.float32)
    return np.clip(image, 0, 4095).astype(np.uint16)


def radiograph(
    rng: np.random.Generator, body_part: str, rows: int = 1024, columns: int = 860
) -> NDArray[np.uint16]:
    """A chest- or hand-like projection, MONOCHROME1."""
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j].astype(np.float32)
    dense = np.zeros((rows, columns), np.float32)
    if body_part == "HAND":
        dense += 900 * _ellipse(x, y, 0, 0.45, 0.38, 0.42)
        for finger in range(5):
            cx = -0.5 + 0.24 * finger
            for joint in range(3):
                dense += 1500 * _ellipse(x, y, cx + 0.03 * joint, 0.05 - 0.27 * joint, 0.055, 0.13)
    else:
        dense += 1500 * _ellipse(x, y, 0, 0.1, 0.95, 1.05)
        for side in (-1, 1):
            dense -= 900 * _ellipse(x, y, side * 0.42, -0.05, 0.33, 0.62)
        dense += 900 * _ellipse(x, y, 0.12, 0.25, 0.3, 0.3)
        dense += 500 * (np.abs(x) < 0.07)
        for rib in range(8):
            dense += 220 * (np.abs(y + 0.75 - 0.17 * rib + 0.35 * x * x) < 0.018)
    dense += rng.normal(0, 25, dense.shape).astype(np.float32)
    return np.clip(3600 - dense, 0, 4095).astype(np.uint16)  # MONOCHROME1: low is bright


def mammogram(
    rng: np.random.Generator, side: str, rows: int = 1024, columns: int = 800
) -> NDArray[np.uint16]:
    """A breast with glandular texture, MONOCHROME2."""
    y, x = np.mgrid[-1 : 1 : rows * 1j, 0 : 1 : columns * 1j].astype(np.float32)
    shape = (x / 0.85) ** 2 + (y / 0.9) ** 2 < 1
    coarse = Image.fromarray(rng.normal(0, 1, (rows // 32, columns // 32)).astype(np.float32), "F")
    texture = np.asarray(coarse.resize((columns, rows), Image.Resampling.BICUBIC))
    image = np.where(shape, 1500 + 260 * texture * np.exp(-3 * x), 60).astype(np.float32)
    image += rng.normal(0, 20, image.shape).astype(np.float32)
    return np.clip(image if side == "L" else image[:, ::-1], 0, 4095).astype(np.uint16)


def ultrasound_cine(rng: np.random.Generator, frames: int = 12, n: int = 320) -> NDArray[np.uint8]:
    """A sector with a pulsing vessel, RGB, (frames, rows, columns, 3)."""
    x, y = _grid(n)
    depth = np.hypot(x, y + 1.1)
    sector = (np.abs(np.arctan2(x, y + 1.1)) < 0.6) & (depth > 0.25) & (depth < 1.95)
    out = np.zeros((frames, n, n, 3), np.uint8)
    for frame in range(frames):
        speckle = rng.gamma(2.0, 22.0, (n, n)).astype(np.float32) * np.exp(-0.5 * depth)
        radius = 0.16 + 0.03 * np.sin(2 * np.pi * frame / frames)
        vessel = _ellipse(x, y, 0.05, 0.1, radius, radius * 0.8)
        grey = np.where(sector, np.where(vessel, 8, 40 + 2.2 * speckle), 0).clip(0, 255).astype(np.uint8)
        out[frame] = grey[..., None]
        flow = vessel & sector
        out[frame][flow] = (160 + int(60 * np.sin(2 * np.pi * frame / frames)), 20, 30)
    return out
