"""Pixel data to an 8-bit picture (PS3.18 8.3.5, 10.4.1.3; PS3.3 C.7.6.3, C.7.6.16, C.11).

The grey scale pipeline of PS3.4 N.2: modality LUT or rescale, VOI LUT or window, presentation (MONOCHROME1
and PresentationLUTShape INVERSE), to 0..255. Colour (RGB, YBR, palette) is brought to 8-bit RGB. Overlays,
presentation states and ICC profiles are not applied. Decodes untrusted bytes: call only inside
``Workers.run_bounded`` (D27).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import pydicom
from PIL import Image
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_rescale

from crosslight.standards.dicom.pixels.transcode import pixels_of
from crosslight.standards.problem import (
    CrosslightError,
    Invalid,
    NotAcceptable,
    NotFound,
    TooLarge,
    kind_as_sentence,
)
from crosslight.standards.study import whole_number

Grey = npt.NDArray[np.float64]
VOI_FUNCTIONS = ("linear", "linear-exact", "sigmoid")  # PS3.18 8.3.5.1.4
MOST_SCALED_UP = 1 << 22  # pixels: what is not in a picture costs time and shows nothing
MEDIA_TYPES = {"image/jpeg": "JPEG", "image/png": "PNG"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderOptions:
    """How to render: what a URL can ask for. Hashable, so that it can be a cache key."""

    media: Literal["image/jpeg", "image/png"] = "image/jpeg"
    width: int = 0  # of the viewport in pixels; 0 = as stored
    height: int = 0
    # sx, sy, sw, sh of the source; negative sw, sh flip
    crop: tuple[float, float, float, float] | None = None
    window: tuple[float, float, str] | None = None  # centre, width, function
    quality: int = 90  # of JPEG, 1..100


def parse_options(
    query: dict[str, str], media: str, *, max_side: int, thumbnail_side: int = 0
) -> RenderOptions:
    """The rendering parameters of a URL (PS3.18 8.3.5).

    Args:
        query: Names and values.
        media: The negotiated media type.
        max_side: Bound of the viewport.
        thumbnail_side: Side of the default viewport, for thumbnails.

    Raises:
        Invalid: naming the parameter.
    """
    if "viewport" in query:
        width, height, crop = _viewport(query["viewport"], max_side)
    else:
        width, height, crop = thumbnail_side, thumbnail_side, None
    quality = query.get("quality", "90")
    if not 1 <= whole_number(quality, 0) <= 100:
        raise Invalid("quality must be 1 to 100.", why="PS3.18 8.3.5.1.2.", where="quality")
    return RenderOptions(
        media="image/png" if media == "image/png" else "image/jpeg",
        width=width,
        height=height,
        crop=crop,
        window=_window_parameter(query["window"]) if "window" in query else None,
        quality=int(quality),
    )


def _numbers(text: str, name: str) -> list[float]:
    try:
        numbers = [float(part) if part.strip() else 0.0 for part in text.split(",")]
    except ValueError:
        raise Invalid(f"{name} is not a list of numbers.", where=name) from None
    if not all(math.isfinite(number) and abs(number) < 1e9 for number in numbers):
        raise Invalid(f"{name} has a number out of range.", where=name)
    return numbers


def _viewport(text: str, max_side: int) -> tuple[int, int, tuple[float, float, float, float] | None]:
    numbers = _numbers(text, "viewport")
    if len(numbers) not in (2, 6) or not all(1 <= side <= max_side for side in numbers[:2]):
        raise Invalid(
            "viewport is vw,vh or vw,vh,sx,sy,sw,sh.",
            why=f"PS3.18 8.3.5.1.3; sides of 1 to {max_side}.",
            where="viewport",
        )
    crop = (numbers[2], numbers[3], numbers[4], numbers[5]) if len(numbers) == 6 else None
    return int(numbers[0]), int(numbers[1]), crop


def _window_parameter(text: str) -> tuple[float, float, str]:
    parts = text.split(",")
    function = parts[2].strip().lower() if len(parts) == 3 else "linear"
    numbers = _numbers(",".join(parts[:2]), "window")
    if len(parts) not in (2, 3) or len(numbers) != 2 or function not in VOI_FUNCTIONS or numbers[1] <= 0:
        raise Invalid("window is centre,width,function.", why="PS3.18 8.3.5.1.4.", where="window")
    return numbers[0], numbers[1], function


def render_frame(source: BinaryIO, frame: int, options: RenderOptions, max_pixels: int) -> bytes:
    """One frame of a Part 10 file as JPEG or PNG.

    Args:
        source: The file, seekable.
        frame: From 1.
        options: What was asked for.
        max_pixels: Bound of rows x columns, before anything is decoded.

    Raises:
        NotFound: there is no such frame.
        NotAcceptable: it holds no picture, or one that cannot be decoded here.
        TooLarge: over ``max_pixels``.
    """
    try:
        return _render(source, frame, options, max_pixels)
    except CrosslightError:
        raise
    except Exception as error:  # noqa: BLE001 - pydicom and the decoders have no common base
        raise NotAcceptable("This instance cannot be rendered here.", why=kind_as_sentence(error)) from None


def _render(source: BinaryIO, frame: int, options: RenderOptions, max_pixels: int) -> bytes:
    ds = pydicom.dcmread(source, stop_before_pixels=True)
    rows, columns = int(ds.get("Rows") or 0), int(ds.get("Columns") or 0)
    frames = int(ds.get("NumberOfFrames") or 1)
    if rows <= 0 or columns <= 0:
        raise NotAcceptable("This instance holds no picture.", todo="Retrieve the instance itself.")
    if missing := [name for name in ("PhotometricInterpretation", "BitsAllocated") if not ds.get(name)]:
        why = f"{' and '.join(missing)} is missing (PS3.3 C.7.6.3): how its pixels are meant is not guessed."
        raise NotAcceptable(
            "This instance cannot be rendered here.", why=why, todo="Retrieve the instance itself."
        )
    if not 1 <= frame <= frames:
        raise NotFound(f"There is no frame {frame}.", why=f"The instance has {frames}.", where="frames")
    if rows * columns > max_pixels:
        raise TooLarge("The picture is too large to render here.", why=f"Limit here: {max_pixels} pixels.")
    pixels = pixels_of(source, ds, frame)
    picture = _colour(ds, pixels) if _is_colour(ds) else _grey(ds, pixels, frame - 1, options.window)
    image = Image.fromarray(picture)
    return _encode(_fit(_square(image, ds), options), options)


def _is_colour(ds: pydicom.Dataset) -> bool:
    return int(ds.get("SamplesPerPixel") or 1) > 1 or ds.get("PhotometricInterpretation") == "PALETTE COLOR"


def _colour(ds: pydicom.Dataset, pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """To 8-bit RGB; pydicom has made RGB of YBR already."""
    bits = int(ds.get("BitsStored") or 8)
    if ds.get("PhotometricInterpretation") == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, ds)
        bits = 8 * pixels.dtype.itemsize
        # 8-bit entries in a 16-bit table (PS3.3 C.7.6.3.1.5)
        if bits == 16 and pixels.size and pixels.max() <= 255:
            bits = 8
    if bits > 8:
        pixels = pixels >> (bits - 8)
    return np.ascontiguousarray(pixels[..., :3], dtype=np.uint8)


def _grey(
    ds: pydicom.Dataset, pixels: npt.NDArray[Any], index: int, asked: tuple[float, float, str] | None
) -> npt.NDArray[np.uint8]:
    groups = _functional_groups(ds, index)
    voi = asked or _stored_window(groups.get("FrameVOILUTSequence", ds), ds)
    pixels = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))
    levels = _distinct(pixels, every=voi is None)
    if levels is None:
        return _shades(ds, groups, pixels, voi, asked is not None)
    unsigned = np.dtype(f"u{pixels.itemsize}")
    table = np.zeros(1 << 16, dtype=np.uint8)
    table[levels.view(unsigned)] = _shades(ds, groups, levels, voi, asked is not None)
    shades: npt.NDArray[np.uint8] = np.take(table, pixels.view(unsigned))
    return shades


def _distinct(pixels: npt.NDArray[Any], *, every: bool) -> npt.NDArray[Any] | None:
    """The values that stand in ``pixels``, or None: do what is to be done to each pixel.

    Given where they are few beside the pixels: what is done to a value is then done once. ``every``: none
    that does not stand there.
    """
    if pixels.dtype.kind not in "iu" or pixels.itemsize > 2 or not pixels.size:
        return None
    low, high = int(pixels.min()), int(pixels.max())
    if high - low >= pixels.size // 2:
        return None
    if not every:
        return np.arange(low, high + 1).astype(pixels.dtype)
    unsigned = np.dtype(f"u{pixels.itemsize}")
    return np.flatnonzero(np.bincount(pixels.ravel().view(unsigned))).astype(unsigned).view(pixels.dtype)


def _shades(
    ds: pydicom.Dataset,
    groups: dict[str, pydicom.Dataset],
    pixels: npt.NDArray[Any],
    voi: tuple[float, float, str] | None,
    asked: bool,
) -> npt.NDArray[np.uint8]:
    """Stored values to shades of grey."""
    values = np.asarray(_modality(ds, groups, pixels), dtype=np.float64)
    lut = ds.get("VOILUTSequence") if not asked else None
    if voi is not None:
        unit = _windowed(values, *voi)
    elif lut:
        unit = _table(lut[0], values)
    else:
        low, high = _range_of(ds, values)
        unit = (values - low) / (high - low) if high > low else np.zeros_like(values)
    dark_is_high = (
        ds.get("PhotometricInterpretation") == "MONOCHROME1" or ds.get("PresentationLUTShape") == "INVERSE"
    )
    unit = np.clip(np.nan_to_num(unit), 0.0, 1.0)
    return np.rint((1.0 - unit if dark_is_high else unit) * 255.0).astype(np.uint8)


def _functional_groups(ds: pydicom.Dataset, index: int) -> dict[str, pydicom.Dataset]:
    """The first items of the groups that matter here: per frame before shared (PS3.3 C.7.6.16)."""
    groups: dict[str, pydicom.Dataset] = {}
    shared, per_frame = ds.get("SharedFunctionalGroupsSequence"), ds.get("PerFrameFunctionalGroupsSequence")
    items = [shared[0]] if shared else []
    if per_frame and index < len(per_frame):
        items.append(per_frame[index])
    for item in items:
        for name in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            if item.get(name):
                groups[name] = item[name].value[0]
    return groups


def _modality(
    ds: pydicom.Dataset, groups: dict[str, pydicom.Dataset], pixels: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    if "PixelValueTransformationSequence" in groups:
        return np.asarray(apply_rescale(pixels, groups["PixelValueTransformationSequence"]))
    return np.asarray(apply_modality_lut(pixels, ds))


def _first(value: Any) -> float | None:
    try:
        number = float(value[0] if isinstance(value, pydicom.multival.MultiValue) else value)
    except (TypeError, ValueError, IndexError):
        return None
    return number if math.isfinite(number) else None


def _stored_window(item: pydicom.Dataset, ds: pydicom.Dataset) -> tuple[float, float, str] | None:
    centre, width = _first(item.get("WindowCenter")), _first(item.get("WindowWidth"))
    if centre is None or width is None or width <= 0:
        return None
    function = (
        str(item.get("VOILUTFunction") or ds.get("VOILUTFunction") or "LINEAR").lower().replace("_", "-")
    )
    return centre, width, function if function in VOI_FUNCTIONS else "linear"


def _windowed(values: Grey, centre: float, width: float, function: str) -> Grey:
    """Values to 0..1 (PS3.3 C.11.2.1.2.1, C.11.2.1.3)."""
    if function == "sigmoid":
        result: Grey = 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - centre) / width, -700, 700)))
        return result
    if function == "linear":
        if width <= 1:
            return (values > centre - 0.5).astype(np.float64)
        centre, width = centre - 0.5, width - 1.0
    return (values - centre) / width + 0.5


def _table(item: pydicom.Dataset, values: Grey) -> Grey:
    """Values through a VOI LUT to 0..1 (PS3.3 C.11.2.1.1)."""
    entries, first, bits = (int(part) for part in item.LUTDescriptor)
    entries = entries or 1 << 16
    if first >= 1 << 15 and values.size and values.min() < 0:  # signed input, descriptor read as unsigned
        first -= 1 << 16
    data = item.LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, dtype="<u2" if len(data) >= 2 * entries else "u1")
    table = np.asarray(data, dtype=np.float64)[:entries]
    index = np.clip(values - first, 0, len(table) - 1).astype(np.int64)
    top = float((1 << bits) - 1) if 8 <= bits <= 16 else 65535.0
    result: Grey = table[index] / top
    return result


def _range_of(ds: pydicom.Dataset, values: Grey) -> tuple[float, float]:
    """Black and white without a window: smallest and largest value.

    Padding is left out (C.7.5.1.1.2).
    """
    padding = ds.get("PixelPaddingValue")
    if isinstance(padding, int) and not ds.get("ModalityLUTSequence"):
        mapped = padding * float(ds.get("RescaleSlope") or 1) + float(ds.get("RescaleIntercept") or 0)
        shown = values[values != mapped]
        if shown.size:
            return float(shown.min()), float(shown.max())
    return float(values.min()), float(values.max())


# --- geometry and encoding ----------------------------------------------------------------------------------


def _square(image: Image.Image, ds: pydicom.Dataset) -> Image.Image:
    """Square pixels (C.7.6.3.1.7), at most four times the rows."""
    ratio = ds.get("PixelAspectRatio")
    if not ratio or len(ratio) != 2:
        return image
    down, across = (float(part) for part in ratio)
    if down <= 0 or across <= 0 or down == across or not 0.25 <= down / across <= 4:
        return image
    return image.resize((image.width, max(1, round(image.height * down / across))), Image.Resampling.BILINEAR)


def _fit(image: Image.Image, options: RenderOptions) -> Image.Image:
    """Crop, flip, then scale into the viewport with the picture's own proportions (8.3.5.1.3).

    A small picture is made no larger than :data:`MOST_SCALED_UP` pixels: whoever shows it can do the rest.
    """
    if options.crop is not None:
        sx, sy, sw, sh = options.crop
        wide, high = abs(sw) or image.width - sx, abs(sh) or image.height - sy
        box = (
            max(0, round(sx)),
            max(0, round(sy)),
            min(image.width, round(sx + wide)),
            min(image.height, round(sy + high)),
        )
        if box[2] <= box[0] or box[3] <= box[1]:
            raise Invalid("viewport lies outside the picture.", where="viewport")
        image = image.crop(box)
        if sw < 0:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if sh < 0:
            image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    if not options.width:
        return image
    scale = min(options.width / image.width, options.height / image.height)
    if scale > 1:
        scale = min(scale, max(1.0, math.sqrt(MOST_SCALED_UP / (image.width * image.height))))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)


def _encode(image: Image.Image, options: RenderOptions) -> bytes:
    out = BytesIO()
    if options.media == "image/png":
        image.save(out, "PNG", compress_level=3)
    else:
        image.save(out, "JPEG", quality=options.quality)
    return out.getvalue()
