#!/usr/bin/env python3
"""Training steps of gimbal and PyTorch on this CPU, alternately in one run.

usage: pytorch_step.py GIMBAL [RECIPE...] [--rounds N] [--seconds S] [--markdown FILE]

Run by tools/bench, which installs PyTorch from PyPI. A step is forward, loss, backward and
optimizer on a batch that lies in memory. Both sides use all cores. Times are the best of all
rounds, and the median; ratios are PyTorch's best mode over gimbal: above 1, gimbal is faster."""
import argparse
import json
import os
import statistics
import subprocess
import time
from pathlib import Path

import torch
import torch.nn.functional as F
import yaml
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
SHAPES = {"fashion-mnist": (1, 28, 28), "cifar10": (3, 32, 32)}


class Residual(nn.Module):
    def __init__(self, body, shortcut):
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x):
        return self.body(x) + self.shortcut(x)


class PadShortcut(nn.Module):  # every second pixel, new channels are zero
    def __init__(self, extra):
        super().__init__()
        self.extra = extra

    def forward(self, x):
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.extra // 2, self.extra - self.extra // 2))


def options_of(value, main):
    return value if isinstance(value, dict) else {} if value is None else {main: value}


def layer(spec, shape):
    """The module that a layer of a recipe stands for, and the shape of its output."""
    kind, value = next(iter(spec.items())) if isinstance(spec, dict) else (spec, None)
    if kind == "conv":
        o = options_of(value, "out")
        k, s = o.get("kernel", 1), o.get("stride", 1)
        p = o.get("padding", 0)
        p = (k - 1) // 2 if p == "same" else 0 if p == "valid" else p
        m = nn.Conv2d(shape[0], o["out"], k, s, p, o.get("dilation", 1), o.get("groups", 1),
                      o.get("bias", True))
    elif kind == "linear":
        o = options_of(value, "out")
        m = nn.Linear(shape[0], o["out"], o.get("bias", True))
    elif kind in ("maxpool", "avgpool"):
        o = options_of(value, "kernel")
        k = o.get("kernel", 2)
        make = nn.MaxPool2d if kind == "maxpool" else nn.AvgPool2d
        m = make(k, o.get("stride", k), o.get("padding", 0))
    elif kind == "batchnorm":
        m = nn.BatchNorm2d(shape[0]) if len(shape) == 3 else nn.BatchNorm1d(shape[0])
    elif kind == "residual":
        body, out = layers(value["body"], shape)
        shortcut = value.get("shortcut", "identity")
        if shortcut == "pad":
            m = Residual(body, PadShortcut(out[0] - shape[0]))
        elif shortcut in ("identity", None):
            m = Residual(body, nn.Identity())
        else:
            m = Residual(body, layers(shortcut, shape)[0])
    elif kind == "dropout":
        m = nn.Dropout(options_of(value, "ratio").get("ratio", 0.5))
    elif kind == "flatten":
        m = nn.Flatten()
    elif kind == "global_avgpool":
        m = nn.AdaptiveAvgPool2d(1)
    else:
        m = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid,
             "silu": nn.SiLU}[kind]()
    with torch.no_grad():
        return m, tuple(m.eval()(torch.zeros(2, *shape)).shape[1:])


def layers(specs, shape):
    modules = []
    for spec in specs:
        module, shape = layer(spec, shape)
        modules.append(module)
    return nn.Sequential(*modules), shape


def resnet20_layers(width=16, classes=10):
    conv = lambda out, stride=1: {"conv": {"out": out, "kernel": 3, "stride": stride, "padding": 1,
                                           "bias": False}}
    specs = [conv(width), "batchnorm", "relu"]
    for stage in range(3):
        for i in range(3):
            down, out = stage > 0 and i == 0, width << stage
            specs += [{"residual": {"body": [conv(out, 2 if down else 1), "batchnorm", "relu",
                                             conv(out), "batchnorm"],
                                    "shortcut": "pad" if down else "identity"}}, "relu"]
    return specs + ["global_avgpool", "flatten", {"linear": classes}]


def named(model):
    """The layers of a named model, as core/nn/named.c has them."""
    name, o = next(iter(model.items())) if isinstance(model, dict) else (model, {})
    if name == "layers":
        return o
    o = o or {}
    if name == "mlp":
        hidden = o.get("hidden", 512)
        hidden = hidden if isinstance(hidden, list) else [hidden]
        return ["flatten"] + [s for h in hidden for s in ({"linear": h}, "relu")] + [{"linear": 10}]
    if name == "resnet20":
        return resnet20_layers(o.get("width", 16))
    if name == "cnn":
        w = o.get("width", 32)
        conv = lambda out: {"conv": {"out": out, "kernel": 3, "padding": "same", "bias": False}}
        block = lambda out: [conv(out), "batchnorm", "relu", "maxpool"]
        return block(w) + block(2 * w) + ["flatten", {"linear": 4 * w}, "relu", {"linear": 10}]
    raise SystemExit(f"pytorch_step.py does not know the model {name}")


def optimizer(parameters, spec):
    kind, o = next(iter(spec.items())) if isinstance(spec, dict) else (spec, {})
    make = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW,
            "rmsprop": torch.optim.RMSprop}[kind]
    # PyYAML takes 1e-3 for text: it wants a dot
    known = {k: float(o[k]) if isinstance(o[k], str) else o[k]
             for k in ("lr", "momentum", "nesterov", "weight_decay") if k in o}
    return make(parameters, **{"lr": 0.01, **known}, foreach=True)


def torch_step(recipe, channels_last):
    data = recipe["data"]
    shape = SHAPES[data["dataset"] if isinstance(data, dict) else data]
    net, _ = layers(named(recipe["model"]), shape)
    x, t = torch.randn(recipe["batch"], *shape), torch.randint(10, (recipe["batch"],))
    if channels_last:
        net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    opt = optimizer(net.train().parameters(), recipe.get("optimizer", "sgd"))

    def step():
        opt.zero_grad()
        F.cross_entropy(net(x), t).backward()
        opt.step()

    return step


def time_torch(step, seconds):
    step()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - start))
    return times


def time_gimbal(tool, recipe):
    done = subprocess.run([tool, "bench", "--model", recipe, "--device", "cpu", "--json"],
                          capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"gimbal bench --model {recipe} failed: {done.stdout}{done.stderr}")
    ms = next(r["ms"] for r in json.loads(done.stdout)["results"] if r["phase"] == "step")
    return ms["min"], ms["median"]


def compare(tool, path, rounds, seconds):
    recipe = yaml.safe_load(Path(path).read_text())
    steps = {"eager": torch_step(recipe, False), "channels_last": torch_step(recipe, True)}
    best, middle = {}, {}
    for _ in range(rounds):  # alternately: a busy machine slows both
        low, median = time_gimbal(tool, path)
        times = {"gimbal": (low, median)}
        for mode, step in steps.items():
            all_times = time_torch(step, seconds)
            times[mode] = min(all_times), statistics.median(all_times)
        for name, (low, median) in times.items():
            best[name] = min(low, best.get(name, low))
            middle.setdefault(name, []).append(median)
    middle = {name: statistics.median(values) for name, values in middle.items()}
    fastest = min(best["eager"], best["channels_last"])
    return {"recipe": Path(path).stem, "batch": recipe["batch"], "best": best, "median": middle,
            "ratio": fastest / best["gimbal"],
            "ratio_median": min(middle["eager"], middle["channels_last"]) / middle["gimbal"]}


def processor():
    names = [line for line in open("/proc/cpuinfo") if line.startswith("model name")]
    return f"{names[0].split(':')[1].strip()}, {os.cpu_count()} cores" if names else "unknown"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tool")
    parser.add_argument("recipes", nargs="*")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--markdown")
    args = parser.parse_args()
    recipes = args.recipes or [ROOT / "recipes" / f"{name}.yaml" for name in (
        "fashion-mnist-mlp", "fashion-mnist", "cifar10-resnet20")]
    lines = [f"{processor()}; PyTorch {torch.__version__}; best (median) of {args.rounds} rounds, "
             "milliseconds a training step.", "",
             "| recipe, batch | gimbal | PyTorch eager | PyTorch channels_last | gimbal is faster by |",
             "|---|---|---|---|---|"]
    print("\n".join(lines), flush=True)
    for path in recipes:
        r = compare(args.tool, str(path), args.rounds, args.seconds)
        cell = lambda name: f"{r['best'][name]:.1f} ({r['median'][name]:.1f})"
        lines.append(f"| {r['recipe']}, {r['batch']} | {cell('gimbal')} | {cell('eager')} | "
                     f"{cell('channels_last')} | {r['ratio']:.2f} × ({r['ratio_median']:.2f} ×) |")
        print(lines[-1], flush=True)
    if args.markdown:
        Path(args.markdown).write_text("\n".join(lines) + "\n")


main()
