"""Images as arrays of pixels: rows, columns and, where there are several, channels last."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import FileError, MachineError
from .references import check_regular

Array = NDArray[Any]

_MISSING = "pip install 'dense2conv[images]'"

# What tifffile calls the axes that a map has; of any other the user must say what it is.
_TIFF_AXES = {"Y": "H", "X": "W", "S": "C", "C": "C", "Z": "D"}


def open_pillow(path: str) -> tuple[Array, str | None]:
    """The pixels of a PNG or JPEG, (H, W) or (H, W, C), and these letters; a palette is looked up.

    The whole image is decoded into memory. Raises ``FileError`` for a damaged image, or one of more pixels than Pillow
    takes for honest; ``MachineError`` without Pillow.
    """
    check_regular(path)
    try:
        from PIL import Image
    except ImportError as error:
        raise MachineError(
            "Pillow is not installed, and reads this file", file=path, hint=_MISSING
        ) from error
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                if image.mode in ("P", "PA"):
                    image = image.convert("RGBA" if "transparency" in image.info else "RGB")
                elif image.mode == "1":
                    image = image.convert("L")
                pixels = np.asarray(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise FileError(
            f"the image is too large to be decoded as a whole: {error}",
            file=path,
            hint="save it as .tif without compression, .npy or .zarr: those are read in parts",
        ) from error
    except Exception as error:  # whatever the decoder says
        raise FileError(f"not an image that can be read: {error}", file=path) from error
    return pixels, "HWC"[: pixels.ndim]


def open_tiff(path: str) -> tuple[Array, str | None]:
    """The pixels of a TIFF's first series and, where the file says what its axes are, their letters.

    Mapped where they lie, or decoded into a temporary file that is. Raises as ``open_pillow`` does.
    """
    check_regular(path)
    try:
        import tifffile
    except ImportError as error:
        raise MachineError(
            "tifffile is not installed, and reads this file", file=path, hint=_MISSING
        ) from error
    try:
        with tifffile.TiffFile(path) as file:
            series = file.series[0]
            axes = "".join(_TIFF_AXES.get(letter, "?") for letter in series.axes)
        try:
            pixels = tifffile.memmap(path, series=0, mode="r")
        except ValueError:  # packed, or in pieces
            pixels = tifffile.imread(path, series=0, out="memmap")
    except Exception as error:  # whatever the decoder says
        raise FileError(f"not an image that can be read: {error}", file=path) from error
    array: Array = np.asarray(pixels)
    return array, axes if "?" not in axes and len(set(axes)) == len(axes) == array.ndim else None
