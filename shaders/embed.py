#!/usr/bin/env python3
"""Writes a C file with each text file as a string: with the prefix gb_shader_, shaders/matmul_naive.gk
is gb_shader_matmul_naive, shaders/prelude.glsl is gb_shader_prelude_glsl.
A line #include "NAME" stands for the file of that name beside it.

usage: embed.py HEADER PREFIX OUT FILE..."""
import os
import re
import sys


def lines(path):
    for line in open(path, encoding='utf-8'):
        included = re.match(r'#include "(.*)"', line)
        if included:
            yield from lines(os.path.join(os.path.dirname(path), included[1]))
        else:
            yield line.rstrip('\n')


header, prefix, out, files = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
with open(out, 'w', encoding='utf-8') as f:
    f.write(f'#include "{header}"\n')
    for path in files:
        stem, ext = os.path.splitext(os.path.basename(path))
        name = stem if ext == '.gk' else (stem + ext).replace('.', '_')
        f.write(f'\nconst char {prefix}{name}[] =\n')
        for line in lines(path):
            text = line.replace('\\', '\\\\').replace('"', '\\"')
            f.write(f'    "{text}\\n"\n')
        f.write('    "";\n')
