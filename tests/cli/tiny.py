"""A data set of 8 x 8 images in four classes, for runs that take a second."""
import random
import struct


def idx(path, shape, data):
    path.write_bytes(struct.pack(f">I{len(shape)}I", 0x800 + len(shape), *shape) + bytes(data))


def images(label):
    """8 x 8 images whose bright row tells the class."""
    rows = [[random.randrange(60) + (180 if y == label else 0) for _ in range(8)]
            for y in range(8)]
    return [v for row in rows for v in row]


def write_data(folder):
    for name, n in (("train", 600), ("t10k", 100)):
        labels = [random.randrange(4) for _ in range(n)]
        idx(folder / f"{name}-images-idx3-ubyte", (n, 8, 8), sum(map(images, labels), []))
        idx(folder / f"{name}-labels-idx1-ubyte", (n,), labels)


def weights(folder):
    return max((folder / "checkpoints").glob("*.safetensors")).read_bytes()
