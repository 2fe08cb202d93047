"""Pictures, frame layouts and re-encoding, on made images and on pydicom's own test files."""

from __future__ import annotations

import subprocess
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import node_serving
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import pixel_array
from pydicom.uid import ExplicitVRBigEndian, JPEGBaseline8Bit, JPEGLossless

from crosslight.standards.dicom.pixels import jpeg, render
from crosslight.standards.dicom.pixels.frames import find_frames, native_layout
from crosslight.standards.dicom.pixels.render import RenderOptions, parse_options, render_frame
from crosslight.standards.dicom.pixels.transcode import can_decode, decode_frame, pixels_of, transcode
from crosslight.standards.problem import (
    CrosslightError,
    Invalid,
    Malformed,
    NotAcceptable,
    NotFound,
    TooLarge,
)

PNG = RenderOptions(media="image/png")
#: Of pydicom's files: cut short or wrong on purpose; and those in a codec that a platform without imagecodecs
#: has not.
UNREADABLE = {"MR_truncated.dcm", "badVR.dcm", "SC_rgb_jpeg.dcm", "JPEG2000-embedded-sequence-delimiter.dcm"}
WITH_CODEC = jpeg.is_available(JPEGLossless)
NO_CODEC = set() if WITH_CODEC else {"JPEG-lossy.dcm", "JPGExtended.dcm", "SC_rgb_jpeg_gdcm.dcm"}


def picture(
    ds: Dataset, options: RenderOptions = PNG, frame: int = 1, max_pixels: int = 1 << 24
) -> npt.NDArray[Any]:
    data = render_frame(BytesIO(node_serving.part10(ds)), frame, options, max_pixels)
    return np.asarray(Image.open(BytesIO(data)))


def ramp(**more: Any) -> Dataset:
    """16 x 16 pixels of 0, 16, 32 … 4080."""
    return node_serving.ct(**{"PixelData": (np.arange(256, dtype="<u2") * 16).tobytes()} | more)


def test_without_a_window_the_values_fill_the_range() -> None:
    assert np.array_equal(picture(ramp()).ravel(), np.arange(256))
    assert np.array_equal(picture(ramp(PixelPaddingValue=4080, PixelRepresentation=0)).ravel()[:3], [0, 1, 2])


def test_monochrome1_is_turned() -> None:
    assert np.array_equal(
        picture(ramp(PhotometricInterpretation="MONOCHROME1")).ravel(), np.arange(256)[::-1]
    )
    assert np.array_equal(picture(ramp(PresentationLUTShape="INVERSE")).ravel(), np.arange(256)[::-1])


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        # PS3.3 C.11.2.1.2.1: y = ((x - (c - 0.5)) / (w - 1) + 0.5) over 0..255
        ("LINEAR", lambda x: np.clip((x - 1999.5) / 999 + 0.5, 0, 1)),
        ("LINEAR_EXACT", lambda x: np.clip((x - 2000) / 1000 + 0.5, 0, 1)),
        ("SIGMOID", lambda x: 1 / (1 + np.exp(-4 * (x - 2000) / 1000))),
    ],
)
def test_windows(function: str, expected: Any) -> None:
    values = np.arange(256) * 16.0
    found = picture(ramp(WindowCenter=2000, WindowWidth=1000, VOILUTFunction=function)).ravel()
    assert np.array_equal(found, np.rint(expected(values) * 255))
    asked = RenderOptions(media="image/png", window=(2000, 1000, function.lower().replace("_", "-")))
    assert np.array_equal(picture(ramp(WindowCenter=[1, 5], WindowWidth=[2, 6]), asked).ravel(), found)


def test_windows_apply_to_rescaled_values() -> None:
    shifted = picture(ramp(RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=3000, WindowWidth=2001))
    plain = picture(ramp(WindowCenter=2000.25, WindowWidth=1001))
    assert np.abs(shifted.astype(int) - plain.astype(int)).max() <= 1


def test_voi_lut() -> None:
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [256, 0, 8], np.arange(255, -1, -1, dtype="<u2").tobytes()
    found = picture(ramp(PixelData=np.arange(256, dtype="<u2").tobytes(), VOILUTSequence=[item]))
    assert np.array_equal(found.ravel(), np.arange(256)[::-1])


def test_enhanced_windows_are_per_frame() -> None:
    items = []
    for centre in (100, 3000):
        voi = Dataset()
        voi.WindowCenter, voi.WindowWidth = centre, 1
        item = Dataset()
        item.FrameVOILUTSequence = [voi]
        items.append(item)
    ds = ramp(NumberOfFrames=2, PerFrameFunctionalGroupsSequence=items)
    ds.PixelData = ds.PixelData * 2
    first, second = picture(ds, frame=1), picture(ds, frame=2)
    assert (int((first == 255).sum()), int((second == 255).sum())) == (256 - 7, 256 - 188)


def test_colour_and_palette() -> None:
    rgb = np.zeros((16, 16, 3), "u1")
    rgb[..., 1] = np.arange(256).reshape(16, 16)
    colour: dict[str, Any] = {
        "SamplesPerPixel": 3,
        "PhotometricInterpretation": "RGB",
        "PlanarConfiguration": 0,
    }
    colour |= {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    assert np.array_equal(picture(node_serving.ct(PixelData=rgb.tobytes(), **colour)), rgb)
    planes = node_serving.ct(
        PixelData=rgb.transpose(2, 0, 1).tobytes(), **(colour | {"PlanarConfiguration": 1})
    )
    assert np.array_equal(picture(planes), rgb)


def test_viewport_crop_flip_and_aspect() -> None:
    wide = RenderOptions(media="image/png", width=64, height=32)
    assert picture(ramp(), wide).shape == (32, 32)  # proportions are kept
    huge = RenderOptions(media="image/png", width=8192, height=8192)
    assert picture(ramp(), huge).shape == (2048, 2048)  # made no larger: nothing more would be seen
    crop = RenderOptions(media="image/png", crop=(4, 0, 4, 2))
    assert np.array_equal(picture(ramp(), crop), np.arange(256).reshape(16, 16)[0:2, 4:8])
    flip = RenderOptions(media="image/png", crop=(0, 0, -16, -16))
    assert np.array_equal(picture(ramp(), flip).ravel(), np.arange(256)[::-1])
    with pytest.raises(Invalid):
        picture(ramp(), RenderOptions(media="image/png", crop=(99, 99, 4, 4)))
    assert picture(ramp(PixelAspectRatio=[2, 1])).shape == (32, 16)


@pytest.mark.parametrize(
    "query",
    [
        {"viewport": "1"},
        {"viewport": "0,10"},
        {"viewport": "10,99999"},
        {"viewport": "a,b"},
        {"viewport": "1,2,3"},
        {"viewport": "10,10,nan,0,1,1"},
        {"window": "40"},
        {"window": "40,0,linear"},
        {"window": "40,400,cubic"},
        {"window": "inf,400"},
        {"quality": "0"},
        {"quality": "101"},
        {"quality": "x"},
    ],
)
def test_bad_parameters_are_named(query: dict[str, str]) -> None:
    with pytest.raises(Invalid) as caught:
        parse_options(query, "image/jpeg", max_side=1000)
    assert caught.value.where == next(iter(query))


def test_good_parameters() -> None:
    query = {"viewport": "200,100,10,,50,60", "window": "40,400,sigmoid", "quality": "50"}
    options = parse_options(query, "image/png", max_side=1000, thumbnail_side=9)
    assert options == RenderOptions(
        media="image/png",
        width=200,
        height=100,
        crop=(10, 0, 50, 60),
        window=(40, 400, "sigmoid"),
        quality=50,
    )
    assert parse_options({}, "image/jpeg", max_side=1000, thumbnail_side=9).width == 9


def test_bounds_and_absence() -> None:
    with pytest.raises(TooLarge):
        picture(ramp(), max_pixels=255)
    with pytest.raises(NotFound):
        picture(ramp(), frame=2)
    bare = node_serving.ct()
    del bare.PixelData, bare.Rows
    with pytest.raises(NotAcceptable):
        picture(bare)
    with pytest.raises(NotAcceptable):
        render_frame(BytesIO(b"no dicom"), 1, PNG, 99)
    with pytest.raises(TooLarge):
        transcode(BytesIO(node_serving.part10(ramp())), BytesIO(), 255)


@pytest.mark.parametrize(
    ("name", "coded"),
    [
        ("PhotometricInterpretation", b"\x28\0\4\0CS\x0c\0MONOCHROME2 "),
        ("BitsAllocated", b"\x28\0\0\1US\2\0\x10\0"),
    ],
)
def test_what_a_picture_needs_and_lacks_is_named(name: str, coded: bytes) -> None:
    whole = node_serving.part10(ramp())
    assert whole.count(coded) == 1
    with pytest.raises(NotAcceptable, match=name):
        render_frame(BytesIO(whole.replace(coded, b"")), 1, PNG, 1 << 24)


def samples() -> list[Any]:
    return [pytest.param(path, id=path.name) for path in node_serving.sample_files()]


@pytest.mark.parametrize("path", samples())
def test_every_sample_renders_or_says_why(path: Path) -> None:
    with warnings.catch_warnings(), path.open("rb") as source:
        warnings.simplefilter("ignore")
        ds = pydicom.dcmread(path)
        fails = "PixelData" not in ds or not ds.get("Rows") or path.name in UNREADABLE | NO_CODEC
        for media, magic in (("image/jpeg", b"\xff\xd8"), ("image/png", b"\x89PNG")):
            options = RenderOptions(media="image/png" if media == "image/png" else "image/jpeg")
            source.seek(0)
            if fails:
                with pytest.raises(NotAcceptable):
                    render_frame(source, 1, options, 1 << 24)
            else:
                assert render_frame(source, 1, options, 1 << 24).startswith(magic)


@pytest.mark.parametrize("path", samples())
def test_frames_of_every_sample_are_where_the_layout_says(path: Path) -> None:
    with warnings.catch_warnings(), path.open("rb") as source:
        warnings.simplefilter("ignore")
        ds = pydicom.dcmread(path)
        try:
            layout = find_frames(source)
        except Malformed:
            assert path.name in UNREADABLE | {"nested_priv_SQ.dcm"}
            return
        if layout.kind not in ("native", "encapsulated"):
            assert "PixelData" not in ds or ds.file_meta.TransferSyntaxUID.is_deflated
            return
        count = int(ds.get("NumberOfFrames") or 1)
        assert layout.frames == count
        frames = []
        for number in range(1, count + 1):
            data = b""
            for offset, length in layout.spans_of(number):
                source.seek(offset)
                data += source.read(length)
            frames.append(layout.cut(number, data))
        if layout.kind == "encapsulated":
            assert frames == list(generate_frames(ds.PixelData, number_of_frames=count))
        else:
            assert b"".join(frames) == ds.PixelData[: len(b"".join(frames))]
            assert len(ds.PixelData) - len(b"".join(frames)) in (0, 1) or path.name == "MR_small_padded.dcm"


@pytest.mark.parametrize("path", [p for p in samples() if p.id not in UNREADABLE])
def test_a_frame_alone_is_what_pydicom_reads_of_the_whole(path: Path) -> None:
    """Values that are looked up in a table give the same picture as each by itself."""
    ds = pydicom.dcmread(path, stop_before_pixels=True)
    for frame in range(1, min(3, int(ds.get("NumberOfFrames") or 1)) + 1):
        try:
            expected = pixel_array(path, index=frame - 1)
        except Exception:
            return
        with path.open("rb") as source:
            header = pydicom.dcmread(source, stop_before_pixels=True)
            pixels = pixels_of(source, header, frame)
        assert pixels.dtype == expected.dtype
        assert np.array_equal(pixels, expected)
        if render._is_colour(ds):
            continue
        for window in (None, (40.0, 400.0, "linear"), (100.0, 0.5, "sigmoid")):
            with_table = render._grey(ds, pixels, frame - 1, window)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(render, "_distinct", lambda pixels, every: None)
                assert np.array_equal(with_table, render._grey(ds, pixels, frame - 1, window))


def test_one_bit_frames_are_cut_at_their_bits() -> None:
    values = {"Rows": 3, "Columns": 3, "SamplesPerPixel": 1, "BitsAllocated": 1, "NumberOfFrames": 3}
    bits = [1, 0, 1, 1, 0, 0, 1, 1, 1, *[0, 1] * 4, 1, *[1] * 9]
    data = np.packbits(bits, bitorder="little").tobytes()
    layout = native_layout(values, offset=100, length=len(data))
    for number in (1, 2, 3):
        ((offset, length),) = layout.spans_of(number)
        frame = layout.cut(number, data[offset - 100 : offset - 100 + length])
        assert (
            np.unpackbits(np.frombuffer(frame, "u1"), bitorder="little")[:9].tolist()
            == bits[9 * number - 9 : 9 * number]
        )
    with pytest.raises(Malformed):
        native_layout(values | {"NumberOfFrames": 4}, offset=0, length=4)


@pytest.mark.parametrize("has_bot", [True, False])
def test_frames_in_several_fragments(has_bot: bool) -> None:
    frames = [b"\xff\xd8" + bytes([i]) * 400 + b"\xff\xd9" for i in range(4)]
    ds = node_serving.ct(NumberOfFrames=4)
    ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    ds.PixelData = encapsulate(frames, fragments_per_frame=3, has_bot=has_bot)
    ds["PixelData"].is_undefined_length = True
    data = node_serving.part10(ds)
    layout = find_frames(BytesIO(data))
    assert [len(layout.spans_of(n)) for n in range(1, 5)] == [3] * 4
    for number, frame in enumerate(frames, 1):
        assert b"".join(data[o : o + n] for o, n in layout.spans_of(number)).startswith(frame)


@pytest.mark.parametrize("path", samples())
def test_every_sample_is_given_in_explicit_little_endian_or_refused(path: Path) -> None:
    with warnings.catch_warnings(), path.open("rb") as source:
        warnings.simplefilter("ignore")
        ds = pydicom.dcmread(path)
        out = BytesIO()
        try:
            transcode(source, out, 1 << 26)
        except NotAcceptable:
            assert path.name in UNREADABLE | NO_CODEC | {"nested_priv_SQ.dcm"} or not ds.get("Rows")
            return
        out.seek(0)
        again = pydicom.dcmread(out)
        assert again.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
        assert again.SOPInstanceUID == ds.SOPInstanceUID
        if "PixelData" in ds and path.name not in UNREADABLE:
            assert np.array_equal(again.pixel_array, ds.pixel_array)
            source.seek(0)
            one = ds.pixel_array[0] if int(ds.get("NumberOfFrames") or 1) > 1 else ds.pixel_array
            assert decode_frame(source, 1, 1 << 26) == one.astype(one.dtype.newbyteorder("<")).tobytes()


def test_what_can_be_decoded() -> None:
    assert can_decode(ExplicitVRBigEndian)
    assert can_decode("1.2.840.10008.1.2.4.90")
    assert can_decode(JPEGLossless) is WITH_CODEC
    assert not can_decode("1.2.840.10008.1.2.4.102")  # MPEG-4
    assert not can_decode("1.2.3")


@pytest.mark.skipif(not WITH_CODEC, reason="no imagecodecs for this platform")
@pytest.mark.parametrize("sample", ["CT_small.dcm", "MR_small.dcm", "examples_rgb_color.dcm"])
def test_lossless_jpeg_as_another_coder_writes_it(tmp_path: Path, sample: str) -> None:
    """What most archives hold; dcmtk codes it, signed and in colour too."""
    source, coded = {p.name: p for p in node_serving.sample_files()}[sample], tmp_path / "coded.dcm"
    subprocess.run(["dcmcjpeg", "+e1", source, coded], check=True)
    before, after = pydicom.dcmread(source), BytesIO()
    with coded.open("rb") as handle:
        transcode(handle, after, 1 << 26)
        handle.seek(0)
        assert render_frame(handle, 1, PNG, 1 << 24) == render_frame(
            BytesIO(source.read_bytes()), 1, PNG, 1 << 24
        )
    after.seek(0)
    assert np.array_equal(pydicom.dcmread(after).pixel_array, before.pixel_array)


@pytest.mark.parametrize("path", samples())
def test_cut_and_changed_files_raise_only_our_errors(path: Path) -> None:
    data = path.read_bytes()[:50_000]
    for cut in (140, len(data) // 2, len(data) - 3):
        changed = bytearray(data[:cut])
        for at in range(300, len(changed), 997):
            changed[at] ^= 0xFF
        for sample in (data[:cut], bytes(changed)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for call in (lambda s: render_frame(s, 1, PNG, 1 << 22), find_frames):
                    try:
                        call(BytesIO(sample))
                    except CrosslightError:
                        pass
