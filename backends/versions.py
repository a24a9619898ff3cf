#!/usr/bin/env python3
"""Writes a C file with a hash of the sources behind each backend's kernels, and what it depends on.

usage: versions.py ROOT OUT DEPFILE LIBRARIES      LIBRARIES: versions of what computes beside them"""
import hashlib
import sys
from pathlib import Path

root, out, depfile, libraries = Path(sys.argv[1]), *sys.argv[2:5]
GPU = ["backends/gpu", "shaders"]
FOLDERS = {"cpu": ["backends/cpu"], "opencl": GPU + ["backends/opencl"],
           "vulkan": GPU + ["backends/vulkan"]}
used = set()


def version(folders):
    digest = hashlib.sha256(libraries.encode())
    for path in sorted(p for f in folders for p in (root / f).rglob("*") if p.is_file()):
        used.add(str(path))
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


lines = [f'const char gb_kernels_{name}[] = "{version(f)}";' for name, f in FOLDERS.items()]
Path(out).write_text('#include "backends/versions.h"\n\n' + "\n".join(lines) + "\n")
Path(depfile).write_text(f"{out}: {' '.join(sorted(used))}\n")
