"""The .keras archive: read where it lies, and nothing in it that Keras does not write."""

import json
import struct
import warnings
import zipfile

import pytest

from dense2conv.convert.errors import FileError, RequestError
from dense2conv.convert.keras.reading import archive as module
from dense2conv.convert.mapped import source

from .files import archive, keras_members, model, read, same, values

ARRAYS = [values(0, 40, 30), values(1, 30)]
CONFIG = model(("Dense", "fc"))
MEMBERS = keras_members(CONFIG, {"layers/dense": ARRAYS}, {"layers/dense": "fc"})
METADATA, CONFIGURATION, WEIGHTS = MEMBERS


def put(tmp_path, members, compress_type=zipfile.ZIP_STORED):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # zipfile warns of a name that is there twice
        return archive(tmp_path / "a.keras", members, compress_type)


def test_stored_weights_are_views_of_the_archive(tmp_path):
    path = put(tmp_path, MEMBERS)
    found, origin = read(path)
    assert same(found["fc",], ARRAYS)
    assert [source(array).path for array in found["fc",]] == [path, path]
    assert (origin.version, origin.backend) == ((3, 15, 1), "")


@pytest.mark.parametrize("order", [(2, 0, 1), (1, 2, 0)])
def test_the_order_of_members_does_not_matter(tmp_path, order):
    found, _ = read(put(tmp_path, [MEMBERS[k] for k in order]))
    assert same(found["fc",], ARRAYS)


@pytest.mark.parametrize("shift", range(8))
def test_views_need_no_alignment(tmp_path, shift):
    """An extra byte in the metadata shifts everything behind it."""
    members = [("metadata.json", METADATA[1] + b" " * shift), CONFIGURATION, WEIGHTS]
    found, _ = read(put(tmp_path, members))
    assert same(found["fc",], ARRAYS)
    assert all(source(array) is not None for array in found["fc",])
    assert found["fc",][0].T.copy().tobytes() == ARRAYS[0].T.tobytes()


def test_packed_weights_go_through_a_temporary_file(tmp_path):
    path = put(tmp_path, MEMBERS, zipfile.ZIP_DEFLATED)
    found, _ = read(path)
    assert same(found["fc",], ARRAYS)
    assert all(source(array) is not None for array in found["fc",])


def test_assets_are_ignored(tmp_path):
    found, _ = read(put(tmp_path, [*MEMBERS, ("assets/", b""), ("assets/vocabulary.txt", b"words")]))
    assert same(found["fc",], ARRAYS)


def twice(name, data):
    return [*MEMBERS, (name, data)]


REFUSED = {
    "config twice": (twice(*CONFIGURATION), "the member 'config.json' is there twice"),
    "weights twice": (twice(*WEIGHTS), "the member 'model.weights.h5' is there twice"),
    "traversal": (twice("../../evil", b""), "but this one holds '../../evil'"),
    "absolute": (twice("/etc/passwd", b""), "but this one holds '/etc/passwd'"),
    "other weights": (twice("model.weights.npz", b""), "but this one holds 'model.weights.npz'"),
    "no weights": (MEMBERS[:2], "has the member 'model.weights.h5', but this one has not"),
    "no metadata": (MEMBERS[1:], "has the member 'metadata.json', but this one has not"),
    "another zip": ([("a.npy", b"")], "this zip archive has none: it is some other archive"),
    "PyTorch": ([("net/data.pkl", b"")], "this zip archive has none: it is a PyTorch file"),
    "no JSON": ([METADATA, ("config.json", b"{"), WEIGHTS], "config.json is not JSON"),
    "no HDF5": ([METADATA, CONFIGURATION, ("model.weights.h5", b"")], "not an HDF5 file, or a damaged one"),
    "no model": (
        [METADATA, ("config.json", b"{}"), WEIGHTS],
        "config.json must have a class_name and a config",
    ),
    "keys twice": (
        [METADATA, ("config.json", CONFIGURATION[1][:-1] + b', "class_name": "Model"}'), WEIGHTS],
        "config.json has the key 'class_name' twice",
    ),
}


@pytest.mark.parametrize(("members", "message"), REFUSED.values(), ids=REFUSED)
def test_an_archive_that_keras_does_not_write(tmp_path, members, message):
    path = put(tmp_path, members)
    with pytest.raises(FileError) as refused:
        read(path)
    assert message in refused.value.message
    assert "\n" not in refused.value.message
    assert refused.value.file == path
    assert [item.name for item in tmp_path.iterdir()] == ["a.keras"]


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("k", range(3))
def test_a_bomb_in_another_packing_is_not_unpacked(tmp_path, kind, k):
    """bzip2 packs 50 MiB of zeros into 201 bytes."""
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as out:
        for name, data in MEMBERS[:k] + MEMBERS[k + 1 :]:
            out.writestr(name, data)
        out.writestr(MEMBERS[k][0], b"\0" * 50_000_000, compress_type=kind)
    with pytest.raises(FileError, match="packed otherwise than by deflate"):
        read(tmp_path / "a.keras")


def test_a_text_has_a_largest_size(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    members = [METADATA, ("config.json", CONFIGURATION[1] + b" " * 1000), WEIGHTS]
    with pytest.raises(FileError, match=r"'config.json' has at most 1000 bytes, but claims 1\d\d\d"):
        read(put(tmp_path, members, zipfile.ZIP_DEFLATED))


def test_packed_weights_have_a_largest_size(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MOST_UNPACKED", 1000)
    with pytest.raises(FileError, match=r"must unpack to at most 1000 bytes, not \d+"):
        read(put(tmp_path, MEMBERS, zipfile.ZIP_DEFLATED))


def test_a_size_that_deflate_cannot_reach_is_a_lie(tmp_path):
    path = tmp_path / "a.keras"
    put(tmp_path, MEMBERS, zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02")  # the directory's entry of the weights: the uncompressed size is at 24
    struct.pack_into("<I", data, entry + 24, 0xFFFFFFF0)
    path.write_bytes(data)
    with pytest.raises(FileError, match="claims 4294967280 bytes in"):
        read(path)


@pytest.mark.parametrize("compress_type", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_changed_weight_is_found_by_the_archives_checksum(tmp_path, compress_type):
    """HDF5 as Keras writes it carries no checksum, but the archive around it does."""
    path = tmp_path / "a.keras"
    put(tmp_path, MEMBERS, compress_type)
    data = bytearray(path.read_bytes())
    at = data.find(ARRAYS[0].tobytes()) if compress_type == zipfile.ZIP_STORED else len(data) // 2
    data[at + 5] ^= 1
    path.write_bytes(data)
    with pytest.raises(FileError):
        read(path)


def test_an_encrypted_member_is_not_asked_a_password_for(tmp_path):
    path = tmp_path / "a.keras"
    put(tmp_path, MEMBERS)
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(FileError, match=r"'model\.weights\.h5' is encrypted"):
        read(path)


def test_every_truncation_is_one_of_our_errors(tmp_path):
    path = tmp_path / "a.keras"
    put(tmp_path, MEMBERS)
    data = path.read_bytes()
    for length in range(1, len(data), 397):
        path.write_bytes(data[:length])
        with pytest.raises(FileError):
            read(path)


def test_an_archive_has_its_own_configuration(tmp_path):
    path = put(tmp_path, MEMBERS)
    (tmp_path / "model.json").write_text(json.dumps(CONFIG))
    with pytest.raises(RequestError, match="has its own configuration") as refused:
        read(path, str(tmp_path / "model.json"))
    assert "--config" in refused.value.hint
