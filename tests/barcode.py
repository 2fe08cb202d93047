"""Pictures that say in their pixels which they are: a row of black and white fields along the upper edge,
that JPEG and scaling leave readable, and the script that reads them back from what a browser has painted."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

FIELDS = 20  # two for a check (black, white), then 6 + 10 + 2 bits, the highest first
PARTS = (6, 10, 2)  # series, number, window


def fields(series: int, number: int, window: int = 0) -> list[bool]:
    """Which fields are white."""
    bits = "".join(f"{value:0{width}b}" for value, width in zip((series, number, window), PARTS, strict=True))
    assert len(bits) == FIELDS - 2, "a part is too large"
    return [False, True, *(bit == "1" for bit in bits)]


def stamp(
    pixels: npt.NDArray[Any], series: int, number: int, window: int = 0, *, black: int = 0, white: int = 255
) -> None:
    """Write the fields over the upper sixteenth of a picture."""
    high, wide = pixels.shape[:2]
    for n, is_white in enumerate(fields(series, number, window)):
        pixels[: high // 16, n * wide // FIELDS : (n + 1) * wide // FIELDS] = white if is_white else black


def stamp_slice(ds: Dataset, series: int, number: int) -> None:
    """Write the fields into a CT slice, in Hounsfield units: black and white in every window, but the last
    two, by which the windows of :data:`SLICE_WINDOWS` can be told apart."""
    pixels = np.frombuffer(ds.PixelData, dtype="<i2").reshape(ds.Rows, ds.Columns).copy()
    stamp(pixels, series, number, black=-1400, white=2000)
    field = ds.Columns // FIELDS
    for n, units in ((FIELDS - 2, -300), (FIELDS - 1, 150)):
        pixels[: ds.Rows // 16, n * ds.Columns // FIELDS : n * ds.Columns // FIELDS + field] = units
    ds.PixelData = pixels.tobytes()


#: What the last two fields of a stamped slice read as -> the window it is shown in; stored is 40, 400.
SLICE_WINDOWS = {0b01: "", 0b11: "Lung", 0b00: "Bone"}


def blank(side: int) -> npt.NDArray[np.uint8]:
    """A dark picture."""
    return np.full((side, side), 8, dtype=np.uint8)


#: For ``page.evaluate``: from then on ``window.seen`` grows by what is painted and what is written, at every
#: frame and tick.
#: ``code`` is [series, number, window] from the pixels; null where there is no picture, [] where the fields
#: cannot be read.
WATCH = """(() => {
  const look = document.createElement('canvas');
  look.width = 160; look.height = 1;
  const pen = look.getContext('2d', { willReadFrequently: true });
  const text = (id) => document.getElementById(id)?.textContent ?? null;
  const read = (image) => {
    const [wide, high] = [image.naturalWidth ?? image.width, image.naturalHeight ?? image.height];
    if (!wide) return [];
    pen.drawImage(image, 0, high / 32, wide, 1, 0, 0, 160, 1);
    const data = pen.getImageData(0, 0, 160, 1).data;
    const white = Array.from({ length: 20 }, (_, n) => data[4 * (n * 8 + 4)] > 127);
    if (white[0] || !white[1]) return [];
    const number = (from, n) => white.slice(from, from + n).reduce((sum, bit) => 2 * sum + Number(bit), 0);
    return [number(2, 6), number(8, 10), number(18, 2)];
  };
  window.seen = [];
  const note = () => {
    const image = document.querySelector('#picture canvas, #picture img');
    const row = {
      code: image ? read(image) : null, position: text('position'),
      window: text('window-name'), series: text('series-name'),
      whose: text('whose'), aria: image?.getAttribute('aria-label') ?? image?.alt ?? null,
      current: [...document.querySelectorAll('.series[aria-current="true"]')]
        .map((one) => one.dataset.series).join(),
      wanted: Number(document.getElementById('slider')?.value), at: performance.now(),
    };
    const before = window.seen.at(-1);
    const new_ = (key) => key !== 'at' && JSON.stringify(row[key]) !== JSON.stringify(before[key]);
    if (!before || Object.keys(row).some(new_)) window.seen.push(row);
  };
  const frame = () => { note(); requestAnimationFrame(frame); };
  frame();
  setInterval(note, 4);
})()"""
