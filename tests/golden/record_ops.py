#!/usr/bin/env python3
"""Records operators of PyTorch on the CPU: outputs, and gradients of the inputs, into
ops.safetensors (CASE/input0 …, CASE/output0 …, CASE/weight, CASE/grad0 …) and ops.json.

    python3 -m venv V && V/bin/pip install torch numpy safetensors
    V/bin/python tests/golden/record_ops.py

Operators, attributes and the order of inputs are ONNX's. Gradients are those of
sum(output0 * weight). Computed in float64 from float32 inputs, stored as float32."""
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file

rng = np.random.Generator(np.random.Philox(7))
tensors, cases = {}, []


def r(*shape, low=None, high=None):
    """Normal numbers, or uniform ones in [low, high)."""
    a = rng.standard_normal(shape) if low is None else rng.uniform(low, high, shape)
    return torch.from_numpy(a.astype(np.float32))


def ints(*shape, below, low=0):
    return torch.from_numpy(rng.integers(low, below, shape))


def case(op, inputs, function, grad=True, name="", **attrs):
    same = sum(c["op"] == op for c in cases)
    name = f"{op}_{name or same}"
    args = [None if t is None else t.double() if t.is_floating_point() else t for t in inputs]
    leaves = [t is not None and t.is_floating_point() and grad for t in args]
    args = [t.requires_grad_() if leaf else t for t, leaf in zip(args, leaves)]
    outputs = function(*args)
    outputs = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
    parts = {f"input{i}": t for i, t in enumerate(inputs) if t is not None}
    parts |= {f"output{i}": t for i, t in enumerate(outputs)}
    if any(leaves) and outputs[0].requires_grad:
        weight = r(*outputs[0].shape)
        parts["weight"] = weight
        (outputs[0] * weight.double()).sum().backward()
        parts |= {f"grad{i}": t.grad for i, t in enumerate(args) if leaves[i] and t.grad is not None}
    for key, t in parts.items():
        t = t.detach()
        t = t.float() if t.is_floating_point() else t
        tensors[f"{name}/{key}"] = np.array(t.numpy(), order="C")
    cases.append({"case": name, "op": op, "inputs": len(inputs), "outputs": len(outputs),
                  "attrs": attrs})


def activations():
    x = r(3, 17)
    for op, f in {
        "Relu": F.relu, "Sigmoid": torch.sigmoid, "Tanh": torch.tanh, "Softplus": F.softplus,
        "HardSwish": F.hardswish, "Mish": F.mish, "Exp": torch.exp, "Erf": torch.erf,
        "Abs": torch.abs, "Neg": torch.neg, "Softsign": F.softsign, "Sin": torch.sin,
        "Cos": torch.cos, "Selu": F.selu,
    }.items():
        case(op, [x * 2], f)
    case("Elu", [x], lambda x: F.elu(x, 0.7), alpha=0.7)
    case("LeakyRelu", [x], lambda x: F.leaky_relu(x, 0.1), alpha=0.1)
    case("HardSigmoid", [x * 4], F.hardsigmoid, alpha=1 / 6, beta=0.5)
    case("Gelu", [x * 2], F.gelu, name="erf", approximate="none")
    case("Gelu", [x * 2], lambda x: F.gelu(x, approximate="tanh"), name="tanh", approximate="tanh")
    case("PRelu", [r(2, 5, 4), r(5, 1)], lambda x, a: torch.where(x < 0, a * x, x))
    case("ThresholdedRelu", [x], lambda x: F.threshold(x, 0.4, 0.0), alpha=0.4)
    case("Celu", [x], lambda x: F.celu(x, 0.6), alpha=0.6)
    positive = r(3, 17, low=0.1, high=4.0)
    for op, f in {"Log": torch.log, "Sqrt": torch.sqrt, "Reciprocal": torch.reciprocal}.items():
        case(op, [positive], f)
    case("Clip", [x, torch.tensor(-0.5), torch.tensor(0.8)], lambda x, a, b: x.clamp(-0.5, 0.8))
    for op, f in {"Floor": torch.floor, "Ceil": torch.ceil, "Sign": torch.sign,
                  "Round": torch.round}.items():
        case(op, [x * 3], f, grad=False)


def arithmetic():
    for shapes in (((3, 5), (3, 5)), ((2, 1, 5), (4, 1)), ((6,), ())):
        a, b = r(*shapes[0]), r(*shapes[1])
        case("Add", [a, b], torch.add)
        case("Sub", [a, b], torch.sub)
        case("Mul", [a, b], torch.mul)
        case("Div", [a, b.abs() + 0.5], torch.div)
        case("Pow", [a.abs() + 0.2, b], torch.pow)
        case("Min", [a, b], torch.minimum)
        case("Max", [a, b], torch.maximum)
        case("Less", [a, b], torch.lt)
        case("Where", [a > 0, a, b], torch.where)


def matmul():
    for a, b in (((4, 7), (7, 5)), ((2, 3, 4, 7), (2, 3, 7, 5)), ((2, 1, 4, 7), (3, 7, 5)),
                 ((7,), (2, 7, 5)), ((3, 4, 7), (7,)), ((1, 1), (1, 3))):
        case("MatMul", [r(*a), r(*b)], torch.matmul)
    case("Gemm", [r(4, 7), r(7, 5), r(5)], lambda a, b, c: a @ b + c)
    case("Gemm", [r(7, 4), r(5, 7), r(4, 1)], lambda a, b, c: 0.5 * a.T @ b.T + 2 * c,
         alpha=0.5, beta=2.0, transA=1, transB=1)


def windows():
    def conv(x, w, b, stride, pads, dilation, group):
        x = F.pad(x, (pads[1], pads[3], pads[0], pads[2]))
        return F.conv2d(x, w, b, stride, 0, dilation, group)

    for n, c, h, w, o, k, s, p, d, g in (
            (2, 3, 8, 7, 4, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
            (2, 4, 9, 9, 6, (3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 2),
            (1, 4, 8, 9, 4, (3, 3), (1, 2), (0, 1, 2, 0), (1, 1), 4),
            (2, 3, 10, 9, 5, (3, 2), (1, 1), (2, 0, 1, 1), (2, 3), 1),
            (3, 8, 6, 6, 16, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
            (2, 5, 7, 7, 3, (5, 5), (3, 3), (2, 2, 2, 2), (1, 1), 1),
            (2, 16, 8, 8, 16, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1)):
        case("Conv", [r(n, c, h, w), r(o, c // g, *k), r(o)],
             lambda x, f, b: conv(x, f, b, s, p, d, g),
             kernel_shape=k, strides=s, pads=p, dilations=d, group=g)
    case("Conv", [r(2, 3, 11), r(4, 3, 3), r(4)], lambda x, f, b: F.conv1d(x, f, b, 2, 1),
         name="1d", kernel_shape=[3], strides=[2], pads=[1, 1])
    for g, s, p, op, d in ((1, 2, 1, 1, 1), (2, 1, 0, 0, 1), (1, 3, 2, 0, 2)):
        case("ConvTranspose", [r(2, 4, 5, 6), r(4, 3, 3, 3), r(3 * g)],
             lambda x, f, b: F.conv_transpose2d(x, f, b, s, p, op, g, d), strides=[s, s],
             kernel_shape=[3, 3], pads=[p] * 4, output_padding=[op, op], group=g, dilations=[d, d])
    x = r(2, 3, 9, 8)
    for k, s, p, ceil in ((2, 2, 0, 0), (3, 2, 1, 0), (3, 1, 1, 0), (3, 2, 0, 1)):
        attrs = dict(kernel_shape=[k, k], strides=[s, s], pads=[p] * 4, ceil_mode=ceil)
        case("MaxPool", [x], lambda x: F.max_pool2d(x, k, s, p, ceil_mode=bool(ceil)), **attrs)
        if not ceil:
            for count in (0, 1):
                case("AveragePool", [x], lambda x: F.avg_pool2d(
                    x, k, s, p, count_include_pad=bool(count)), count_include_pad=count, **attrs)
    case("MaxPool", [x], lambda x: F.max_pool2d(F.pad(x, (0, 1, 1, 0), value=-np.inf), 2, 2),
         name="asymmetric", kernel_shape=[2, 2], strides=[2, 2], pads=[1, 0, 0, 1])
    case("MaxPool", [r(2, 3, 10)], lambda x: F.max_pool1d(x, 3, 2), name="1d",
         kernel_shape=[3], strides=[2])
    case("GlobalAveragePool", [x], lambda x: x.mean((2, 3), keepdim=True))
    case("GlobalMaxPool", [x], lambda x: x.amax((2, 3), keepdim=True))


def normalizations():
    def batch_norm(x, scale, bias, mean, var, training, momentum=0.9, eps=1e-5):
        axes = [0, *range(2, x.dim())]
        along = lambda v: v.reshape(1, -1, *[1] * (x.dim() - 2))
        if training:
            m, v = x.mean(axes), x.var(axes, unbiased=False)
            moved = (mean * momentum + m * (1 - momentum), var * momentum + v * (1 - momentum))
            y = F.batch_norm(x, None, None, scale, bias, True, 0, eps)
            return y, moved[0].detach(), moved[1].detach()
        mean, var = along(mean).detach(), along(var).detach()
        return (x - mean) / (var + eps).sqrt() * along(scale) + along(bias)

    for shape in ((4, 3, 5, 6), (8, 5), (2, 16, 3, 3)):
        c = shape[1]
        args = [r(*shape), r(c), r(c), r(c), r(c, low=0.5, high=2)]
        case("BatchNormalization", args, lambda *a: batch_norm(*a, True), name=f"train{len(shape)}_{c}",
             epsilon=1e-5, momentum=0.9, training_mode=1)
        case("BatchNormalization", args, lambda *a: batch_norm(*a, False),
             name=f"infer{len(shape)}_{c}", epsilon=1e-5)
    case("LayerNormalization", [r(4, 5, 16), r(16), r(16)],
         lambda x, s, b: F.layer_norm(x, (16,), s, b, 1e-5), axis=-1, epsilon=1e-5)
    case("LayerNormalization", [r(3, 4, 6), r(4, 6), r(4, 6)],
         lambda x, s, b: F.layer_norm(x, (4, 6), s, b, 1e-5), axis=1, epsilon=1e-5)
    case("GroupNormalization", [r(3, 6, 4, 5), r(6), r(6)],
         lambda x, s, b: F.group_norm(x, 3, s, b, 1e-5), num_groups=3, epsilon=1e-5)
    case("InstanceNormalization", [r(3, 4, 5, 6), r(4), r(4)],
         lambda x, s, b: F.instance_norm(x, None, None, s, b, True, 0, 1e-5), epsilon=1e-5)
    for axis in (-1, 1):
        case("Softmax", [r(3, 7, 4) * 3], lambda x: x.softmax(axis), axis=axis)
        case("LogSoftmax", [r(3, 7, 4) * 3], lambda x: x.log_softmax(axis), axis=axis)


def losses():
    logits, target = r(9, 10) * 2, ints(9, below=10)
    for reduction in ("mean", "sum", "none"):
        case("SoftmaxCrossEntropyLoss", [logits, target],
             lambda x, t: F.cross_entropy(x, t, reduction=reduction), name=reduction,
             reduction=reduction)
    case("SoftmaxCrossEntropyLoss", [logits, target],
         lambda x, t: F.cross_entropy(x, t, label_smoothing=0.1), name="smooth",
         reduction="mean", label_smoothing=0.1)
    p, q = r(5, 6), r(5, 6)
    case("MSELoss", [p, q], F.mse_loss, reduction="mean")
    case("L1Loss", [p, q], F.l1_loss, reduction="mean")
    case("BCEWithLogitsLoss", [p, ints(5, 6, below=2).float()],
         F.binary_cross_entropy_with_logits, reduction="mean")


def reductions():
    x = r(3, 4, 5)
    functions = {
        "ReduceSum": lambda x, a, k: x.sum(a, k), "ReduceMean": lambda x, a, k: x.mean(a, k),
        "ReduceMax": lambda x, a, k: x.amax(a, k), "ReduceMin": lambda x, a, k: x.amin(a, k),
        "ReduceL1": lambda x, a, k: x.abs().sum(a, k),
        "ReduceL2": lambda x, a, k: (x * x).sum(a, k).sqrt(),
        "ReduceSumSquare": lambda x, a, k: (x * x).sum(a, k),
        "ReduceLogSumExp": lambda x, a, k: x.logsumexp(a, k),
    }
    for op, f in functions.items():
        for axes, keep in (((1,), 1), ((0, 2), 0), ((0, 1, 2), 0), ((-1,), 0)):
            case(op, [x], lambda x: f(x, axes, bool(keep)), axes=axes, keepdims=keep)
    for axis, keep in ((1, 1), (2, 0)):
        case("ReduceProd", [x], lambda x: x.prod(axis, bool(keep)), axes=[axis], keepdims=keep)
    zeros = x.clone()
    zeros[0, 0, 0] = zeros[1, 1, 1] = zeros[1, 1, 2] = 0
    case("ReduceProd", [zeros], lambda x: x.prod(2), name="zeros", axes=[2], keepdims=0)
    case("ReduceLogSum", [x.abs()], lambda x: x.sum(1).log(), axes=[1], keepdims=0)
    case("ArgMax", [x], lambda x: x.argmax(1, True), grad=False, axis=1, keepdims=1)
    case("ArgMin", [x], lambda x: x.argmin(2), grad=False, axis=2, keepdims=0)


def movement():
    x = r(3, 4, 5)
    case("Transpose", [x], lambda x: x.permute(2, 0, 1), perm=[2, 0, 1])
    case("Concat", [r(2, 3), r(2, 1), r(2, 4)], lambda *a: torch.cat(a, 1), axis=1)
    case("Gather", [r(11, 6), ints(3, 4, below=11)], lambda e, i: F.embedding(i, e), axis=0)
    case("Gather", [x, torch.tensor([2, 0, 2, -1])], lambda x, i: x[:, i], axis=1)
    case("Gather", [x, torch.tensor(1)], lambda x, i: x[:, :, 1], axis=2)
    case("Flatten", [x], lambda x: x.reshape(3, 20), axis=1)
    case("Identity", [x], lambda x: x * 1)
    case("Dropout", [x], lambda x: x * 1, name="inference")


torch.manual_seed(0)
for record in (activations, arithmetic, matmul, windows, normalizations, losses, reductions,
               movement):
    record()
here = Path(__file__).parent
save_file(tensors, here / "ops.safetensors")
lines = ",\n".join(json.dumps(c) for c in cases)
(here / "ops.json").write_text(f'{{"torch": "{torch.__version__}", "cases": [\n{lines}\n]}}\n')
print(len(cases), "cases")
