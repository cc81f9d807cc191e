"""Arrays as they lie in the file: which are views, which are converted, and what is never followed or believed."""

import time
import tracemalloc

import h5py
import numpy as np
import pytest

from dense2conv.convert.errors import FileError
from dense2conv.convert.mapped import source

from .files import legacy, model, read, values

CONFIG = model(("Dense", "fc", {"use_bias": False}))
PLACE = "model_weights/fc/fc/kernel:0"
WEIGHT = values(0, 64, 48)


def file_with(tmp_path, create, **options):
    """A file of one dense layer, whose weight ``create(file, place)`` makes."""
    path = legacy(tmp_path / "a.h5", CONFIG, {"fc": {"fc/kernel:0": WEIGHT}})
    with h5py.File(path, "a", **options) as file:
        del file[PLACE]
        create(file, PLACE)
    return path


def weight(path):
    (array,) = read(path)[0]["fc",]
    return array


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8"])
def test_plain_floats_are_views_of_the_mapped_file(tmp_path, dtype):
    expected = WEIGHT.astype(dtype)
    path = file_with(tmp_path, lambda file, place: file.create_dataset(place, data=expected))
    array = weight(path)
    assert source(array).path == path
    assert array.dtype == dtype
    np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("dtype", [">f2", ">f4", ">f8"])
def test_big_endian_floats_become_native(tmp_path, dtype):
    path = file_with(tmp_path, lambda file, place: file.create_dataset(place, data=WEIGHT.astype(dtype)))
    array = weight(path)
    assert array.dtype.isnative
    assert array.dtype.itemsize == int(dtype[2])
    np.testing.assert_array_equal(array, WEIGHT.astype(dtype))


@pytest.mark.parametrize(
    "options",
    [
        {"chunks": (7, 5)},
        {"chunks": (7, 5), "compression": "gzip"},
        {"chunks": (64, 48), "compression": "gzip", "shuffle": True, "fletcher32": True},
    ],
)
def test_packed_arrays_are_unpacked(tmp_path, options):
    path = file_with(tmp_path, lambda file, place: file.create_dataset(place, data=WEIGHT, **options))
    array = weight(path)
    assert source(array) is None
    np.testing.assert_array_equal(array, WEIGHT)


def test_a_compact_array_lies_in_the_header(tmp_path):
    def create(file, place):
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_layout(h5py.h5d.COMPACT)
        links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
        links.set_create_intermediate_group(True)
        space = h5py.h5s.create_simple((3, 2))
        made = h5py.h5d.create(file.id, place.encode(), h5py.h5t.IEEE_F32LE, space, properties, links)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, WEIGHT[:3, :2].copy())

    np.testing.assert_array_equal(weight(file_with(tmp_path, create)), WEIGHT[:3, :2])


def test_bfloat16_is_the_upper_half_of_a_float32(tmp_path):
    """Keras stores it as two opaque bytes, |V2, which no Keras reads back from a legacy file."""
    bits = np.array([[0x3F80, 0xBF80, 0x4049], [0x7F80, 0x0001, 0x0000]], np.uint16)
    expected = [[1, -1, 3.140625], [np.inf, 2.0**-133, 0]]
    path = file_with(tmp_path, lambda file, place: file.create_dataset(place, data=bits.view("V2")))
    array = weight(path)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, np.array(expected, np.float32))


def test_a_type_that_h5py_shows_as_a_wider_one_is_not_viewed(tmp_path):
    """A two-byte float with 8 exponent bits has no numpy type: h5py converts it to float32."""

    def create(file, place):
        kind = h5py.h5t.IEEE_F32LE.copy()
        kind.set_fields(15, 7, 8, 0, 7)
        kind.set_size(2)
        kind.set_ebias(127)
        space = h5py.h5s.create_simple((2,))
        links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
        links.set_create_intermediate_group(True)
        made = h5py.h5d.create(file.id, place.encode(), kind, space, lcpl=links)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array([1.5, -2.0], np.float32))

    np.testing.assert_array_equal(weight(file_with(tmp_path, create)), [1.5, -2.0])


@pytest.mark.parametrize("block", [512, 4096])
def test_a_user_block_before_the_file_shifts_the_views(tmp_path, block):
    path = tmp_path / "block.h5"
    plain = legacy(tmp_path / "a.h5", CONFIG, {"fc": {"fc/kernel:0": WEIGHT}})
    with h5py.File(plain) as old, h5py.File(path, "w", userblock_size=block) as new:
        for name, value in old.attrs.items():
            new.attrs[name] = value
        old.copy("model_weights", new)
    array = weight(path)
    assert source(array) is not None
    np.testing.assert_array_equal(array, WEIGHT)


def test_an_array_without_values(tmp_path):
    path = file_with(tmp_path, lambda file, place: file.create_dataset(place, (0, 5), "f4"))
    assert weight(path).shape == (0, 5)


# Rows 25 to 28 of the table of bad inputs: what HDF5 would follow or make up.


def external_storage(file, place):
    file.create_dataset(place, (12,), "f4", external=[("/etc/passwd", 0, 48)])


def external_link(file, place):
    file[place] = h5py.ExternalLink("other.h5", "/secret")


def external_link_above(file, place):
    above = place.rpartition("/")[0]
    del file[above]
    file[above] = h5py.ExternalLink("other.h5", "/")


def soft_link(file, place):
    file["model_weights/spare"] = WEIGHT
    file[place] = h5py.SoftLink("/model_weights/spare")


def virtual(file, place, name="other.h5"):
    layout = h5py.VirtualLayout((64, 48), "f4")
    layout[:] = h5py.VirtualSource(name, "secret", (64, 48))
    file.create_virtual_dataset(place, layout)


def virtual_source_missing(file, place):
    virtual(file, place, "missing.h5")


def never_written(file, place):
    file.create_dataset(place, (64, 48), "f4")


def filled(file, place):
    file.create_dataset(place, (64, 48), "f4", fillvalue=7.0)


def some_chunks(file, place):
    file.create_dataset(place, (64, 48), "f4", chunks=(32, 48))[:32] = 1


def some_packed_chunks(file, place):
    file.create_dataset(place, (64, 48), "f4", chunks=(32, 48), compression="gzip")[:32] = WEIGHT[:32]


def shape_bomb(file, place):
    file.create_dataset(place, (32768, 32767), "f4", chunks=(1024, 1024), compression="gzip")


def unknown_filter(file, place):
    file.create_dataset(place, data=WEIGHT, compression="lzf")


def wrong_type(file, place):
    file.create_dataset(place, data=WEIGHT.astype("c8"))


def quantised(file, place):
    file.create_dataset(place, data=WEIGHT.astype(np.int8))


def no_shape(file, place):
    file[place] = h5py.Empty("f4")


def no_array(file, place):
    file.create_group(place)


REFUSED = [
    (external_storage, f"that of '{PLACE}' is in '/etc/passwd'"),
    (external_link, f"'{PLACE}' is a ExternalLink to 'other.h5'"),
    (external_link_above, "'model_weights/fc/fc' is a ExternalLink to 'other.h5'"),
    (soft_link, f"'{PLACE}' is a SoftLink to '/model_weights/spare'"),
    (virtual, f"'{PLACE}' is a virtual dataset"),
    (virtual_source_missing, f"'{PLACE}' is a virtual dataset"),
    (never_written, f"'{PLACE}' declares 12288 bytes"),
    (filled, "but stores 0"),
    (some_chunks, "declares 12288 bytes"),
    (some_packed_chunks, f"'{PLACE}' has 1 of its 2 chunks"),
    (shape_bomb, f"'{PLACE}' declares 4294836224 bytes"),
    (unknown_filter, f"'{PLACE}' has filter 32000"),
    (wrong_type, f"'{PLACE}' is complex64"),
    (quantised, f"'{PLACE}' is int8"),
    (no_shape, "a weight is float16, bfloat16, float32 or float64"),
    (no_array, "has no such dataset"),
]


@pytest.mark.parametrize(("create", "message"), REFUSED, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_not_in_the_file_is_neither_followed_nor_made_up(tmp_path, create, message):
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["secret"] = WEIGHT
        other["kernel:0"] = WEIGHT
    path = file_with(tmp_path, create)
    start = time.monotonic()
    tracemalloc.start()
    with pytest.raises(FileError) as refused:
        read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert message in refused.value.message
    assert "\n" not in refused.value.message
    assert refused.value.file == path
    assert time.monotonic() - start < 1
    assert peak < 1 << 24


def test_the_links_above_the_weights_are_not_followed_either(tmp_path):
    path = legacy(tmp_path / "a.h5", CONFIG, {"fc": {"fc/kernel:0": WEIGHT}})
    with h5py.File(path, "a") as file:
        file.move("model_weights", "real")
        file["model_weights"] = h5py.SoftLink("/real")
    with pytest.raises(FileError, match="'model_weights' is a SoftLink to '/real'"):
        read(path)
