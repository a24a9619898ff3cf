#!/usr/bin/env python3
"""The node cases of the onnx package through `gimbal run`. Prints TAP: one test for each case that
onnx_nodes.txt expects to pass.

usage: onnx_nodes.py GIMBAL [--device D] [--only PART] [--record]
--record runs all cases and writes those that pass into onnx_nodes.txt."""
import argparse
import json
import subprocess
import sys
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
from onnx.backend.test.case.node import collect_testcases

warnings.simplefilter("ignore", RuntimeWarning)  # the cases divide by zero on purpose

EXPECTED = Path(__file__).with_name("onnx_nodes.txt")


def close(got, want, case):
    if got.shape != want.shape or got.dtype != want.dtype:
        return f"{got.dtype}{list(got.shape)} instead of {want.dtype}{list(want.shape)}"
    # The cases' own tolerances; the floor is float32's for sums around 1.
    same = np.allclose(got.astype(np.float64), want.astype(np.float64), rtol=case.rtol,
                       atol=max(case.atol, 1e-6), equal_nan=True)
    return "" if same else "values differ"


def arrays_of(values):
    """What a case holds as numpy arrays; None where it holds something else."""
    arrays = [onnx.numpy_helper.to_array(v) if isinstance(v, onnx.TensorProto) else v
              for v in values]
    if not all(isinstance(a, (np.ndarray, np.generic)) and a.dtype.kind in "fiub" for a in arrays):
        return None
    return [np.asarray(a) for a in arrays]


def run_case(case, args):
    """(name, "" if it passes, else what is wrong)"""
    inputs, outputs = map(arrays_of, case.data_sets[0])
    if inputs is None or outputs is None:
        return case.name, "unsupported: no numpy arrays of numbers"
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "model.onnx")
        onnx.save(case.model, str(model))
        command = [args.tool, "run", str(model), "--device", args.device, "--out", folder, "--json"]
        for i, (info, array) in enumerate(zip(case.model.graph.input, inputs)):
            np.save(Path(folder, f"in{i}.npy"), array)
            command += ["--input", f"{info.name}={folder}/in{i}.npy"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
            reply = json.loads(done.stdout)
        except (subprocess.TimeoutExpired, ValueError) as problem:
            return case.name, f"no answer: {problem}"
        if done.returncode < 0:
            return case.name, f"killed by signal {-done.returncode}"
        if "error" in reply:
            return case.name, "unsupported: " + reply["error"]["message"]
        names = [o.name for o in case.model.graph.output]
        files = {o["name"]: o["file"] for o in reply["outputs"]}
        for name, want in zip(names, outputs):
            problem = close(np.load(Path(folder, files[name])), want, case)
            if problem:
                return case.name, f"{name}: {problem}"
    return case.name, ""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tool")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", default="")
    parser.add_argument("--record", action="store_true")
    args = parser.parse_args()
    known = set(EXPECTED.read_text().split())
    every = args.record or args.only  # else only what must pass
    cases = [c for c in collect_testcases(None)
             if c.model is not None and args.only in c.name and (every or c.name in known)]
    with ThreadPoolExecutor(2) as pool:
        results = dict(pool.map(lambda case: run_case(case, args), cases))
    passing = sorted(name for name, problem in results.items() if not problem)
    if args.record:
        EXPECTED.write_text("".join(f"{name}\n" for name in passing))
    expected = [name for name in EXPECTED.read_text().split() if args.only in name]
    bad = 0
    for number, name in enumerate(expected, 1):
        problem = results.get(name, "the onnx package does not have it")
        bad += bool(problem)
        print(f"{'not ok' if problem else 'ok'} {number} - {name}")
        if problem:
            print(f"# {problem}")
    wrong = {n: p for n, p in results.items() if p and not p.startswith("unsupported:")}
    print(f"1..{len(expected)}")
    print(f"# {len(passing)} of {len(cases)} cases pass, {len(wrong)} are wrong, the others "
          "unsupported")
    for name, problem in results.items():
        if problem and (args.only or name in wrong):
            print(f"# {name}: {problem}")
    return 1 if bad or not expected else 0


if __name__ == "__main__":
    sys.exit(main())
