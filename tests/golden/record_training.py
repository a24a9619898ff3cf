#!/usr/bin/env python3
"""Records 20 training steps of small networks with PyTorch on the CPU into training.json.

    python3 -m venv V && V/bin/pip install torch numpy && V/bin/python tests/golden/record_training.py

Weights and data come from formula.py, so the file holds results only. Every run is recorded in
float64; 'spread' is how far PyTorch's own float32 run lies from it, the scale for tolerances."""
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import formula

STEPS, MOMENTUM = 20, 0.1


class Block(nn.Module):  # ResNet for CIFAR-10 with option-A shortcuts: subsample, pad with zeros
    def __init__(self, cin, cout, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.stride, self.pad = stride, (cout - cin) // 2

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.stride != 1 or self.pad:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(y + x)


class ResNet20(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        stage = lambda cin, c, s: nn.Sequential(Block(cin, c, s), Block(c, c, 1), Block(c, c, 1))
        self.layer1, self.layer2, self.layer3 = stage(16, 16, 1), stage(16, 32, 2), stage(32, 64, 2)
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.linear(x.mean((2, 3)))


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64),
                         nn.ReLU(), nn.Linear(64, 10))


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(16 * 7 * 7, 10))


NETS = {"mlp": (mlp, (1, 28, 28)), "cnn": (cnn, (1, 28, 28)), "resnet20": (ResNet20, (3, 32, 32))}
OPTIMIZERS = {
    "sgd": (torch.optim.SGD, dict(lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)),
    "sgd_slow": (torch.optim.SGD, dict(lr=0.001, momentum=0.9, nesterov=True, weight_decay=5e-4)),
    "sgd_plain": (torch.optim.SGD, dict(lr=0.1)),
    "sgd_momentum": (torch.optim.SGD, dict(lr=0.02, momentum=0.9)),
    "adam": (torch.optim.Adam, dict(lr=1e-3, betas=(0.9, 0.999), eps=1e-8)),
    "adamw": (torch.optim.AdamW, dict(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)),
    "rmsprop": (torch.optim.RMSprop, dict(lr=1e-3, alpha=0.99, eps=1e-8)),
}
# ResNet-20 learns slowly here: at .01 rounding errors of float32 grow to 1 % of the loss.
SGD = {"mlp": "sgd", "cnn": "sgd", "resnet20": "sgd_slow"}
RUNS = [(net, SGD[net], batch) for net in NETS for batch in (128, 32, 8)]
RUNS += [("mlp", opt, 32) for opt in OPTIMIZERS if opt not in SGD.values()]


def initialize(net):
    """Weights: uniform within sqrt(6 / fan_in); biases within .1; batch norm starts at 1 and 0."""
    params = []
    for i, (name, p) in enumerate(net.named_parameters()):
        if p.dim() > 1:
            bound = float(np.float32(np.sqrt(6 / np.prod(p.shape[1:]))))
            value, entry = formula.tensor(i + 1, p.shape, bound), {"seed": i + 1, "bound": bound}
        elif ".bn" in f".{name}" or isinstance(net, nn.Sequential) and isinstance(
                net[int(name.split(".")[0])], nn.BatchNorm2d):
            value = np.full(p.shape, 1.0 if name.endswith("weight") else 0.0, np.float32)
            entry = {"fill": float(value[0])}
        else:
            value, entry = formula.tensor(i + 1, p.shape, 0.1), {"seed": i + 1,
                                                                 "bound": float(np.float32(0.1))}
        p.data = torch.from_numpy(value).to(p.dtype)
        params.append({"name": name, "shape": list(p.shape), **entry})
    return params


def digest(t):
    """Norm, sum, and up to four values spread over the tensor."""
    flat = t.detach().double().reshape(-1)
    picks = sorted({int(k * (len(flat) - 1) // 3) for k in range(4)})
    return {"norm": float(flat.norm()), "sum": float(flat.sum()), "count": len(flat),
            "at": picks, "values": [float(flat[k]) for k in picks]}


def distance(a, b):
    """How far two digests are apart: norm, sum and values, relative to the norm."""
    scale = max(a["norm"], 0.01)
    worst = max([abs(a["norm"] - b["norm"]), abs(a["sum"] - b["sum"]) / a["count"] ** 0.5]
                + [abs(x - y) for x, y in zip(a["values"], b["values"])])
    return worst / scale


def train(net, shape, optimizer, batch, dtype):
    net = net.to(dtype).train()
    initialize(net)
    counts = {}  # elements behind each channel's variance
    for name, module in net.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(
                lambda m, x, y, name=name: counts.__setitem__(name, x[0].numel() // x[0].shape[1]))
    maker, options = OPTIMIZERS[optimizer]
    opt = maker(net.parameters(), **options)
    losses, gradients = [], {}
    for step in range(STEPS):
        x, t = formula.samples(step * batch, batch, shape)
        logits = net(torch.from_numpy(x).to(dtype))
        loss = F.cross_entropy(logits, torch.from_numpy(t))
        opt.zero_grad()
        loss.backward()
        if step == 0:
            gradients = {n: digest(p.grad) for n, p in net.named_parameters()}
            first = [float(v) for v in logits[0].detach()]
        losses.append(float(loss.detach()))
        opt.step()
    state = {n: p for n, p in net.named_parameters()}
    for name, n in counts.items():
        module = net.get_submodule(name)
        state[f"{name}.running_mean"] = module.running_mean
        kept = (1 - MOMENTUM) ** STEPS  # PyTorch averages n/(n-1) of the variance, ONNX the variance
        state[f"{name}.running_var"] = (module.running_var - kept) * (n - 1) / n + kept
    return losses, gradients, first, {n: digest(v) for n, v in state.items()}


def main():
    torch.manual_seed(0)
    runs = []
    for name, optimizer, batch in RUNS:
        make, shape = NETS[name]
        losses, gradients, first, final = train(make(), shape, optimizer, batch, torch.float64)
        single = train(make(), shape, optimizer, batch, torch.float32)
        apart = max(abs(a - b) / max(1, abs(a)) for a, b in zip(losses, single[0]))
        state = max(distance(final[k], single[3][k]) for k in final)
        runs.append({"net": name, "optimizer": optimizer, "batch": batch, "losses": losses,
                     "losses_f32": single[0],
                     "spread": {"loss": apart, "state": state}, "logits": first,
                     "gradients": gradients, "final": final})
        print(f"{name} {optimizer} {batch}: loss {losses[0]:.4f} -> {losses[-1]:.4f}, "
              f"float32 differs by {apart:.1e} in loss, {state:.1e} in states", flush=True)
    nets = {name: {"input": shape, "parameters": initialize(make())}
            for name, (make, shape) in NETS.items()}
    optimizers = {name: options for name, (_, options) in OPTIMIZERS.items()}
    text = json.dumps({"torch": torch.__version__, "steps": STEPS, "nets": nets,
                       "optimizers": optimizers, "runs": runs})
    text = text.replace('{"net":', '\n{"net":').replace('{"name":', '\n{"name":')
    Path(__file__).with_name("training.json").write_text(text + "\n")


main()
