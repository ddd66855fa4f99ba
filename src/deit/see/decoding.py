"""The bytes of an image file -> the image in the mode of the data, or one error that names the file.

What has 8 bits is converted as Pillow converts it: alpha is dropped without being painted over a ground (the colours
below transparent pixels show), palettes are looked up, an animation shows its first frame. An image is turned as its
EXIF data say, so that it is seen as people see it; torchvision's and timm's readers show it as it is stored. Grey
images of 16 bits are scaled, as Pillow would cut them off at 255; where the range of values is not known, an image is
refused.
"""

import io

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError

RESTORE_IMAGE = "Restore the original, or take the image away and declare one fewer"
LARGEST = 180_000_000
"""Pixels of an image that is read: twice what Pillow warns of, half a gigabyte of RGB."""
LARGEST_CHUNK = 1 << 26
"""Bytes of a PNG's colour profile or text, which Pillow keeps below 1 MB: cameras and scanners write larger ones."""
BITS_PER_SAMPLE = 258
"""A tag of TIFF."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF's orientation -> what makes the image upright; 1 and what is no orientation are not here."""

PngImagePlugin.MAX_TEXT_CHUNK = LARGEST_CHUNK  # pyrefly: ignore[bad-assignment]
Image.MAX_IMAGE_PIXELS = None  # above which Pillow warns, without a name; LARGEST stands in its place


class DamagedImage(OSError):
    """An image that cannot be shown. Its text is one line: file, what is wrong, remedy."""


def decoded(content: bytes, mode: str, place: str) -> Image.Image:
    """The image in a file's bytes, in mode L or RGB; `place` is the file, for messages. Raises DamagedImage."""
    try:
        image = Image.open(io.BytesIO(content))
        refuse_large(image, place)
        shown = eight_bit(image, place).convert(mode)
        turn = TURNS.get(orientation(image))
        return shown if turn is None else shown.transpose(turn)
    except (DamagedImage, MemoryError):
        raise
    except UnidentifiedImageError:
        raise damaged(place, f"cannot identify an image in its {len(content)} bytes") from None
    except Exception as error:  # of damaged files Pillow raises SyntaxError, ValueError, struct.error and others
        raise damaged(place, f"is damaged ({' '.join(str(error).split()) or type(error).__name__})") from error


def orientation(image: Image.Image) -> int:
    """EXIF's, of an image that was loaded: only then Pillow knows of data behind the pixels, and has turned a TIFF.

    ImageOps.exif_transpose would also write the EXIF data anew, and fail where these are odd.
    """
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # whatever Pillow raises of damaged EXIF data: the pixels are whole
        return 1


def damaged(place: str, what: str) -> DamagedImage:
    return DamagedImage(f"{place}: {what}. {RESTORE_IMAGE}.")


def refuse_large(image: Image.Image, place: str) -> None:
    if (pixels := image.width * image.height) > LARGEST:
        raise DamagedImage(
            f"{place}: has {pixels // 10**6} megapixels, and at most {LARGEST // 10**6} are read. Store it smaller."
        )


def eight_bit(image: Image.Image, place: str) -> Image.Image:
    """The image itself, or its 65,536 levels of grey rounded to 256.

    Raises DamagedImage where values have no known range.
    """
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    if not has_16_bits(image):
        raise DamagedImage(
            f"{place}: its values have no known range (Pillow's mode {image.mode}), and converting would cut them off "
            "at 255. Store it with 8 bits a channel, or as grey of 16 bits."
        )
    levels = np.asarray(image).astype(np.uint32)
    return Image.fromarray(((levels + 128) // 257).astype(np.uint8))


def has_16_bits(image: Image.Image) -> bool:
    """Whether grey values run to 65,535; in a TIFF those of 12 bits have the mode of 16, too."""
    if image.mode == "I":
        return image.format == "PPM"  # which Pillow scales
    return image.mode != "F" and tuple(getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, (16,))) == (16,)
