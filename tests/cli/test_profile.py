#!/usr/bin/env python3
"""gimbal profile: its JSON adds up, its tables fit the terminal, its trace is one that Perfetto opens.
Prints TAP.

usage: test_profile.py GIMBAL SOURCE_ROOT DEVICE..."""
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tap import check, finish

TOOL, ROOT, DEVICES = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
RECIPE = ROOT / "recipes/cifar10-resnet20.yaml"  # its data set is not there
SMALL = ["--set", "model.resnet20.width=4", "--set", "batch=4", "--steps", "3"]


def profile(*args, **environment):
    return subprocess.run([TOOL, "profile", *map(str, args)], capture_output=True, text=True,
                          timeout=300, env={**os.environ, **environment})


def near(a, b, tolerance=1e-6):
    return abs(a - b) <= tolerance * max(abs(a), abs(b))


def adds_up(p):
    """What is wrong with a profile."""
    steps, device = p["steps"], p["ms"]["device"]
    total = sum(s["count"] * s["ms"]["median"] for s in steps)
    if not steps or not near(total, device):
        return f"steps add up to {total}, not {device}"
    for part in ("phases", "layers", "kinds"):
        ms = [g["ms"] for g in p[part]]
        if not near(sum(ms), device) or ms != sorted(ms, reverse=True):
            return f"{part} do not add up, or are not sorted: {ms}"
        if sum(g["steps"] for g in p[part]) != len(steps):
            return f"{part} do not hold all steps"
    if {g["phase"] for g in p["phases"]} != {"forward", "backward", "optimizer"}:
        return "phases are missing"
    if not {"conv1", "layer1.0.conv1", "linear"} <= {g["path"] for g in p["layers"]}:
        return "layers are missing"
    begins = [s["begin_ms"] for s in steps]
    if begins != sorted(begins):
        return "steps do not begin in order"
    for s in steps:
        if not s["variant"] or s["ms"]["min"] > s["ms"]["median"] or s["ms"]["min"] < 0:
            return f"a strange step: {s}"
        if p["peak"]["gflops"] and s["gflops"] and not s["of_peak"] > 0:
            return f"no share of peak: {s}"
    return ""


def bad_trace(trace, p):
    """What keeps a trace from being opened, or read."""
    events = trace["traceEvents"]
    slices = [e for e in events if e["ph"] == "X"]
    names = {(e["pid"], e["name"]): e["args"]["name"] for e in events if e["ph"] == "M"}
    if set(names.values()) < {"host", p["device"], "steps", "phases"}:
        return f"tracks have no names: {names}"
    for e in slices:
        if not (isinstance(e["name"], str) and e["ts"] >= 0 and e["dur"] >= 0 and
                isinstance(e["pid"], int) and isinstance(e["tid"], int)):
            return f"a strange slice: {e}"
    steps = [e for e in slices if "layer" in e["args"]]
    if len(steps) != p["runs"] * len(p["steps"]):
        return f"{len(steps)} slices for {p['runs']} runs of {len(p['steps'])} steps"
    tracks = {}
    for e in slices:
        tracks.setdefault((e["pid"], e["tid"]), []).append(e)
    if len(tracks) != 3:
        return f"tracks {list(tracks)}"
    for track in tracks.values():
        track.sort(key=lambda e: e["ts"])
        for a, b in zip(track, track[1:]):  # a microsecond: clocks are rounded
            if b["ts"] + 1 < a["ts"] + a["dur"]:
                return f"{a} overlaps {b}"
    calls = {e["name"] for e in slices if e["cat"] == "host"}
    if not {"make programs", "run with clocks", "enqueue", "wait"} <= calls:
        return f"calls of the host are missing: {calls}"
    return ""


def on_device(device, folder):
    trace = folder / f"{device.replace(':', '_')}.json"
    more = ["--validate"] if device.startswith("vulkan") else []
    done = profile(RECIPE, "--device", device, *SMALL, *more, "--json", "--trace", trace)
    check(f"{device}: profile", done.returncode == 0, done.stderr)
    if done.returncode:
        return
    p = json.loads(done.stdout)
    check(f"{device}: times add up", not adds_up(p), adds_up(p))
    problem = bad_trace(json.loads(trace.read_text()), p)
    check(f"{device}: the trace opens", not problem, problem)


def one_launch(device):
    """On a CPU the parts of a small network start together: each start costs a percent of a step."""
    kinds = subprocess.run([TOOL, "devices", "--json"], capture_output=True, text=True, timeout=300)
    kind = {d["id"]: d["kind"] for d in json.loads(kinds.stdout)["devices"]}[device]
    if not device.startswith("opencl") or kind != "software":
        return
    done = profile(ROOT / "tests/bench/recipes/mlp.yaml", "--device", device, "--steps", "3", "--json")
    kernels = json.loads(done.stdout).get("kernels")
    check(f"{device}: the MLP is one launch", kernels == 1, kernels)


def text():
    done = profile(RECIPE, "--device", "cpu", *SMALL, "--top", "3", COLUMNS="90")
    lines = done.stdout.splitlines()
    check("tables", done.returncode == 0 and all(
        word in done.stdout for word in ("a training step", "sum %", "slowest steps", "forward",
                                         "backward", "optimizer", "more", "#")), done)
    check("tables fit the terminal", max(map(len, lines)) <= 90, done.stdout)
    done = profile(RECIPE, "--device", "cpu", *SMALL, "--set", "micro_batch=2", "--json")
    p = json.loads(done.stdout)
    check("micro-batches count", not adds_up(p) and {s["count"] for s in p["steps"]} == {1, 2},
          adds_up(p))
    done = profile(RECIPE, "--device", "cpu", *SMALL, "--trace", "/no/such/folder/x.json", "--json")
    check("a trace that cannot be written", done.returncode == 1 and
          "/no/such/folder" in str(json.loads(done.stdout)["error"]), done)


def main():
    with tempfile.TemporaryDirectory() as folder:
        for device in DEVICES:
            on_device(device, Path(folder))
            one_launch(device)
    text()
    finish()


main()
