"""What a test wants to know of an MCAP file."""

from __future__ import annotations

import struct
from pathlib import Path

CHUNK = 0x06


def mcap_chunk_compressions(path: Path) -> set[str]:
    """Names of the compressions of its chunks, read record by record."""
    data, offset, found = path.read_bytes(), 8, set()
    while offset < len(data) - 8:
        kind, length = struct.unpack_from("<BQ", data, offset)
        if kind == CHUNK:
            (size,) = struct.unpack_from("<I", data, offset + 9 + 28)
            found.add(data[offset + 9 + 32 : offset + 9 + 32 + size].decode())
        offset += 9 + length
    return found
