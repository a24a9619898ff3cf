"""PyTorch's side of tools/bench: the network of a recipe, in PyTorch's own modules.

usage: torch_worker.py DEVICE RECIPE [KEY=VALUE...]
calls: eager, channels_last, compile, compile+channels_last: a training step; forward, forward+channels_last:
inference; memory"""
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
import yaml
from torch import nn

from serve import serve

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


class Scale(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


def options_of(value, main):
    return value if isinstance(value, dict) else {} if value is None else {main: value}


def number(value):  # PyYAML takes 1e-3 for text: it wants a dot
    return float(value) if isinstance(value, str) else value


def conv(o, shape):
    k, p = o.get("kernel", 1), o.get("padding", 0)
    p = p if p == "same" and o.get("stride", 1) == 1 else (k - 1) // 2 if p == "same" else \
        0 if p == "valid" else p
    m = nn.Conv2d(shape[0], o["out"], k, o.get("stride", 1), p, o.get("dilation", 1),
                  o.get("groups", 1), o.get("bias", True))
    m.weight.requires_grad = o.get("train_weight", True)
    return m


def norm(o, shape):
    make = nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d
    m = make(shape[0], eps=number(o.get("eps", 1e-5)), momentum=number(o.get("momentum", 0.1)))
    m.weight.requires_grad = o.get("train_scale", True)
    return m


def pool(kind, o):
    k = o.get("kernel", 2)
    make = nn.MaxPool2d if kind == "maxpool" else nn.AvgPool2d
    return make(k, o.get("stride", k), o.get("padding", 0))


ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid,
               "silu": nn.SiLU, "hardswish": nn.Hardswish, "softplus": nn.Softplus,
               "selu": nn.SELU, "mish": nn.Mish}
SIMPLE = {
    "conv": lambda value, shape: conv(options_of(value, "out"), shape),
    "linear": lambda value, shape: nn.Linear(shape[0], options_of(value, "out")["out"],
                                             options_of(value, "out").get("bias", True)),
    "maxpool": lambda value, shape: pool("maxpool", options_of(value, "kernel")),
    "avgpool": lambda value, shape: pool("avgpool", options_of(value, "kernel")),
    "batchnorm": lambda value, shape: norm(options_of(value, "eps"), shape),
    "groupnorm": lambda value, shape: nn.GroupNorm(
        options_of(value, "groups")["groups"], shape[0]),
    "layernorm": lambda value, shape: nn.LayerNorm(
        shape[-options_of(value, "dims").get("dims", 1):]),
    "instancenorm": lambda value, shape: nn.InstanceNorm2d(shape[0], affine=True),
    "clip": lambda value, shape: nn.Hardtanh(
        *(float(options_of(value, "min").get(k, d)) for k, d in (("min", 0), ("max", 6)))),
    "elu": lambda value, shape: nn.ELU(options_of(value, "alpha").get("alpha", 1.0)),
    "leakyrelu": lambda value, shape: nn.LeakyReLU(options_of(value, "alpha").get("alpha", 0.01)),
    "block": lambda value, shape: layers(
        value["layers"] * value.get("repeat", 1), shape)[0],
    "scale": lambda value, shape: Scale(number(options_of(value, "factor")["factor"])),
    "dropout": lambda value, shape: nn.Dropout(options_of(value, "ratio").get("ratio", 0.5)),
    "flatten": lambda value, shape: nn.Flatten(),
    "global_avgpool": lambda value, shape: nn.AdaptiveAvgPool2d(1),
    **{name: lambda value, shape, make=make: make() for name, make in ACTIVATIONS.items()},
}


def residual(value, shape):
    body, out = layers(value["body"], shape)
    shortcut = value.get("shortcut", "identity")
    if shortcut == "pad":
        return Residual(body, PadShortcut(out[0] - shape[0]))
    return Residual(body, nn.Identity() if shortcut in ("identity", None)
                    else layers(shortcut, shape)[0])


def layers(specs, shape):
    """The modules that a recipe's layers stand for, and the shape of their output."""
    modules = []
    for spec in specs:
        kind, value = next(iter(spec.items())) if isinstance(spec, dict) else (spec, None)
        m = residual(value, shape) if kind == "residual" else SIMPLE[kind](value, shape)
        with torch.no_grad():
            shape = tuple(m.eval()(torch.zeros(2, *shape)).shape[1:])
        modules.append(m)
    return nn.Sequential(*modules), shape


def conv3(out, stride=1):
    return {"conv": {"out": out, "kernel": 3, "stride": stride, "padding": 1, "bias": False}}


def resnet(width, stages, blocks, shortcut, classes=10):
    specs = [conv3(width), "batchnorm", "relu"]
    for stage in range(stages):
        for i in range(blocks):
            down, out = stage > 0 and i == 0, width << stage
            specs += [{"residual": {
                "body": [conv3(out, 2 if down else 1), "batchnorm", "relu", conv3(out), "batchnorm"],
                "shortcut": shortcut(out) if down else "identity"}}, "relu"]
    return specs + ["global_avgpool", "flatten", {"linear": classes}]


def projection(out):
    return [{"conv": {"out": out, "kernel": 1, "stride": 2, "bias": False}}, "batchnorm"]


def airbench():
    same = {"kernel": 3, "padding": "same", "bias": False}
    bn = {"batchnorm": {"eps": 1e-12, "momentum": 0.4, "train_scale": False}}
    specs = [{"conv": {"out": 24, "kernel": 2, "train_weight": False}}, "gelu"]
    for out in (64, 256, 256):
        specs += [{"conv": {"out": out, **same}}, "maxpool", bn, "gelu",
                  {"conv": {"out": out, **same}}, bn, "gelu"]
    return specs + [{"maxpool": 3}, "flatten", {"linear": {"out": 10, "bias": False}},
                    {"scale": 1 / 9}]


def named(model):
    """The layers of a named model, as core/nn/named.c has them."""
    name, o = next(iter(model.items())) if isinstance(model, dict) else (model, {})
    o = o or {}
    if name == "layers":
        return o
    if name == "mlp":
        hidden = o.get("hidden", 512)
        hidden = hidden if isinstance(hidden, list) else [hidden]
        return ["flatten"] + [s for h in hidden for s in ({"linear": h}, "relu")] + [{"linear": 10}]
    if name == "resnet20":
        return resnet(o.get("width", 16), 3, 3, lambda out: "pad")
    if name == "resnet18":
        return resnet(o.get("width", 64), 4, 2, projection)
    if name == "airbench94":
        return airbench()
    raise SystemExit(f"torch_worker.py does not know the model {name}")


def optimizer(net, spec):
    kind, o = next(iter(spec.items())) if isinstance(spec, dict) else (spec, {})
    make = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW,
            "rmsprop": torch.optim.RMSprop}[kind]
    known = {k: number(o[k]) for k in ("lr", "momentum", "nesterov", "weight_decay") if k in o}
    parameters = [p for p in net.parameters() if p.requires_grad]
    try:
        return make(parameters, **{"lr": 0.01, **known}, fused=True)
    except (RuntimeError, TypeError):
        return make(parameters, **{"lr": 0.01, **known}, foreach=True)


class Bench:
    def __init__(self, recipe, device):
        data, self.recipe, self.device = recipe["data"], recipe, device
        self.shape = SHAPES[data["dataset"] if isinstance(data, dict) else data]
        loss = recipe.get("loss")
        self.smoothing = loss["cross_entropy"]["label_smoothing"] if isinstance(loss, dict) else 0

    def net(self, last):
        net, _ = layers(named(self.recipe["model"]), self.shape)
        x = torch.randn(self.recipe["batch"], *self.shape)
        net, x = net.to(self.device), x.to(self.device)
        if last:
            net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
        return net, x

    def wait(self):
        if self.device != "cpu":
            getattr(torch, self.device).synchronize()

    def training(self, last, compiled):
        net, x = self.net(last)
        t = torch.randint(10, (self.recipe["batch"],), device=self.device)
        opt = optimizer(net.train(), self.recipe.get("optimizer", "sgd"))
        model = torch.compile(net) if compiled else net

        def step():
            opt.zero_grad()
            F.cross_entropy(model(x), t, label_smoothing=self.smoothing).backward()
            opt.step()
            self.wait()
        return step

    def inference(self, last):
        net, x = self.net(last)
        net.eval()

        def forward():
            with torch.inference_mode():
                net(x)
            self.wait()
        return forward


def read_recipe(path, sets):
    recipe = yaml.safe_load(Path(path).read_text())
    for item in sets:
        keys, value = item.split("=", 1)
        *path, last = keys.split(".")
        at = recipe
        for key in path:
            if not isinstance(at.get(key), dict):
                at[key] = {at[key]: {}} if at.get(key) == path[-1] else {}
            at = at[key]
        at[last] = yaml.safe_load(value)
    return recipe


def main():
    device, path, *sets = sys.argv[1:]
    b = Bench(read_recipe(path, sets), device)
    about = f"PyTorch {torch.__version__}"
    if device != "cpu":
        about += f" on {getattr(torch, device).get_device_name()}"
    serve({"eager": lambda: b.training(False, False), "channels_last": lambda: b.training(True, False),
           "compile": lambda: b.training(False, True),
           "compile+channels_last": lambda: b.training(True, True),
           "forward": lambda: b.inference(False),
           "forward+channels_last": lambda: b.inference(True)}, about=about)


main()
