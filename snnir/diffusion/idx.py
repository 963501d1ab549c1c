"""IDX files, the format of MNIST and its successors, plain or gzipped."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from snnir.errors import fail
from snnir.ops import Array

UINT8 = 8  # type code of unsigned bytes: the third byte of the header, before the number of dimensions
GZIP = b"\x1f\x8b"


def read_idx(path: Path, dimensions: int) -> Array:
    """The bytes of an IDX file as uint8: images are (N, H, W) with `dimensions` 3, labels (N,) with 1.

    Format: Y. LeCun, C. Cortes and C. Burges, "The MNIST database": two zero bytes, a type code, the number of
    dimensions, every dimension as a big-endian 32-bit integer, then the values.

    Raises:
        CompileError: not IDX, not bytes, another number of dimensions, truncated, or longer than its header says.
    """
    where, kind = str(path), "images, idx3" if dimensions == 3 else "labels, idx1"
    content = _content(path)
    if len(content) < 4 or content[:2] != b"\0\0":
        raise fail("idx-magic", "is no IDX file", where=where, expected=f"an IDX file ({kind})", hint=_AGAIN)
    code, found = content[2], content[3]
    if code != UINT8 or found != dimensions:
        what = f"holds values of type {code} in {found} dimensions"
        expected = f"bytes (type {UINT8}) in {dimensions} dimensions ({kind})"
        raise fail("idx-kind", what, where=where, expected=expected, hint="images and labels may be mixed up")
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise fail("idx-truncated", "ends inside its header", where=where, expected=f"{start} bytes", hint=_AGAIN)
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    size, expected_size = len(content) - start, int(np.prod(shape, dtype=np.int64))
    if size != expected_size:
        rule, word = ("idx-truncated", "only ") if size < expected_size else ("idx-length", "")
        raise fail(
            rule, f"has {word}{size} values", where=where, expected=f"{expected_size} for shape {shape}", hint=_AGAIN
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def write_idx(path: Path, values: Array) -> None:
    """Writes uint8 values of any shape; gzipped if the name ends in .gz."""
    header = struct.pack(f">HBB{values.ndim}I", 0, UINT8, values.ndim, *values.shape)
    content = header + values.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


_AGAIN = "the file is damaged or another one: get it again"


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == GZIP else content
    except EOFError as error:
        raise fail("idx-truncated", "ends inside its gzip stream", where=str(path), hint=_AGAIN) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise fail("idx-magic", f"is damaged: {error}", where=str(path), expected="gzip", hint=_AGAIN) from error
    except OSError as error:
        raise fail("idx-unreadable", f"cannot be read: {error.strerror}", where=str(path)) from error
