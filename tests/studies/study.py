#!/usr/bin/env python3
"""Trains a recipe in several ways with several seeds, and writes a table and the loss curves.

usage: study.py GIMBAL RECIPE --arm NAME='OPTIONS' ... [--seeds 1,2,3] [--work DIR] [--markdown FILE]
                [OPTION of gimbal train ...]

Arms run in turn, seed by seed, each in DIR/NAME-SEED; a run that ended there already is taken as it
is, one that was cut off goes on. FILE gets the table; FILE's name with .svg the curves."""
import argparse
import json
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # Okabe and Ito: told apart by everybody


def train(tool, recipe, out, seed, options):
    """The run's metrics, one object a line of metrics.jsonl."""
    finished = out / "finished.json"
    if not finished.exists():
        resume = ["--resume", str(out)] if (out / "checkpoints" / "state.json").exists() else []
        command = [tool, "train", recipe, "--out", str(out), "--set", f"seed={seed}", "--json",
                   "--quiet", *resume, *options]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"{shlex.join(command)} failed: {done.stdout}")
        finished.write_text(done.stdout)
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return json.loads(finished.read_text()), [json.loads(line) for line in lines]


def smooth(losses, width):
    """Means of `width` steps each."""
    return [statistics.fmean(losses[i:i + width]) for i in range(0, len(losses) - width + 1, width)]


def curves(arms, seeds, width=50):
    """An SVG of the smoothed training losses, a line a run."""
    runs = {key: smooth([m["loss"] for m in metrics if "loss" in m and "test_loss" not in m], width)
            for key, (_, metrics) in arms.items()}
    longest = max(len(r) for r in runs.values())
    top = max(r[1] for r in runs.values() if len(r) > 1)
    x = lambda i: 50 + 640 * i / max(1, longest - 1)
    y = lambda v: 330 - 310 * min(v, top) / top
    names = list(dict.fromkeys(name for name, _ in arms))
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 710 370" font-family="sans-serif" '
           'font-size="12">', '<rect width="710" height="370" fill="white"/>']
    for k in range(5):
        v = top * k / 4
        out += [f'<line x1="50" x2="690" y1="{y(v):.1f}" y2="{y(v):.1f}" stroke="#ddd"/>',
                f'<text x="45" y="{y(v) + 4:.1f}" text-anchor="end">{v:.2f}</text>']
    out.append(f'<text x="370" y="355" text-anchor="middle">step (means of {width}), to '
               f'{longest * width}</text>')
    for (name, seed), run in runs.items():
        points = " ".join(f"{x(i):.1f},{y(v):.1f}" for i, v in enumerate(run))
        colour = COLOURS[names.index(name) % len(COLOURS)]
        out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1" '
                   f'stroke-opacity="0.8"><title>{name}, seed {seed}</title></polyline>')
    for i, name in enumerate(names):
        out.append(f'<text x="560" y="{40 + 18 * i}" fill="{COLOURS[i % len(COLOURS)]}">{name}, '
                   f'{len(seeds)} seeds</text>')
    return "\n".join(out + ["</svg>\n"])


def table(arms, names, seeds):
    lines = ["| way | seed | last epoch's training loss | test loss | test accuracy |",
             "|---|---|---|---|---|"]
    for name in names:
        rows = [(r["train"]["loss"], r["test"]["loss"], 100 * r["test"]["accuracy"])
                for r in (arms[name, seed][0] for seed in seeds)]
        lines += [f"| {name} | {seed} | {loss:.4f} | {test:.4f} | {accuracy:.2f} % |"
                  for seed, (loss, test, accuracy) in zip(seeds, rows)]
        loss, test, accuracy = (statistics.fmean(column) for column in zip(*rows))
        spread = f" ± {statistics.stdev(r[2] for r in rows):.2f}" if len(rows) > 1 else ""
        lines.append(f"| **{name}** | mean | {loss:.4f} | {test:.4f} | **{accuracy:.2f} %**{spread} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tool")
    parser.add_argument("recipe")
    parser.add_argument("--arm", action="append", required=True)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--work", default="build/study")
    parser.add_argument("--markdown", required=True)
    args, options = parser.parse_known_args()
    ways = dict(arm.split("=", 1) for arm in args.arm)
    seeds = [int(s) for s in args.seeds.split(",")]
    arms = {}
    for seed in seeds:
        for name, text in ways.items():
            out = Path(args.work) / f"{name}-{seed}"
            arms[name, seed] = train(args.tool, args.recipe, out, seed, options + shlex.split(text))
    ordered = {(name, seed): arms[name, seed] for name in ways for seed in seeds}
    Path(args.markdown).write_text(table(arms, list(ways), seeds))
    Path(args.markdown).with_suffix(".svg").write_text(curves(ordered, seeds))


main()
