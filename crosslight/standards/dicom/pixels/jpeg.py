"""JPEG that Pillow does not read, by libjpeg-turbo (imagecodecs; PS3.5 8.2.1).

Lossless, and Extended with 12 bits.

A plugin of pydicom's decoders. Like all decoding it runs only inside ``Workers.run_bounded`` (D27), and is
imported there, when the first such frame comes.
"""

from __future__ import annotations

from contextlib import suppress
from importlib.util import find_spec
from typing import Any

from pydicom.pixels import get_decoder
from pydicom.uid import JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1

NAME = "libjpeg-turbo"
DECODER_DEPENDENCIES = dict.fromkeys((JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1), ("imagecodecs",))


def is_available(uid: str) -> bool:
    """Whether it decodes this transfer syntax here; asked by pydicom."""
    return uid in DECODER_DEPENDENCIES and find_spec("imagecodecs") is not None


def _decode_frame(src: bytes, runner: Any) -> bytes:
    """One frame, as it was coded: no colour is converted.

    Lossless JPEG carries none that would have to be.
    """
    import imagecodecs

    image = imagecodecs.jpeg8_decode(src)
    runner.set_option("bits_allocated", 8 * image.dtype.itemsize)
    if runner.samples_per_pixel > 1:
        runner.set_option("planar_configuration", 0)
    return bytes(image.tobytes())


def register() -> None:
    """Make pydicom use it; harmless to repeat."""
    for uid in DECODER_DEPENDENCIES:
        with suppress(ValueError):  # it is there already
            get_decoder(uid).add_plugin(NAME, (__name__, "_decode_frame"))
