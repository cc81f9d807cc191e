"""What a file's first bytes say, before anything that reads it is imported.

An HDF5 file has its signature at byte 0, or behind a user block at 512, 1024, 2048 .. (HDF5 format, III.A); a zip
archive begins with a local header (APPNOTE.TXT 4.3.7).
"""

HDF5 = b"\x89HDF\r\n\x1a\n"
ZIP = b"PK\x03\x04"


def is_zip(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is a zip archive with something in it."""
    return head.startswith(ZIP)


def is_hdf5(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is HDF5; a user block is seen where ``head`` is longer than it."""
    offset = 0
    while offset < len(head):
        if head.startswith(HDF5, offset):
            return True
        offset = max(512, 2 * offset)
    return False


def looks_like_keras(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is one for ``keras.reading.files``: HDF5 or a zip archive."""
    return is_zip(head) or is_hdf5(head)
