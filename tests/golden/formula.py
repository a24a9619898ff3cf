"""Numbers that need no file: tests/golden/formula.h computes the same bits in C.

u(seed, i) is uniform in [-1, 1), a multiple of 2^-23, so it is exact in float32."""
import numpy as np


def bits(seed, n, start=0):
    """n 32-bit hashes: MurmurHash3's finalizer over start, start + 1, …"""
    with np.errstate(over="ignore"):
        h = np.arange(start, start + n, dtype=np.uint32) * np.uint32(0x9E3779B1)
        h += np.uint32(seed) * np.uint32(0x85EBCA77)
        h ^= h >> np.uint32(16)
        h *= np.uint32(0x85EBCA6B)
        h ^= h >> np.uint32(13)
        h *= np.uint32(0xC2B2AE35)
        h ^= h >> np.uint32(16)
    return h


def u(seed, n, start=0):
    return (bits(seed, n, start) >> 8).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)


def tensor(seed, shape, bound):
    """float32(u) times float32(bound), rounded once."""
    return (u(seed, int(np.prod(shape))) * np.float32(bound)).reshape(shape)


def samples(first, n, shape, classes=10):
    """Samples first, first + 1, …: labels = hash % classes; an image is half the pattern of its
    class, in blocks of 4 by 4, and half noise (exact in float32): there is something to learn."""
    c, h, w = shape
    labels = (bits(1000, n, first) % np.uint32(classes)).astype(np.int64)
    patterns = u(1001, classes * c * (h // 4) * (w // 4)).reshape(classes, c, h // 4, w // 4)
    patterns = patterns.repeat(4, 2).repeat(4, 3)
    noise = u(1002, n * c * h * w, first * c * h * w).reshape(n, c, h, w)
    return np.float32(0.5) * (patterns[labels] + noise), labels
