#!/usr/bin/env python3
"""Writes a C file with the modules of shaders/spirv: for each text NAME.comp the words of NAME.spv.txt.

usage: embed_spirv.py OUT NAME.comp NAME.spv.txt ..."""
import sys

out, files = sys.argv[1], sys.argv[2:]


def fnv(data):  # gb_gpu_hash
    h = 0xcbf29ce484222325
    for byte in data:
        h = (h ^ byte) * 0x100000001b3 & 0xffffffffffffffff
    return h


with open(out, "w", encoding="utf-8") as f:
    f.write('#include "backends/gpu/shaders.h"\n')
    rows = []
    for number, (text, module) in enumerate(zip(files[::2], files[1::2])):
        words = []
        for line in open(module, encoding="utf-8"):
            words += line.split(";")[0].split()
        f.write(f"\nstatic const uint32_t module_{number}[] = {{\n")
        for i in range(0, len(words), 8):
            f.write("    " + " ".join(f"0x{word}," for word in words[i:i + 8]) + "\n")
        f.write("};\n")
        rows.append(f"    {{UINT64_C(0x{fnv(open(text, 'rb').read()):016x}), module_{number}, {len(words)}}},\n")
    f.write(f"\nconst gb_spirv_module gb_spirv[] = {{\n{''.join(rows)}}};\n"
            f"const int gb_spirv_count = {len(rows)};\n")
