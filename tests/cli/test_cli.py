#!/usr/bin/env python3
"""The command line's manners: exit statuses, one JSON document, suggestions. Prints TAP.

usage: test_cli.py GIMBAL SOURCE_ROOT"""
import json
import subprocess
import sys
from pathlib import Path

from tap import check, finish

TOOL, ROOT = sys.argv[1], Path(sys.argv[2])


def run(*args):
    return subprocess.run([TOOL, *map(str, args)], capture_output=True, text=True, timeout=60)


def fails(name, args, status, *parts):
    """Exit status, the parts on standard error, and with --json the same as one document."""
    done = run(*args)
    good = done.returncode == status and not done.stdout and all(p in done.stderr for p in parts)
    check(f"{name}: exit {status} and a message", good, done)
    done = run(*args, "--json")
    try:
        error = json.loads(done.stdout)["error"]
        good = set(error) == {"message", "input", "hint"} and all(
            p in " ".join(error.values()) for p in parts)
    except (ValueError, KeyError):
        good = False
    check(f"{name}: one JSON document", good and done.returncode == status, done)


def main():
    fails("unknown command", ["devics"], 2, "devics", "did you mean 'devices'?")
    fails("unknown option", ["devices", "--quite"], 2, "--quite", "did you mean --quiet?")
    fails("unknown letter", ["devices", "-z"], 2, "-z", "gimbal devices --help")
    fails("too many arguments", ["devices", "x"], 2, "'x'")
    fails("a value that is no number", ["devices", "--threads", "many"], 2, "--threads", "many")
    done = run("devices", "--json", "--seed")
    check("missing value", done.returncode == 2 and "--seed needs a value" in done.stderr, done)
    done = run()
    check("no command: usage", done.returncode == 2 and "commands:" in done.stderr, done)
    done = run("--version")
    check("version", done.returncode == 0 and done.stdout.startswith("gimbal "), done)
    done = run("--help")
    check("help", done.returncode == 0 and "devices" in done.stdout, done)
    commands = [line.split()[0] for line in done.stdout.split("commands:\n")[1].splitlines()
                if line.startswith("  ")]
    for command in commands:
        done = run(command, "--help")
        check(f"help of {command}", done.returncode == 0 and f"gimbal {command}" in done.stdout
              and "--json" in done.stdout, done)
    fails("no recipe", ["train"], 2, "RECIPE is missing")
    fails("steps that are no number", ["train", "x", "--steps", "0"], 2, "--steps", "at least 1")
    fails("absent recipe", ["train", "no/such.yaml"], 1, "no/such.yaml")
    mlp = ROOT / "recipes/fashion-mnist-mlp.yaml"
    fails("key that is unknown", ["train", mlp, "--set", "bacth=3"], 1, "--set bacth=3",
          "unknown key 'bacth'", "did you mean 'batch'?")
    fails("absent device", ["train", mlp, "--device", "cuda:0"], 1, "cuda:0", "reference")
    fails("absent model", ["eval", "/no/model", "--device", "cpu"], 1, "/no/model", "run folder")
    fails("model of another kind", ["predict", __file__, "x.png", "--device", "cpu"], 1,
          "it is no model", "safetensors")
    fails("no folder for outputs", ["run", "x.onnx"], 2, "--out DIR")
    fails("absent ONNX file", ["run", "/no/x.onnx", "--out", "/tmp", "--device", "cpu"], 1,
          "/no/x.onnx")
    done = run("devices", "--json")
    devices = json.loads(done.stdout)
    keys = {"id", "backend", "name", "driver", "version", "kind", "memory_bytes", "dtypes",
            "usable", "reason", "same_as"}
    check("devices", done.returncode == 0 and all(keys <= set(d) for d in devices["devices"])
          and all(set(m) == {"backend", "reason"} for m in devices["missing"]), done)
    done = run("devices")
    check("devices as text", all(d["id"] in done.stdout for d in devices["devices"]), done)
    finish()


main()
