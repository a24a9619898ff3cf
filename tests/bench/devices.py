#!/usr/bin/env python3
"""Training steps of the recipes on every device, beside the CPU backend, in one run.

usage: devices.py GIMBAL RECIPE... [--markdown FILE]"""
import argparse
import json
import subprocess
from pathlib import Path


def gimbal(tool, *args):
    done = subprocess.run([tool, *args, "--json"], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"gimbal {' '.join(args)} failed: {done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tool")
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--markdown")
    args = parser.parse_args()
    devices = [d for d in gimbal(args.tool, "devices")["devices"]
               if d["usable"] and d["backend"] not in ("reference", "null")]
    lines = ["| recipe | " + " | ".join(f"{d['id']} ({d['name']})" for d in devices) + " |",
             "|---" * (len(devices) + 1) + "|"]
    for recipe in args.recipes:
        cells, own = [], None
        for d in devices:
            rows = gimbal(args.tool, "bench", "--model", recipe, "--device", d["id"])["results"]
            ms = next(r["ms"]["median"] for r in rows if r["phase"] == "step")
            own = own or ms
            cells.append(f"{ms:.1f} ms, {ms / own:.2f} × the first")
        lines.append(f"| {Path(recipe).stem} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    if args.markdown:
        Path(args.markdown).write_text("\n".join(lines) + "\n")


main()
