"""Kernels for matrix units with operands of bf16, made of those for f16: all that differs is the type of
the matrices' elements. The compiler of tests/requirements.txt does not know bfloat16_t, so it is
exchanged in the module too, in the three places that SPV_KHR_bfloat16 wants it."""
import struct

CAPABILITY, EXTENSION, TYPE_FLOAT = 17, 10, 22
FLOAT16, BFLOAT16_TYPE, BFLOAT16_MATRIX, BFLOAT16_ENCODING = 9, 5116, 5118, 0
NAME = struct.unpack("<5I", b"SPV_KHR_bfloat16".ljust(20, b"\0"))


def exchange(data, old, new):
    assert data.count(old) == 1, f"{old} is not there once"
    return data.replace(old, new)


def text(f16):
    return exchange(f16, b"#define MATRIX_ELEMENT float16_t\n", b"#define MATRIX_ELEMENT bfloat16_t\n")


def instructions(words):
    at = 5
    while at < len(words):
        yield tuple(words[at:at + (words[at] >> 16)])
        at += words[at] >> 16


def made(opcode, *operands):
    return (len(operands) + 1 << 16 | opcode, *operands)


def module(words):
    was = list(instructions(words))
    half, = (i for i in was if i[0] & 0xffff == TYPE_FLOAT and i[2] == 16)
    first = next(i for i in was if i[0] & 0xffff == EXTENSION)
    new = {
        made(CAPABILITY, FLOAT16): made(CAPABILITY, BFLOAT16_TYPE) + made(CAPABILITY, BFLOAT16_MATRIX),
        first: made(EXTENSION, *NAME) + first,
        half: made(TYPE_FLOAT, half[1], 16, BFLOAT16_ENCODING),
    }
    assert all(was.count(i) == 1 for i in new)
    return list(words[:5]) + [word for i in was for word in new.get(i, i)]
