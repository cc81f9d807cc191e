"""External data: the weights of a model that lie in other files, found without leaving the model's directory.

A location comes from the file and is not trusted. It is walked component by component from the model's
directory, each opened relative to the one before (``openat``) and without following links, and what was
opened is what is checked and mapped: no name is looked up twice, so nothing can be exchanged in between.
Links are how caches store files, hence ``allow_links``.

https://github.com/onnx/onnx/blob/main/docs/ExternalData.md names the keys: location, offset, length,
checksum.
"""

import os
import re
import stat
from pathlib import Path

from onnx import TensorProto

from .errors import Dense2ConvError, FileError, MachineError
from .mapped import MappedFile, map_file

KEYS = ("location", "offset", "length", "checksum")  # others are ignored, as readers do
_CHUNK = 1 << 24  # bytes hashed at a time


class ExternalFiles:
    """The data files beside one model; each is opened, checked and mapped once.

    ``model_path`` is the model as it was named, ``model_identity`` its (device, inode).
    """

    def __init__(
        self, model_path: str, model_identity: tuple[int, int], *, allow_links: bool = False
    ) -> None:
        self._directory = Path(model_path).parent
        self._model_identity = model_identity
        self._allow_links = allow_links
        self._files: dict[str, MappedFile | None] = {}  # None: an empty file, which cannot be mapped
        self._verified: set[tuple[str, str]] = set()

    @property
    def paths(self) -> tuple[str, ...]:
        """The files that tensors were found in."""
        return tuple(str(self._directory / location) for location in self._files)

    def find(self, tensor: TensorProto, size: int) -> tuple[MappedFile, int] | None:
        """The mapped file that holds the tensor's ``size`` bytes, and their offset; None for an empty file.

        Raises FileError, which names the tensor and the location, where anything about either is unsafe or
        wrong.
        """
        where = f"external data of initializer {tensor.name!r}"
        entries = _entries(tensor, where)
        location = entries["location"]
        offset = _number(entries.get("offset", "0"), "offset", where)
        length = _number(entries["length"], "length", where) if "length" in entries else size
        if length != size:
            raise FileError(
                f"{where} in {location!r} has {length} of {size} bytes that dims {list(tensor.dims)} ask for"
            )
        if location not in self._files:
            self._files[location] = self._open(location, where)
        mapped = self._files[location]
        total = len(mapped) if mapped is not None else 0
        if offset + length > total:
            raise FileError(
                f"{where} must lie inside {location!r}, but it ends at byte {offset + length} of {total}"
            )
        if "checksum" in entries:
            self._verify(location, entries["checksum"], where)
        return (mapped, offset) if mapped is not None else None

    def _verify(self, location: str, checksum: str, where: str) -> None:
        """Compare the SHA-1 of the whole file, which is what ONNX defines as checksum."""
        if (location, checksum) in self._verified:
            return
        mapped = self._files[location]
        import hashlib  # which loads a whole library; few files have a checksum

        digest = hashlib.sha1(usedforsecurity=False)
        for start in range(0, len(mapped) if mapped is not None else 0, _CHUNK):
            digest.update(memoryview(mapped)[start : start + _CHUNK])  # type: ignore[arg-type]
        if digest.hexdigest() != checksum.lower():
            raise FileError(
                f"{where}: the checksum of {location!r} must be {checksum!r}, but it is {digest.hexdigest()}",
                hint="the data file is damaged or belongs to another model; copy it again",
            )
        self._verified.add((location, checksum))

    def _open(self, location: str, where: str) -> MappedFile | None:
        """Walk to a data file, check what was opened, and map it."""
        components = relative_parts(location, where)
        path = self._directory / location
        try:
            descriptor = self._walk(components)
        except FileNotFoundError as error:
            raise FileError(
                f"{where} is missing: no file {str(path.absolute())!r}",
                hint="put the data file beside the model, under the name that it was written with",
            ) from error
        except OSError as error:
            raise self._refusal(components, path, where, error) from error
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise FileError(f"{where}: {location!r} must be a regular file, but it is not")
            if (status.st_dev, status.st_ino) == self._model_identity:
                raise FileError(f"{where}: {location!r} must not be the model itself")
            if status.st_nlink != 1 and not self._allow_links:
                raise FileError(
                    f"{where}: {location!r} must have one name, but it has {status.st_nlink} hard links",
                    hint=_LINK_HINT,
                )
            return map_file(descriptor, str(path)) if status.st_size else None
        finally:
            os.close(descriptor)

    def _walk(self, components: list[str]) -> int:
        """The descriptor of the file at the end of ``components``, opened for reading."""
        follow = 0 if self._allow_links else os.O_NOFOLLOW
        flags = (
            os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
        )  # a FIFO opens at once instead of waiting for a writer
        directory = os.open(self._directory, flags | os.O_DIRECTORY)
        try:
            for component in components[:-1]:
                inner = os.open(component, flags | os.O_DIRECTORY | follow, dir_fd=directory)
                os.close(directory)
                directory = inner
            return os.open(components[-1], flags | follow, dir_fd=directory)
        finally:
            os.close(directory)

    def _refusal(self, components: list[str], path: Path, where: str, error: OSError) -> Dense2ConvError:
        """What an operating system's error means: a link on the way, or a file that cannot be opened."""
        steps = (self._directory.joinpath(*components[: count + 1]) for count in range(len(components)))
        if not self._allow_links and any(step.is_symlink() for step in steps):
            return FileError(f"{where}: {str(path)!r} must not be or pass a symbolic link", hint=_LINK_HINT)
        kind = FileError if isinstance(error, (PermissionError, NotADirectoryError)) else MachineError
        return kind(f"{where}: cannot open {str(path)!r}: {error.strerror}")


_LINK_HINT = "a link can point at any file of this machine; if it is a cache of yours, pass --allow-links"


def _entries(tensor: TensorProto, where: str) -> dict[str, str]:
    """The keys of a tensor's external data; each must stand once and be text."""
    entries: dict[str, str] = {}
    for entry in tensor.external_data:
        if not isinstance(entry.key, str) or not isinstance(entry.value, str):
            raise FileError(f"{where}: keys and values must be UTF-8")
        if entry.key in entries and entry.key in KEYS:
            raise FileError(f"{where}: {entry.key} must stand once, but it is there twice")
        entries[entry.key] = entry.value
    if "location" not in entries:
        raise FileError(f"{where} has no location")
    return entries


def _number(text: str, key: str, where: str) -> int:
    """A byte count: decimal digits and nothing else."""
    if not re.fullmatch("[0-9]{1,20}", text):
        raise FileError(f"{where}: {key} must be a non-negative integer, but it is {text[:40]!r}")
    return int(text)


def relative_parts(location: str, where: str) -> list[str]:
    """The directories and the file name of a location; raises FileError where it is not plainly relative."""
    rules = {
        "must not be empty": not location,
        "must not contain NUL": "\0" in location,
        "must not be absolute": location.startswith("/") or re.match("[A-Za-z]:", location) is not None,
        "must not contain a backslash": "\\" in location,
        "must not contain '..'": ".." in location.split("/"),
    }
    # './w.bin' is plain enough: the dot is dropped, not refused.
    components = [component for component in location.split("/") if component != "."]
    rules["must name a file"] = not components or "" in components
    rules["must not name a hidden file"] = any(component.startswith(".") for component in components)
    for rule, broken in rules.items():
        if broken:
            raise FileError(f"{where}: a location {rule}, but it is {location!r}")
    return components
