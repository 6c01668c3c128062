#!/usr/bin/env python3
"""Make the embedded subset of Fashion-MNIST again: make.py [DIR of the full IDX files].

Keeps the first 500 training and the first 100 test images of every class, in the order of the full set,
so that chance is exactly 10 %. The bytes depend on nothing but the input and zlib.
"""
import gzip
import io
import struct
import sys
from pathlib import Path

CLASSES = 10
SPLITS = {"train": 5000, "t10k": 1000}


def pack(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as file:
        file.write(data)
    return buffer.getvalue()


def main() -> None:
    source = Path(sys.argv[1] if len(sys.argv) > 1 else "/usr/share/datasets/fashion-mnist")
    target = Path(__file__).parent
    for split, total in SPLITS.items():
        images_name, labels_name = f"{split}-images-idx3-ubyte.gz", f"{split}-labels-idx1-ubyte.gz"
        images = gzip.decompress((source / images_name).read_bytes())
        labels = gzip.decompress((source / labels_name).read_bytes())[8:]
        height, width = struct.unpack(">II", images[8:16])
        size = height * width
        room = [total // CLASSES] * CLASSES
        kept = []
        for index, label in enumerate(labels):
            if room[label]:
                room[label] -= 1
                kept.append(index)
        assert len(kept) == total, f"{source} holds only {len(kept)} of {total} images"
        pixels = b"".join(images[16 + i * size : 16 + (i + 1) * size] for i in kept)
        (target / images_name).write_bytes(pack(struct.pack(">IIII", 2051, total, height, width) + pixels))
        (target / labels_name).write_bytes(pack(struct.pack(">II", 2049, total) + bytes(labels[i] for i in kept)))


if __name__ == "__main__":
    main()
