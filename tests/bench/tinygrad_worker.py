"""tinygrad's side of tools/bench: the network of tests/bench/recipes/cnn.yaml; its device is that of
tinygrad's environment (DEV=CL). usage: tinygrad_worker.py BATCH; call: step"""
import importlib.metadata
import os
import sys

os.environ["TRAINING"] = "1"  # tinygrad reads it when it is imported

from serve import serve
from tinygrad import Device, Tensor, TinyJit, nn

batch = int(sys.argv[1])


class Net:
    def __init__(self):
        self.conv = [nn.Conv2d(1, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1)]
        self.linear = [nn.Linear(64 * 7 * 7, 128), nn.Linear(128, 10)]

    def __call__(self, x):
        for conv in self.conv:
            x = conv(x).relu().max_pool2d(2)
        return self.linear[1](self.linear[0](x.flatten(1)).relu())


def step():
    net = Net()
    opt = nn.optim.SGD(nn.state.get_parameters(net), lr=0.1, momentum=0.9)
    x, t = Tensor.randn(batch, 1, 28, 28).realize(), Tensor.randint(batch, high=10).realize()

    @TinyJit
    def train():
        opt.zero_grad()
        loss = net(x).sparse_categorical_crossentropy(t).backward()
        opt.step()
        return loss.realize()

    for _ in range(3):  # the third run is the first recorded one
        train().item()
    return lambda: train().item()


serve({"step": step},
      about=f"tinygrad {importlib.metadata.version('tinygrad')} on {Device.DEFAULT}")
