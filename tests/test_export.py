#!/usr/bin/env python3
"""The model.onnx of a run folder: passes onnx.checker, and ONNX Runtime and gimbal agree on it for
any batch. Prints TAP.

usage: test_export.py GIMBAL SOURCE_ROOT"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

sys.path.insert(0, str(Path(__file__).parent / "cli"))
from tap import check, finish  # noqa: E402

TOOL, ROOT = sys.argv[1], Path(sys.argv[2])
MODELS = {
    "cnn": "{layers: [{conv: {out: 8, kernel: 3, padding: same}}, batchnorm, relu, maxpool, "
           "{residual: {body: [{conv: {out: 8, kernel: 3, padding: same}}, batchnorm, gelu]}}, "
           "{avgpool: 2}, flatten, {dropout: 0.2}, {linear: 32}, mish, {linear: 10}]}",
    "mlp": "{mlp: {hidden: [64, 32]}}",
    "resnet20": "{resnet20: {width: 4}}",
}


def gimbal(*arguments):
    done = subprocess.run([TOOL, *map(str, arguments), "--json"], capture_output=True, text=True,
                          timeout=300)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return json.loads(done.stdout)


def differences(model, folder, batch):
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    info = session.get_inputs()[0]
    x = np.random.default_rng(batch).standard_normal((batch, *info.shape[1:])).astype(np.float32)
    want = session.run(None, {info.name: x})[0]
    np.save(folder / "x.npy", x)
    reply = gimbal("run", model, "--input", f"{info.name}={folder}/x.npy", "--out", folder,
                   "--device", "cpu")
    file = Path(reply["outputs"][0]["file"])
    got = np.load(file if file.is_absolute() or file.exists() else folder / file)
    error = np.abs(got - want).max() / np.abs(want).max()
    return "" if got.shape == want.shape and error < 2e-5 else f"relative error {error}"


for name, layers in MODELS.items():
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        try:
            gimbal("train", ROOT / "recipes/fashion-mnist.yaml", "--device", "cpu", "--steps", 3,
                   "--out", folder / "run", "--set", f"model={layers}", "--quiet")
            model = folder / "run/model.onnx"
            onnx.checker.check_model(str(model), full_check=True)
            check(f"{name}: trained, and its file passes onnx.checker", True)
            for batch in (1, 7):
                problem = differences(model, folder, batch)
                check(f"{name}: ONNX Runtime and gimbal agree, batch {batch}", not problem, problem)
        except Exception as problem:  # whatever it is, it is this model's failure
            check(f"{name}: trains, exports and runs", False,
                  f"{type(problem).__name__}: {problem}")
finish()
