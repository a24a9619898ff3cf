"""ONNX Runtime's side of tools/bench. usage: ort_worker.py MODEL.onnx BATCH; call: forward"""
import sys

import numpy
import onnxruntime

from serve import serve

path, batch = sys.argv[1], int(sys.argv[2])


def forward():
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    port = session.get_inputs()[0]
    shape = [batch if not isinstance(d, int) else d for d in port.shape]
    x = numpy.random.default_rng(1).standard_normal(shape).astype(numpy.float32)
    return lambda: session.run(None, {port.name: x})


serve({"forward": forward}, about=f"ONNX Runtime {onnxruntime.__version__}")
