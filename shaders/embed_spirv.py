#!/usr/bin/env python3
"""Writes a C file with the modules of shaders/spirv: for each text NAME.comp the words of NAME.spv.txt,
and what they are for operands of bf16.

usage: embed_spirv.py OUT NAME.comp NAME.spv.txt ..."""
import sys

sys.dont_write_bytecode = True
import bfloat16

out, files = sys.argv[1], sys.argv[2:]


def fnv(data):  # gb_gpu_hash
    h = 0xcbf29ce484222325
    for byte in data:
        h = (h ^ byte) * 0x100000001b3 & 0xffffffffffffffff
    return h


with open(out, "w", encoding="utf-8") as f:
    f.write('#include "backends/gpu/shaders.h"\n')
    rows = []

    def embed(text, words):
        number = len(rows)
        f.write(f"\nstatic const uint32_t module_{number}[] = {{\n")
        for i in range(0, len(words), 8):
            f.write("    " + " ".join(f"0x{word:08x}," for word in words[i:i + 8]) + "\n")
        f.write("};\n")
        rows.append(f"    {{UINT64_C(0x{fnv(text):016x}), module_{number}, {len(words)}}},\n")

    for text, module in zip(files[::2], files[1::2]):
        text, words = open(text, "rb").read(), []
        for line in open(module, encoding="utf-8"):
            words += [int(word, 16) for word in line.split(";")[0].split()]
        embed(text, words)
        embed(bfloat16.text(text), bfloat16.module(words))
    f.write(f"\nconst gb_spirv_module gb_spirv[] = {{\n{''.join(rows)}}};\n"
            f"const int gb_spirv_count = {len(rows)};\n")
