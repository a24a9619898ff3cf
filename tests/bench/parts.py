"""The parts of tools/bench: each gives rows for its tables, as JSON; before: those of its last run. A
peer that cannot run gives an {"error": why} where its figures would be."""
import json
import os
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from peers import LIMITS, swiftshader
from workers import Failed, Runner, Worker, alternate

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OURS = HERE / "recipes"
# name, recipe, share of the time; software Vulkan devices run only the first ones
NETWORKS = [("MLP", OURS / "mlp.yaml", 0.6), ("CNN", OURS / "cnn.yaml", 1),
            ("Fashion-MNIST demo", ROOT / "recipes/fashion-mnist.yaml", 0.8),
            ("ResNet-20", ROOT / "recipes/cifar10-resnet20.yaml", 1.8),
            ("ResNet-18", ROOT / "recipes/cifar10-resnet18.yaml", 4.5),
            ("airbench94", ROOT / "recipes/cifar10-airbench.yaml", 4.5),
            ("MobileNet", OURS / "mobilenet.yaml", 0.8), ("ConvNeXt", OURS / "convnext.yaml", 0.8),
            ("GroupNorm", OURS / "groupnorm.yaml", 0.8)]
TARGETS = ("MLP", "CNN", "ResNet-20", "ResNet-18", "airbench94")
TINY = [("MLP", OURS / "mlp.yaml", 1)]
SMALL = ("MLP", "CNN")
TORCH_MODES = ("eager", "channels_last", "compile", "compile+channels_last")
PRODUCTS = ("1024x1024x1024", "4096x512x2048")
CONVOLUTIONS = ((64, 32), (128, 16), (256, 8))  # channels, side


class Bench:
    """What the parts share: programs, devices, peers, limits of time."""

    def __init__(self, build, peers, quick=False, tiny=False, limit=None):
        """limit: instructions that the CPU and the peers on it are kept to; other devices are then
        left out, as their drivers cannot be."""
        self.build, self.peers, self.quick, self.tiny, self.limit = build, peers, quick, tiny, limit
        self.tool, self.worker_tool = build / "tools/gimbal", build / "tests/bench/bench_worker"
        self.folder = build / "bench"
        self.folder.mkdir(exist_ok=True)
        listed = self.gimbal("devices")["devices"]
        self.devices = [d for d in listed
                        if d["usable"] and d["backend"] not in ("reference", "null")]
        if tiny or limit:
            self.devices = [d for d in self.devices if d["backend"] == "cpu"]
        self.unit = 0.1 if tiny else 8 if quick else 16  # seconds for a network of share 1
        self.seconds, self.rounds = (0.05, 1) if tiny else (0.7, 3)

    def gimbal(self, *args, env=None, limit=300):
        try:
            done = subprocess.run([str(self.tool), *map(str, args), "--json", *self.isa_option()],
                                  capture_output=True, text=True, timeout=limit,
                                  env={**os.environ, **(env or {})})
            result = json.loads(done.stdout)
        except subprocess.TimeoutExpired as e:
            raise Failed(f"took over {limit} s") from e
        except ValueError as e:
            raise Failed(f"gimbal ended with {done.returncode}: {done.stderr[-160:]}") from e
        if "error" in result:
            raise Failed(result["error"]["message"])
        return result

    def log(self, name):
        return self.folder / "log" / (re.sub(r"\W+", "_", name) + ".txt")

    def isa_option(self):
        return ["--isa", self.limit] if self.limit else []

    def ours(self, device, recipe, *sets):
        name = f"gimbal {device} {Path(recipe).stem}"
        return Worker(name, [self.worker_tool, *self.isa_option(), device, recipe, *sets],
                      self.log(name))

    def trainer(self, device, recipe, *sets):
        return self.ours(device, recipe, *(["batch=8"] if self.tiny else []), *sets)

    def peer(self, name, script, *args, env=None, ready=120):
        needed = {"torch_worker.py": ("torch", "yaml"), "ort_worker.py": ("onnxruntime",),
                  "tinygrad_worker.py": ("tinygrad",), "numpy_worker.py": ("numpy",)}[script]
        for module in needed:
            if module in self.peers.missing:
                raise Failed(f"not installed: {self.peers.missing[module]}")
        inductor = f"inductor-{self.limit}" if self.limit else "inductor"
        env = {"TORCHINDUCTOR_CACHE_DIR": str(self.folder / inductor),
               **LIMITS.get(self.limit, {}), **(env or {})}
        return Worker(name, [self.peers.python, HERE / script, *args], self.log(name), env,
                      cwd=HERE, ready=ready)

    def software(self, device):
        return device["kind"] == "software"

    def threads_of_peer(self):
        """OpenBLAS 0.3 takes no AVX-512 of an unknown CPU by itself."""
        return {"OPENBLAS_CORETYPE": "SkylakeX"} if "avx512" in self.isa() else {}

    def isa(self):
        cpu = next(d for d in self.devices if d["backend"] == "cpu")
        return cpu["version"]


# --- training steps ---

def torch_modes(b, name):
    """Compiling takes 10 to 80 s a mode: for the networks of the targets."""
    return TORCH_MODES[:2] if b.quick or name not in TARGETS else TORCH_MODES


def step_runners(b, name, recipe):
    runners = []
    for d in b.devices:
        if b.software(d) and d["backend"] == "vulkan" and name not in SMALL:
            continue
        runners.append(Runner(d["id"], lambda d=d: b.trainer(d["id"], recipe), "step"))
    return runners + (peer_runners(b, name, recipe) if b.peers.wanted else [])


def peer_runners(b, name, recipe):
    runners, shared = [], []

    def uncompiled():
        if not shared:
            shared.append(b.peer("PyTorch", "torch_worker.py", "cpu", recipe))
        return shared[0]

    for mode in torch_modes(b, name):
        compiled = mode.startswith("compile")
        make = (lambda: b.peer("PyTorch compiled", "torch_worker.py", "cpu", recipe)) \
            if compiled else uncompiled
        runners.append(Runner(f"PyTorch {mode}", make, mode, "torch", 150 if compiled else 300))
    gpu = b.peers.accelerator()
    for mode in ("eager", "channels_last") if gpu else ():
        runners.append(Runner(f"PyTorch {gpu} {mode}", lambda: b.peer(
            f"PyTorch {gpu}", "torch_worker.py", gpu, recipe), mode, "torch gpu"))
    if name == "CNN" and not b.tiny and any(d["backend"] == "opencl" for d in b.devices):
        runners.append(Runner("tinygrad OpenCL", lambda: b.peer(
            "tinygrad", "tinygrad_worker.py", 128, env={"DEV": "CL"}), "step", limit=200))
    return runners


def steps(b, before):
    networks = before.get("networks", {}) if b.networks else {}
    for name, recipe, share in TINY if b.tiny else NETWORKS:
        if b.networks and name not in b.networks:
            continue
        b.say(f"training steps: {name}")
        networks[name] = alternate(step_runners(b, name, recipe), b.seconds,
                                   2 if share > 2 else 3, b.rounds, share * b.unit, b.say)
    return {"networks": {n[0]: networks[n[0]] for n in NETWORKS if n[0] in networks}}


# --- inference ---

def exported_model(b):
    """model.onnx of ResNet-20, as gimbal exports it."""
    out = b.folder / "resnet20"
    if not (out / "model.onnx").exists():
        recipe = ROOT / "recipes/cifar10-resnet20.yaml"
        b.gimbal("train", recipe, "--set", f"data.path={cifar_of_noise(b)}", "--steps", 1, "--out",
                 out, "--device", "cpu")
    return out / "model.onnx"


def cifar_of_noise(b):
    """A folder in CIFAR-10's format, for what reads data: its pictures are noise."""
    folder = b.folder / "cifar10"
    folder.mkdir(exist_ok=True)
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        path = folder / f"{name}.bin"
        if path.exists():
            continue
        rows = bytearray(os.urandom(10000 * 3073))
        rows[::3073] = bytes(i % 10 for i in range(10000))
        part = path.with_suffix(".part")
        part.write_bytes(rows)
        part.rename(path)
    return folder


def inference(b, before):
    batches = {}
    if b.tiny:
        return {"batches": batches}
    model = exported_model(b)
    for batch in (128, 1):
        b.say(f"inference: batch {batch}")
        runners = [Runner(d["id"], lambda d=d: b.ours(d["id"], model, batch), "forward")
                   for d in b.devices if not (b.software(d) and d["backend"] == "vulkan")]
        runners.append(Runner("ONNX Runtime", lambda: b.peer(
            "ONNX Runtime", "ort_worker.py", model, batch), "forward"))
        recipe = ROOT / "recipes/cifar10-resnet20.yaml"
        runners += [Runner(f"PyTorch {mode}", lambda: b.peer(
            "PyTorch inference", "torch_worker.py", "cpu", recipe, f"batch={batch}"), call, "torch")
            for mode, call in (("eager", "forward"), ("channels_last", "forward+channels_last"))]
        batches[str(batch)] = alternate(runners, b.seconds, 3, b.rounds, 30)
    return {"batches": batches}


# --- operators ---

def product_spec(size):
    return f"MatMul {size}", 2.0 * eval_product(size)


def eval_product(size):
    total = 1
    for part in size.split("x"):
        total *= int(part)
    return total


def conv_spec(channels, side, batch=128):
    spec = f"Conv {batch}x{channels}x{side}x{side} {channels}x{channels}x3x3 s1 p1"
    return spec, 2.0 * batch * channels * channels * 9 * side * side


def cell(row, flops):
    """GFLOP/s at the median, and at the best."""
    return {"gflops": flops / row["ms"]["median"] * 1e-6, "best": flops / row["ms"]["min"] * 1e-6}


def own_operator(b, device, spec, flops, env=None):
    """The row, and the peak that the device measures of itself."""
    try:
        result = b.gimbal("bench", "--op", spec, "--only", "forward", "--device", device, env=env)
    except Failed as e:
        return {"error": str(e)}, None
    return cell(result["results"][0], flops), result["peak"]["gflops"]


def peer_products(b, runners):
    rows = {}
    for runner in runners:
        try:
            worker = runner[1]()
            rows[runner[0]] = {"about": worker.about}
            for size in PRODUCTS:
                ms = worker.ask(size, b.seconds, 3)["ms"]
                rows[runner[0]][size] = cell({"ms": {"median": statistics.median(ms),
                                                     "min": min(ms)}}, 2.0 * eval_product(size))
            worker.close()
        except Failed as e:
            rows[runner[0]] = {**rows.get(runner[0], {}), "error": str(e)}
    return rows


def kernels(b, before):
    """Products and convolutions on every device; the CPU's peak is taken beside each of them."""
    specs = [(size, *product_spec(size)) for size in PRODUCTS]
    specs += [(f"conv {c} ch", *conv_spec(c, side)) for c, side in CONVOLUTIONS]
    if b.tiny:
        specs = [("64x64x64", *product_spec("64x64x64"))]
    columns = [(d["id"], d, None) for d in b.devices]
    other = None if b.tiny or b.limit else swiftshader(b.build)
    if other:
        columns.append(("SwiftShader vulkan:0", {"id": "vulkan:0", "kind": "software",
                                                 "backend": "vulkan"}, other))
    rows, peaks = {}, []
    for label, spec, flops in specs:
        rows[label] = {}
        for name, d, env in columns:
            if b.software(d) and d["backend"] == "vulkan" and label != PRODUCTS[0]:
                continue  # these take seconds a call
            b.say(f"operators: {label} on {name}")
            rows[label][name], peak = own_operator(b, d["id"], spec, flops, env)
            if d["backend"] == "cpu" and peak:
                peaks.append(peak)
    peers = {}
    if not b.tiny:
        b.say("operators: OpenBLAS, CLBlast")
        wanted = [("OpenBLAS",
                   lambda: b.peer("OpenBLAS", "numpy_worker.py", env=b.threads_of_peer()))]
        if not b.limit:
            wanted.append(("CLBlast opencl:0", lambda: Worker(
                "CLBlast", ["python3", HERE / "clblast_worker.py", 0], b.log("CLBlast"), cwd=HERE)))
        peers = peer_products(b, wanted)
    return {"peak": statistics.median(peaks) if peaks else None, "rows": rows, "peers": peers}


# --- start, memory, host, growth ---

def first_steps(b, device, caches):
    """Seconds from the process's start to its first step's start and end."""
    env = {"XDG_CACHE_HOME": caches, "POCL_CACHE_DIR": caches + "/pocl",
           "MESA_SHADER_CACHE_DIR": caches + "/mesa"}
    with tempfile.TemporaryDirectory() as out:
        return b.gimbal("train", ROOT / "recipes/cifar10-resnet20.yaml", "--set",
                        f"data.path={cifar_of_noise(b)}", "--steps", 1, "--out", out, "--device",
                        device, env=env)["first_step_seconds"]


def start(b, before):
    rows = {}
    for d in [] if b.tiny else b.devices:
        if b.software(d) and d["backend"] == "vulkan":
            continue
        b.say(f"start: {d['id']}")
        caches = tempfile.mkdtemp()
        try:
            cold = first_steps(b, d["id"], caches)
            again = 0 if d["backend"] == "cpu" else 2  # the CPU builds no kernels
            warm = [first_steps(b, d["id"], caches) for _ in range(again)] or [cold]
            rows[d["id"]] = {"cold": cold, "warm": min(warm, key=lambda w: w["start"])}
        except Failed as e:
            rows[d["id"]] = {"error": str(e)}
        shutil.rmtree(caches)
    if not b.tiny:
        begin = time.monotonic()
        try:
            worker = b.peer("PyTorch start", "torch_worker.py", "cpu",
                            ROOT / "recipes/cifar10-resnet20.yaml")
            worker.ask("eager", 0, 1)
            rows["PyTorch eager"] = {"warm": {"start": None, "end": time.monotonic() - begin}}
            worker.close()
        except Failed as e:
            rows["PyTorch eager"] = {"error": str(e)}
    return {"rows": rows}


def memory(b, before):
    recipe = (OURS / "mlp.yaml") if b.tiny else ROOT / "recipes/cifar10-resnet18.yaml"
    makers = {"cpu": (lambda: b.trainer("cpu", recipe), "step")}
    for mode in () if b.tiny else ("eager", "channels_last"):
        makers[f"PyTorch {mode}"] = (lambda: b.peer("PyTorch memory", "torch_worker.py", "cpu",
                                                    recipe), mode)
    rows = {}
    for name, (make, call) in makers.items():
        b.say(f"memory: {name}")
        try:
            worker = make()
            worker.ask(call, 0, 2)
            rows[name] = worker.ask("memory")
            worker.close()
        except Failed as e:
            rows[name] = {"error": str(e)}
    return {"rows": rows}


def host(b, before):
    """What the host adds to the device's time, for the network whose steps are shortest."""
    rows = {}
    for d in b.devices:
        b.say(f"host: {d['id']}")
        try:
            p = b.gimbal("profile", OURS / "mlp.yaml", "--device", d["id"],
                         *(["--steps", 2] if b.tiny else []))
            rows[d["id"]] = {"share": p["host_share"], "device": p["ms"]["device"],
                             "host": p["ms"]["host"], "step": p["ms"]["step"],
                             "gaps": p["ms"]["gaps"], "enqueue": p["ms"]["enqueue"]}
        except Failed as e:
            rows[d["id"]] = {"error": str(e)}
    return {"rows": rows}


def growth(b, before):
    """Step times by batch and by width, of ResNet-20 and the perceptron."""
    series = [("ResNet-20, batch", ROOT / "recipes/cifar10-resnet20.yaml", "batch={}",
               (16, 32, 64, 128, 256)),
              ("ResNet-20 batch 32, width", ROOT / "recipes/cifar10-resnet20.yaml",
               "model.resnet20.width={}", (8, 16, 32, 64)),
              ("MLP, width", OURS / "mlp.yaml", "model.mlp.hidden=[{0},{0}]", (256, 512, 1024, 2048))]
    if b.tiny:
        series = [("MLP, width", OURS / "mlp.yaml", "model.mlp.hidden=[{0},{0}]", (16, 32))]
    rows = {}
    for title, recipe, setting, values in series:
        rows[title] = {}
        fixed = ["batch=32"] if "batch 32" in title else []
        for d in b.devices:
            if b.software(d) and d["backend"] == "vulkan":
                continue
            b.say(f"growth: {title} on {d['id']}")
            line = {}
            for v in values:
                runner = Runner(d["id"], lambda: b.trainer(d["id"], recipe, setting.format(v), *fixed),
                                "step")
                line[str(v)] = alternate([runner], 0.3 * b.seconds, 3, 1, 10)[d["id"]]
            rows[title][d["id"]] = line
    return {"rows": rows}


PARTS = {"steps": steps, "inference": inference, "kernels": kernels, "start": start,
         "memory": memory, "host": host, "growth": growth}
