#!/usr/bin/env python3
"""Tuning from the command line: what it prints, keeps and merges, and runs that go on with the kernels
that they began with. Prints TAP.

usage: test_tune.py GIMBAL SOURCE_ROOT DEVICE..."""
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tap import check, finish
from tiny import weights, write_data

TOOL, DEVICES = sys.argv[1], sys.argv[3:]

RECIPE = """data: {dataset: idx, path: %s}
model:
  layers: [{conv: {out: 16, kernel: 3, padding: same}}, batchnorm, relu,
           {conv: {out: 16, kernel: 3, padding: same}}, relu, flatten, linear: 4]
optimizer: {sgd: {lr: 0.05, momentum: 0.9}}
batch: 64
epochs: 2
"""


class Machine:
    """The tool with a cache folder of its own."""

    def __init__(self, folder, device):
        self.device, self.file = device, folder / "gimbal/tuning.json"
        folder.mkdir(exist_ok=True)
        self.env = {**os.environ, "XDG_CACHE_HOME": str(folder)}

    def start(self, *args):
        return subprocess.Popen([TOOL, *map(str, args), "--device", self.device, "--json"],
                                env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True)

    def run(self, *args):
        process = self.start(*args)
        out, err = process.communicate(timeout=300)
        return process.returncode, json.loads(out), err


def tunes(folder, recipe, device):
    machine = Machine(folder / f"cache-{device}", device)
    code, r, err = machine.run("tune", recipe)
    keys = {"step", "layer", "count", "known", "default", "winner", "gain", "candidates"}
    check(f"{device}: tune: keys", code == 0 and {"device", "file", "seconds", "steps"} <= set(r)
          and r["steps"] and all(keys <= set(s) for s in r["steps"]), (r, err))
    check(f"{device}: every winner is right", all(
        [c["verdict"] for c in s["candidates"] if c["variant"] == s["winner"]] == ["ok"]
        and s["gain"] >= 1 for s in r["steps"]), r)
    check(f"{device}: no implementation is wrong", not [
        (s["step"], c) for s in r["steps"] for c in s["candidates"] if c["verdict"] == "wrong"], r)
    kept = json.loads(machine.file.read_text())["devices"][-1]["choices"]
    check(f"{device}: winners are kept", {s["step"]: s["winner"] for s in r["steps"]} ==
          {k: c["variant"] for k, c in kept.items()}, kept)
    code, again, err = machine.run("tune", recipe)
    check(f"{device}: what is known is not measured again", code == 0 and again["steps"] and
          all(s["known"] for s in again["steps"]), again)
    return machine, r


def with_variants(machine, steps, pick):
    """The tuning file with another implementation for each step that has several right ones."""
    document = json.loads(machine.file.read_text())
    for s in steps:
        right = [c["variant"] for c in s["candidates"] if c["verdict"] == "ok"]
        document["devices"][-1]["choices"][s["step"]]["variant"] = right[pick % len(right)]
    return json.dumps(document)


def resumes(folder, recipe, machine, steps):
    """A run that goes on after the tuning file has changed ends with the bits of one that was not cut."""
    first, other = with_variants(machine, steps, 0), with_variants(machine, steps, 1)
    whole, cut, others, plain = (folder / f"{n}-{machine.device}" for n in
                                 ("whole", "cut", "others", "plain"))
    machine.file.write_text(first)
    machine.run("train", recipe, "--out", whole)
    machine.run("train", recipe, "--out", cut, "--steps", 7)
    machine.file.write_text(other)
    code, r, err = machine.run("train", "--resume", cut)
    check(f"{machine.device}: a run keeps its kernels when it goes on", code == 0 and
          weights(cut) == weights(whole), (r, err))
    machine.run("train", recipe, "--out", others)
    if machine.device == "cpu":
        check("the other kernels give other bits", weights(others) != weights(whole))
    state = json.loads((cut / "checkpoints/state.json").read_text())["choices"]
    check(f"{machine.device}: the state lists the choices", state["taken"] and state["tuned"], state)
    machine.file.write_text("garbage")
    code, r, err = machine.run("train", recipe, "--out", plain, "--steps", 2)
    check(f"{machine.device}: a damaged file is left aside with a warning", code == 0 and
          "tuning.json" in err, err)
    machine.file.write_text(other)
    defaults = weights(plain)
    code, r, err = machine.run("train", recipe, "--out", folder / f"none-{machine.device}",
                               "--steps", 2, "--no-tuning")
    check(f"{machine.device}: --no-tuning gives the defaults' bits", code == 0 and
          weights(folder / f"none-{machine.device}") == defaults, err)


def files(folder, machine):
    there, here = folder / "exported.json", Machine(folder / "fresh", machine.device)
    code, r, err = machine.run("tune", "--export", there)
    check("export", code == 0 and r["exported"] == str(there), (r, err))
    code, r, err = here.run("tune", "--merge", there)
    check("merge", code == 0 and r["merged"] == 1 and
          json.loads(here.file.read_text()) == json.loads(machine.file.read_text()), (r, err))
    code, r, err = here.run("tune", "--merge", __file__)
    check("merge: a file of another kind", code == 1 and __file__ in r["error"]["input"], r)
    code, r, err = here.run("tune", "--merge")
    check("merge: no file", code == 2 and "FILE" in r["error"]["message"], r)
    code, r, err = Machine(folder / "empty", machine.device).run("tune", "--export", there)
    check("export: nothing was tuned", code == 1, r)


def trains_tuned(folder, recipe):
    machine = Machine(folder / "train-cache", "cpu")
    code, r, err = machine.run("train", recipe, "--tune", "--out", folder / "tuned", "--steps", 2)
    check("train --tune", code == 0 and r["steps"] == 2 and "tuned" in err and
          machine.file.exists(), (r, err))
    code, r, err = machine.run("train", "--resume", folder / "tuned", "--tune")
    check("a run that goes on is not tuned", code == 2 and "keeps" in r["error"]["message"], r)


def interrupted(folder):
    machine = Machine(folder / "stopped-cache", "cpu")
    process = machine.start("tune", Path(sys.argv[2]) / "recipes/cifar10-resnet20.yaml")
    start = time.time()
    while not machine.file.exists() and process.poll() is None and time.time() - start < 60:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    check("SIGINT keeps what was found", process.returncode == 130 and
          "kept" in json.loads(out)["error"]["message"] and
          json.loads(machine.file.read_text())["devices"][0]["choices"], (out, err))


def main():
    folder = Path(tempfile.mkdtemp(prefix="gimbal-tune-"))
    write_data(folder)
    recipe = folder / "r.yaml"
    recipe.write_text(RECIPE % folder)
    known = {d["id"] for d in Machine(folder / "list", "cpu").run("devices")[1]["devices"]
             if d["usable"]}
    for device in DEVICES:
        if device not in known:
            check(f"{device} # skip there is no such device", True)
            continue
        machine, r = tunes(folder, recipe, device)
        resumes(folder, recipe, machine, r["steps"])
        if device == DEVICES[0]:
            files(folder, machine)
    if "cpu" in DEVICES:
        trains_tuned(folder, recipe)
        interrupted(folder)
    subprocess.run(["rm", "-r", folder])
    finish()


main()
