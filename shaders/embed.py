#!/usr/bin/env python3
"""Writes a C file with each shader file as a string: shaders/matmul_naive.gk is
gb_shader_matmul_naive, shaders/prelude.glsl is gb_shader_prelude_glsl."""
import os
import sys

out, files = sys.argv[1], sys.argv[2:]
with open(out, 'w') as f:
    f.write('#include "backends/gpu/shaders.h"\n')
    for path in files:
        stem, ext = os.path.splitext(os.path.basename(path))
        name = stem if ext == '.gk' else stem + ext.replace('.', '_')
        f.write(f'\nconst char gb_shader_{name}[] =\n')
        for line in open(path):
            text = line.rstrip('\n').replace('\\', '\\\\').replace('"', '\\"')
            f.write(f'    "{text}\\n"\n')
        f.write('    "";\n')
