"""Bytes of image files -> images: what is converted, what is scaled, what is refused, and the look at all of them."""

import io
import json
import logging
import signal
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps, PngImagePlugin
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from deit.commands.prepare_data import prepare_data
from deit.see import decode_check
from deit.see.datasets import training_images
from deit.see.decoding import DamagedImage, decoded
from deit.see.recipes import EvaluationSet, PreparingData, Split, TrainingData
from deit.store.job import Job
from deit.store.seals import seal_of

NOISE = np.random.default_rng(0).integers(0, 256, (9, 16, 4), dtype=np.uint8)
RAMP = np.tile(np.arange(256, dtype=np.uint16) * 257, (2, 1))


def saved(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_with(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with further chunks after its header."""
    plain = saved(Image.fromarray(NOISE[..., :3]))
    packed = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return plain[:33] + b"".join(packed) + plain[33:]


def refusal(content: bytes) -> str:
    with pytest.raises(DamagedImage) as refused:
        decoded(content, "RGB", "train/a/1.png")
    message = str(refused.value)
    assert message.startswith("train/a/1.png: ") and "\n" not in message and message.endswith(".")
    return message


# What is shown --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
@pytest.mark.parametrize("shown", ["L", "RGB"])
def test_eight_bits_are_what_pillow_converts_them_to(mode, shown):
    image = Image.fromarray(NOISE).convert(mode)
    kind = {"CMYK": "TIFF", "YCbCr": "TIFF"}.get(mode, "PNG")
    content = saved(image, kind, **({"transparency": 3} if mode == "P" else {}))
    expected = Image.open(io.BytesIO(content)).convert(shown)
    assert np.array_equal(np.asarray(decoded(content, shown, "")), np.asarray(expected))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_grey_ramp_of_sixteen_bits_keeps_its_256_levels(kind, mode):
    shown = np.asarray(decoded(saved(Image.fromarray(RAMP), kind), mode, ""))
    assert np.array_equal(shown.reshape(2, 256, -1)[..., 0], RAMP // 257)


def test_sixteen_bits_are_rounded_to_the_nearest_level():
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    shown = np.asarray(decoded(saved(Image.fromarray(levels)), "L", ""))
    assert np.array_equal(shown, np.rint(levels * 255.0 / 65535))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_values_without_a_known_range_are_refused(mode):
    assert f"no known range (Pillow's mode {mode})" in refusal(saved(Image.new(mode, (3, 2)), "TIFF"))


def test_grey_of_twelve_bits_is_refused():
    content = saved(Image.fromarray(RAMP), "TIFF")
    tag = struct.pack("<HHI", 258, 3, 1)  # BitsPerSample, one short
    assert content.count(tag) == 1
    place = content.index(tag) + len(tag)
    assert "no known range" in refusal(content[:place] + struct.pack("<H", 12) + content[place + 2 :])


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(10))
def test_images_are_turned_as_pillow_turns_them(kind, orientation):
    """0 and 9 are no orientations."""
    content = saved(Image.fromarray(NOISE[..., :3]), kind, exif=exif_of(orientation))
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    shown = decoded(content, "RGB", "")
    assert np.array_equal(np.asarray(shown), np.asarray(expected))
    assert shown.size == ((9, 16) if 5 <= orientation <= 8 else (16, 9))


def test_grey_of_sixteen_bits_is_turned():
    content = saved(Image.fromarray(RAMP), exif=exif_of(6))
    assert np.array_equal(np.asarray(decoded(content, "L", "")), np.rot90(RAMP // 257, -1))


def test_damaged_exif_data_turn_nothing():
    """As ImageMagick writes them, but no digits."""
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type exif", "\nexif\n       2\nzz")
    content = saved(Image.fromarray(NOISE[..., :3]), pnginfo=text)
    with pytest.raises(ValueError, match="hexadecimal"):
        Image.open(io.BytesIO(content)).getexif()
    assert np.array_equal(np.asarray(decoded(content, "RGB", "")), NOISE[..., :3])


def test_without_exif_data_images_are_torchvisions(tmp_path):
    (tmp_path / "train/a").mkdir(parents=True)
    Image.fromarray(NOISE[..., :3]).save(tmp_path / "train/a/1.jpg")
    expected, _ = ImageFolder(tmp_path / "train")[0]
    content = (tmp_path / "train/a/1.jpg").read_bytes()
    assert np.array_equal(np.asarray(decoded(content, "RGB", "")), np.asarray(expected))


LARGE = zlib.compress(bytes(3_000_000))


@pytest.mark.parametrize("chunk", [(b"iCCP", b"profile\0\0" + LARGE), (b"zTXt", b"text\0\0" + LARGE)])
def test_a_large_profile_or_text_does_not_matter(chunk):
    assert np.array_equal(np.asarray(decoded(png_with(chunk), "RGB", "")), NOISE[..., :3])


@pytest.mark.filterwarnings("error")
def test_a_hundred_megapixels_are_shown_and_four_hundred_are_not():
    assert decoded(saved(Image.new("1", (10_000, 10_000))), "L", "").size == (10_000, 10_000)
    assert "has 400 megapixels, and at most 180 are read. Store it smaller" in refusal(
        saved(Image.new("1", (20_000, 20_000)))
    )


PNG = saved(Image.fromarray(NOISE[..., :3]))
DAMAGED = {
    "empty": (b"", "cannot identify an image in its 0 bytes"),
    "text": (b"<html>not found</html>", "cannot identify an image in its 22 bytes"),
    "a bad chunk": (PNG[:33] + struct.pack(">I", 100) + PNG[37:], "is damaged (broken PNG file ("),
    "a bomb of a profile": (png_with((b"iCCP", b"x\0\0" + zlib.compress(bytes(70 << 20)))), "is damaged (Decompressed"),
    "truncated": (saved(Image.fromarray(NOISE), "PNG")[:-200], "is damaged ("),
    "truncated JPEG": (saved(Image.fromarray(NOISE[..., :3]), "JPEG")[:-80], "is damaged (image file is truncated"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_image_is_one_message_with_its_file(damage):
    content, words = DAMAGED[damage]
    assert words in refusal(content) and "Restore the original" in refusal(content)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM"])
def test_no_flipped_byte_and_no_cut_raises_anything_else(kind):
    content = saved(Image.fromarray(NOISE[..., :3]), kind)
    for place in range(len(content)):
        flipped = content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :]
        for damaged in (flipped, content[:place]):
            try:
                assert decoded(damaged, "RGB", "x").mode == "RGB"
            except DamagedImage as error:
                assert str(error).startswith("x: ")


# The look at all of them ----------------------------------------------------------------------------------------------


@pytest.fixture
def job(tmp_path) -> Job:
    """200 images of two classes, of which 1.png to 3.png of class b are cut short, and the job that looks at them."""
    for label in "ab":
        (tmp_path / "train" / label).mkdir(parents=True)
        for number in range(100):
            damaged = label == "b" and number in (1, 2, 3)
            (tmp_path / f"train/{label}/{number}.png").write_bytes(PNG[:-100] if damaged else PNG)
    return job_of(tmp_path)


def job_of(root: Path, sets: dict[str, EvaluationSet] | None = None, **execution) -> Job:
    plain = {"name": "x", "reader": "timm", "classes": 2, "channels": 3, "mean": (0.5,) * 3, "std": (0.25,) * 3}
    recipe = PreparingData(
        training=TrainingData(split=Split(images=200, folder="train"), held_out=20, **plain), evaluation_sets=sets or {}
    )
    execution = {"data_root": str(root), "threads": 1, "workers": 1} | execution
    return Job(kind="data", name="data", recipe=recipe.model_dump(), behaviour={}, execution=execution)


def mend(root: Path) -> None:
    """Files of the same sizes, so that the manifest is the same."""
    for number in (1, 2, 3):
        (root / f"train/b/{number}.png").write_bytes(saved(Image.new("L", (1, 1))).ljust(len(PNG) - 100, b"\0"))


def test_all_damaged_images_are_named_at_once(tmp_path, job, monkeypatch, caplog):
    with pytest.raises(SystemExit) as refused:
        prepare_data(job, tmp_path / "out")
    first, *faults = str(refused.value).splitlines()
    assert first == "3 of 200 images cannot be read:" and not (tmp_path / "out").exists()
    assert [fault.split(": ")[0] for fault in faults] == [f"{tmp_path}/train/b/{number}.png" for number in (1, 2, 3)]
    monkeypatch.setattr(decode_check, "TOLD", 2)
    with (
        caplog.at_level(logging.ERROR),
        pytest.raises(SystemExit, match="and 1 more, which the log above names") as many,
    ):
        prepare_data(job, tmp_path / "out")
    assert caplog.messages == faults and len(str(many.value).splitlines()) == 4


def test_the_manifest_is_the_same_with_and_without_decoding(tmp_path, job):
    without = job_of(tmp_path, decode=False)
    assert without.digest == job.digest
    prepare_data(without, tmp_path / "without")
    mend(tmp_path)
    prepare_data(job, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        path.name for path in (tmp_path / "without").iterdir()
    )
    manifests = [json.loads((tmp_path / name / "manifest.json").read_bytes()) for name in ("without", "out")]
    assert manifests[0]["splits"] == manifests[1]["splits"]


def decoded_by(monkeypatch, after: int = 10**9, error: BaseException | int = 0) -> list[str]:
    """What is decoded from now on; after so many, one is interrupted by an exception or a signal."""
    looked: list[str] = []

    def look(content: bytes, mode: str, place: str) -> Image.Image:
        looked.append(place.rpartition("train/")[2])
        if len(looked) == after:
            if isinstance(error, BaseException):
                raise error
            signal.raise_signal(error)
        return decoded(content, mode, place)

    monkeypatch.setattr("deit.see.image_files.decoded", look)
    return looked


@pytest.mark.parametrize("end", [signal.SIGTERM, KeyboardInterrupt()], ids=["SIGTERM", "killed"])
def test_an_interrupted_look_goes_on_and_looks_again_at_damaged_images(tmp_path, job, monkeypatch, end):
    monkeypatch.setattr(decode_check, "BLOCK", 10)
    monkeypatch.setattr(decode_check, "SAVE_SECONDS", 0)
    job = job_of(tmp_path, workers=0)  # one thread, so that all know what comes after what
    decoded_by(monkeypatch, 155, end if isinstance(end, KeyboardInterrupt) else int(end))
    with pytest.raises((SystemExit, KeyboardInterrupt)) as ended:
        prepare_data(job, tmp_path / "out")
    if end == signal.SIGTERM:
        assert ended.value.code == 128 + signal.SIGTERM
    mend(tmp_path)
    second = decoded_by(monkeypatch)
    prepare_data(job, tmp_path / "out")
    expected = [f"b/{number}.png" for number in (1, 2, 3)]
    assert second[:3] == expected and second[3:] == remaining(160 if end == signal.SIGTERM else 150)


def remaining(done: int) -> list[str]:
    return [f"{label}/{number}.png" for label in "ab" for number in range(100)][done:]


@pytest.mark.parametrize("damage", ["edited", "emptied", "of other images"])
def test_what_was_done_counts_only_if_it_is_of_these_images(tmp_path, job, monkeypatch, damage):
    with pytest.raises(SystemExit):
        prepare_data(job, tmp_path / "out")
    path = tmp_path / "out.partial" / decode_check.PROGRESS
    content = json.loads(path.read_bytes())
    assert content["done"] == 200 and content["damaged"] == [101, 102, 103]
    if damage == "edited":
        path.write_text(json.dumps(content | {"damaged": []}), encoding="utf-8")
    elif damage == "emptied":
        path.write_bytes(b"")
    else:
        (tmp_path / "train/a/7.png").write_bytes(saved(Image.new("RGB", (9, 9))))
    looked = decoded_by(monkeypatch)
    with pytest.raises(SystemExit, match="3 of 200 images cannot be read"):
        prepare_data(job, tmp_path / "out")
    assert len(looked) == 200
    assert seal_of({key: value for key, value in content.items() if key != "seal"}) == content["seal"]


def test_each_image_is_decoded_by_one_job_and_arrays_by_none(tmp_path, job, monkeypatch):
    mend(tmp_path)
    (tmp_path / "val").symlink_to(tmp_path / "train")
    val = Split(images=200, folder="val")
    sets = {
        "plain": EvaluationSet(reader="timm", split=val),
        "corrupted": EvaluationSet(reader="timm", split=val, corruption={"noise": 0, "blur": 1, "shift": 0, "seed": 0}),
        "held": EvaluationSet(reader="timm", split=Split(images=200, folder="train"), held_out=20),
    }
    looked = decoded_by(monkeypatch)
    prepare_data(job_of(tmp_path, sets), tmp_path / "evaluation")
    assert len(looked) == 200 + 20


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_a_damaged_image_names_itself_from_within_a_worker(tmp_path, job):
    images = training_images(job.resolved().training.model_copy(update={"held_out": 0}), tmp_path)
    loader = DataLoader(images, sampler=[101], batch_size=None, num_workers=1)
    images.__class__.__getitem__ = images.__class__.image
    try:
        with pytest.raises(DamagedImage, match=rf"DamagedImage: {tmp_path}/train/b/1.png: is damaged"):
            list(loader)
    finally:
        del images.__class__.__getitem__
