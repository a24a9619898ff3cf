#!/usr/bin/env python3
"""A run from recipe to predictions: train, interrupt, resume, eval, predict. Prints TAP.

usage: test_run.py GIMBAL SOURCE_ROOT"""
import json
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

from tap import check, finish
from tiny import images, weights, write_data

TOOL, ROOT = sys.argv[1], Path(sys.argv[2])
random.seed(1)


def gimbal(*args):
    done = subprocess.run([TOOL, *map(str, args), "--device", "cpu", "--json"],
                          capture_output=True, text=True, timeout=300)
    return done, json.loads(done.stdout)


def png(path, pixels, size):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(
            ">I", zlib.crc32(kind + body))
    raw = b"".join(b"\0" + bytes(pixels[y * size:(y + 1) * size]) for y in range(size))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(
        ">IIBBBBB", size, size, 8, 0, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(raw)) + chunk(
        b"IEND", b""))


def budgets(folder, recipe, planned):
    """--set memory.budget: parts of a batch, what was chosen in the JSON, a resume, a refusal."""
    small, cut = folder / "small", folder / "small-cut"
    budget = f"memory.budget={planned // 2}"
    done, r = gimbal("train", recipe, "--out", small, "--set", budget)
    m = r["memory"]
    check("a budget: kept, and told", m["budget_bytes"] == planned // 2 and m["recomputed"] >= 0
          and m["planned_bytes"] <= planned // 2 and 0 < m["micro_batch"] < 32, done)
    check("a budget: the run says what micro-batches mean for normalizations",
          "statistics of batch normalizations" in done.stderr and "examples at once" in done.stderr,
          done)
    gimbal("train", recipe, "--out", cut, "--set", budget, "--steps", 20)
    gimbal("train", "--resume", cut)
    check("a budget: a run cut resumes to the same bits", weights(cut) == weights(small))
    micro_batch_of_the_run(folder / "other", recipe, budget, m["micro_batch"])
    done, r = gimbal("train", recipe, "--out", folder / "none", "--set", "memory.budget=2KiB")
    check("a budget too small: refused with the least", done.returncode == 1 and
          "needs at least" in r["error"]["message"], done)


def micro_batch_of_the_run(run, recipe, budget, chosen):
    """A resume takes the micro-batch that the run began with, whatever would be chosen here."""
    gimbal("train", recipe, "--out", run, "--set", budget, "--steps", 20)
    path = run / "checkpoints" / "state.json"
    state = json.loads(path.read_text())
    check("a budget: the micro-batch is part of the state", state["micro_batch"] == chosen)
    path.write_text(json.dumps({**state, "micro_batch": chosen // 2}))
    _, r = gimbal("train", "--resume", run, "--steps", 22)
    check("a budget: a resume keeps the run's micro-batch",
          r["memory"]["micro_batch"] == chosen // 2, r)
    check("a budget: and so does the next checkpoint",
          json.loads(path.read_text())["micro_batch"] == chosen // 2)
    path.write_text(json.dumps({**state, "micro_batch": 7}))
    done, r = gimbal("train", "--resume", run)
    check("a budget: a micro-batch that cannot be is refused", done.returncode == 1 and
          "parts of 7" in r["error"]["message"], r)


RECIPE = """data: {dataset: idx, path: %s}
model:
  layers: [{conv: {out: 4, kernel: 3, padding: same}}, batchnorm, relu, flatten, {dropout: 0.1},
           linear: 4]
optimizer: {sgd: {lr: 0.05, momentum: 0.9}}
schedule: cosine
batch: 32
epochs: 3
"""


def killed_again_and_again(folder, recipe):
    """A run that is killed without warning, often while it writes, ends like one that was not."""
    long, cut = folder / "long", folder / "killed"
    gimbal("train", recipe, "--out", long, "--set", "epochs=30")
    start = ["train", str(recipe), "--out", str(cut), "--set", "epochs=30"]
    kills = 0
    while kills < 12:
        process = subprocess.Popen([TOOL, *start, "--device", "cpu", "--json"],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = set((cut / "checkpoints").glob("*")) if cut.exists() else set()
        while process.poll() is None and set((cut / "checkpoints").glob("*")) == before:
            time.sleep(0.002)  # a checkpoint begins: it may be half written now
        time.sleep(random.random() * 0.01)
        process.kill()
        if process.wait() == 0:
            break
        kills += 1
        if (cut / "checkpoints" / "state.json").exists():
            start = ["train", "--resume", str(cut)]
    done, r = gimbal(*start)
    check(f"killed {kills} times, it ends with the same bits", kills >= 3 and
          done.returncode == 0 and weights(cut) == weights(long), done)
    steps = [json.loads(line)["step"] for line in (cut / "metrics.jsonl").read_text().splitlines()]
    check("its log has every step", sorted(set(steps)) == list(range(1, 571)), len(steps))


def read_late(folder, recipe):
    """Figures that are read for many steps at once are those that are read step by step."""
    whole, cut = folder / "at-once", folder / "by-step"
    gimbal("train", recipe, "--out", whole, "--steps", 8)
    gimbal("train", recipe, "--out", cut, "--steps", 1)
    for steps in range(2, 9):
        gimbal("train", "--resume", cut, "--steps", steps)
    logs = [(run / "metrics.jsonl").read_text() for run in (whole, cut)]
    check("figures read late are those read at once", logs[0] == logs[1] and
          logs[0].count("\n") == 8 and weights(whole) == weights(cut), logs)
    wild = folder / "wild"
    done, r = gimbal("train", recipe, "--out", wild, "--set", "optimizer.sgd.lr=1e6", "--set",
                     "optimizer.sgd.weight_decay=1", "--set", "schedule=constant")
    steps = [json.loads(line)["step"] for line in (wild / "metrics.jsonl").read_text().splitlines()]
    message = r["error"]["message"]
    check("a failed step and its layer are named, those before it logged", done.returncode == 1 and
          f"at step {len(steps)}:" in message and "layers." in message and len(steps) > 0 and
          steps == list(range(1, len(steps) + 1)), (message, steps))


def where_it_ran(folder, recipe):
    """Without --device a run goes on where it ran; with another one that is told."""
    run = folder / "reference"

    def plain(*args):
        done = subprocess.run([TOOL, "train", *map(str, args), "--json"], capture_output=True,
                              text=True, timeout=300)
        return done, json.loads(done.stdout)
    plain(recipe, "--out", run, "--steps", 2, "--device", "reference")
    done, r = plain("--resume", run, "--steps", 4)
    check("a resume goes on where the run was", r["device"] == "reference" and r["steps"] == 4
          and "the run was on" not in done.stderr, done)
    done, r = plain("--resume", run, "--steps", 6, "--device", "cpu")
    check("a resume elsewhere is told", r["device"] == "cpu" and
          "the run was on reference: on cpu" in done.stderr, done)
    path = run / "checkpoints" / "state.json"
    path.write_text(path.read_text().replace('"cpu"', '"opencl:99"'))
    done, r = plain("--resume", run)
    check("the run's device is gone", done.returncode == 1 and
          "opencl:99" in r["error"]["message"] + r["error"]["input"], done)


def full_disk(folder, recipe, whole):
    """Files that cannot grow any more: a clear failure, and what was saved goes on later."""
    full = folder / "full"
    gimbal("train", recipe, "--out", full, "--steps", 20)

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    done = subprocess.run([TOOL, "train", "--resume", full, "--device", "cpu", "--json"],
                          capture_output=True, text=True, preexec_fn=limit, timeout=300)
    check("a full disk is an error", done.returncode == 1 and
          json.loads(done.stdout)["error"]["message"], done)
    done, r = gimbal("train", "--resume", full)
    check("nothing is lost to a full disk", done.returncode == 0 and
          weights(full) == weights(whole), done)


def main():
    folder = Path(tempfile.mkdtemp(prefix="gimbal-cli-"))
    write_data(folder)
    recipe = folder / "r.yaml"
    recipe.write_text(RECIPE % folder)
    whole, cut = folder / "whole", folder / "cut"

    done, r = gimbal("train", recipe, "--out", whole)
    keys = {"out", "device", "parameters", "epochs", "steps", "train", "test", "seconds",
            "step_ms", "memory", "kernels_built", "first_step_seconds"}
    check("train: keys and figures", done.returncode == 0 and keys <= set(r) and r["steps"] == 57
          and 0 < r["first_step_seconds"]["start"] < r["first_step_seconds"]["end"] < 100
          and r["epochs"] == 3 and r["parameters"] == 1076 and r["test"]["examples"] == 100, done)
    check("train: it learns", r["test"]["accuracy"] > 0.95, r)
    files = {p.name.split(".out")[0] for p in whole.iterdir()}
    check("train: the run folder", {"recipe.yaml", "dataset.json", "metrics.jsonl", "events",
                                    "checkpoints", "model.onnx", "report.html"} <= files, files)

    gimbal("train", recipe, "--out", cut, "--steps", 20)
    done, s = gimbal("train", "--resume", cut)
    check("a run cut at step 20 resumes to the same bits",
          s["steps"] == 57 and weights(cut) == weights(whole), done)
    done, s = gimbal("train", whole / "recipe.yaml", "--out", folder / "again")
    check("the resolved recipe runs again to the same bits",
          weights(folder / "again") == weights(whole), done)
    done, s = gimbal("train", recipe, "--out", folder / "one", "--threads", 1)
    check("one thread gives the same bits", weights(folder / "one") == weights(whole), done)
    done, s = gimbal("train", recipe, "--out", folder / "other", "--seed", 2)
    check("another seed gives other bits", weights(folder / "other") != weights(whole), done)

    budgets(folder, recipe, r["memory"]["planned_bytes"])
    killed_again_and_again(folder, recipe)
    full_disk(folder, recipe, whole)
    where_it_ran(folder, recipe)
    read_late(folder, recipe)

    stopped = folder / "stopped"
    process = subprocess.Popen([TOOL, "train", recipe, "--out", stopped, "--device", "cpu",
                                "--set", "epochs=100000", "--json"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    while not (stopped / "metrics.jsonl").exists() and process.poll() is None:
        time.sleep(0.05)
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    error = json.loads(out)["error"]
    check("SIGINT saves and exits with 130", process.returncode == 130 and "saved" in
          error["message"] and "--resume" in error["hint"] and weights(stopped), err)
    check("a stopped run has its report", "Not complete" in (stopped / "report.html").read_text(), err)

    done, e = gimbal("eval", whole)
    check("eval of the run gives training's figures", e["accuracy"] == r["test"]["accuracy"]
          and abs(e["loss"] - r["test"]["loss"]) < 1e-6 and e["examples"] == 100, done)
    done, e = gimbal("eval", max((whole / "checkpoints").glob("*.safetensors")))
    check("eval of a checkpoint", e["accuracy"] == r["test"]["accuracy"], done)

    done, c = gimbal("compare", recipe, "--devices", "cpu,reference", "--steps", 3,
                     "--html", folder / "compare.html")
    keys = {"reference", "devices", "layers", "loss", "step_ms", "memory_bytes", "verdict", "worst"}
    layer = {"name", "op", "forward", "backward", "ms"}
    check("compare: keys and verdict", done.returncode == 0 and keys <= set(c)
          and c["devices"] == ["cpu", "reference"] and c["verdict"] == "agree"
          and all(layer <= set(l) and set(l["ms"]) == set(c["devices"]) for l in c["layers"])
          and len(c["loss"]["cpu"]) == 3 and {"layer", "device", "error", "tolerance"}
          <= set(c["worst"]), done)
    page = (folder / "compare.html").read_text()
    check("compare: a page with pictures", "<svg" in page and "layers.0.conv" in page, page[:500])
    done, c = gimbal("compare", recipe, "--devices", "cpu", "--set", "precision=bf16", "--steps", 1)
    check("compare: bf16 is rounded alike on the reference", done.returncode == 0
          and c["verdict"] == "agree" and c["worst"]["error"] < 2**-8, done)
    done, c = gimbal("compare", whole / "model.onnx", "--devices", "cpu,reference")
    check("compare of an ONNX model", done.returncode == 0 and c["verdict"] == "agree"
          and len(c["layers"]) >= 4 and all(l["forward"]["reference"] == 0 and
                                            l["forward"]["cpu"] < 1e-4 for l in c["layers"])
          and c["loss"] == {"cpu": [], "reference": []} and c["step_ms"]["cpu"] > 0, done)
    done, b = gimbal("bench", "--op", "Conv 4x8x9x9 16x4x3x3 s2 p1")
    rows = [(x["name"], x["phase"]) for x in b["results"]]
    check("bench of an operator", rows == [("Conv 4x8x9x9 16x4x3x3 s2 p1", p) for p in
                                           ("forward", "step")] and b["peak"]["gflops"] > 1
          and 0 < b["results"][0]["of_peak"] < 2, done)
    done, b = gimbal("bench", "--model", recipe)
    check("bench of a model", [x["phase"] for x in b["results"]] == ["forward", "step"]
          and all(x["ms"]["min"] <= x["ms"]["median"] for x in b["results"]), done)
    done, b = gimbal("bench", "--op", "Softmax 16x32", "--only", "forward")
    check("bench of the forward run alone", [r["phase"] for r in b["results"]] == ["forward"], done)
    done, b = gimbal("bench", "--op", "Conv 4x8x9x9 y")
    check("bench: a bad text", done.returncode == 1 and "'y'" in b["error"]["message"], done)

    done, e = gimbal("eval", whole / "model.onnx")
    check("eval of the exported model", e["accuracy"] == r["test"]["accuracy"]
          and abs(e["loss"] - r["test"]["loss"]) < 1e-5, done)
    for p in folder.glob("t*ubyte"):
        p.unlink()  # predictions need no data set
    for label in range(4):
        png(folder / f"{label}.png", images(label), 8)
    done, p = gimbal("predict", whole, *(folder / f"{label}.png" for label in range(4)))
    found = [x["classes"][0]["index"] for x in p["predictions"]]
    chances = [c["probability"] for c in p["predictions"][0]["classes"]]
    check("predict", found == [0, 1, 2, 3] and abs(sum(chances) - 1) < 1e-6
          and chances == sorted(chances, reverse=True), p)
    done, p = gimbal("predict", whole, recipe)
    check("predict: a file that is no image", done.returncode == 1 and "r.yaml" in p["error"]["input"], p)
    subprocess.run(["rm", "-r", folder])
    finish()


main()
