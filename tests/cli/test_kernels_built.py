#!/usr/bin/env python3
"""Shapes are launch data: how many distinct kernels a training run builds on a GPU backend is bounded,
and more layers of other sizes build few more. Prints TAP.

usage: test_kernels_built.py GIMBAL DEVICE=SHALLOW,DEEP..."""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tiny import write_data

BLOCK = "{conv: {out: %d, kernel: 3, padding: same}}, batchnorm, relu, "
RECIPE = """data: {dataset: idx, path: %s}
model:
  layers: [%sflatten, linear: 4]
optimizer: {sgd: {lr: 0.05, momentum: 0.9}}
batch: 32
epochs: 1
"""


def built(tool, device, folder, widths):
    recipe = folder / f"{len(widths)}.yaml"
    recipe.write_text(RECIPE % (folder, "".join(BLOCK % w for w in widths)))
    done = subprocess.run([tool, "train", recipe, "--steps", "1", "--out",
                           folder / f"{device}-{len(widths)}".replace(":", "-"), "--device", device,
                           "--json"], capture_output=True, text=True, timeout=300)
    return json.loads(done.stdout).get("kernels_built", done.stdout)


def main():
    number = failures = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder)
        for spec in sys.argv[2:]:
            device, bounds = spec.split("=")
            for widths, bound in zip(((16, 16), (16, 24, 32, 48)), map(int, bounds.split(","))):
                n = built(sys.argv[1], device, folder, widths)
                good = isinstance(n, int) and 0 < n <= bound
                number += 1
                failures += not good
                print(f"{'ok' if good else 'not ok'} {number} - {device}: {len(widths)} blocks, {n} "
                      f"kernels, at most {bound}", flush=True)
    print(f"1..{number}")
    return failures > 0


if __name__ == "__main__":
    sys.exit(main())
