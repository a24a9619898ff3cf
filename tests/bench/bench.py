#!/usr/bin/env python3
"""gimbal and its peers, alternately in one run; writes a section of docs/benchmarks.md. Run by
tools/bench, which builds first; peers are installed from PyPI where they are missing."""
import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

import page
from parts import NETWORKS, PARTS, ROOT, Bench
from peers import LIMITS, Peers
from workers import Failed


def arguments():
    parser = argparse.ArgumentParser(prog="tools/bench", description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), metavar="PART,...",
                        help=f"parts to run: {', '.join(PARTS)}; others keep their last figures")
    parser.add_argument("--networks", default="", metavar="NAME,...",
                        help=f"training steps of these alone: {', '.join(n[0] for n in NETWORKS)}")
    parser.add_argument("--quick", action="store_true",
                        help="without torch.compile, and with less time for each network")
    parser.add_argument("--no-peers", action="store_true", help="gimbal alone")
    parser.add_argument("--isa", choices=sorted(LIMITS),
                        help="the CPU and its peers (but ONNX Runtime, which cannot be) use these "
                        "instructions at most; the section's title says so")
    parser.add_argument("--tiny", action="store_true", help="seconds: for the test of this program")
    parser.add_argument("--build", type=Path, default=ROOT / "build", metavar="DIR")
    parser.add_argument("--venv", type=Path, metavar="DIR",
                        help="virtual environment of the peers (build/venv-bench)")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/benchmarks.md", metavar="FILE")
    args = parser.parse_args()
    args.only = args.only.split(",")
    for name in args.only:
        if name not in PARTS:
            parser.error(f"there is no part '{name}'; parts: {', '.join(PARTS)}")
    return args


def processor():
    names = [line.split(":")[1].strip() for line in open("/proc/cpuinfo")
             if line.startswith("model name")] if os.path.exists("/proc/cpuinfo") else []
    return names[0] if names else platform.machine()


def git(*args):
    done = subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def stamp():
    commit = git("rev-parse", "--short", "HEAD") or "unknown"
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":!docs/benchmarks.md")
    return {"date": f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M}",
            "commit": commit + (" and changes" if changed else ""),
            "command": " ".join(["tools/bench", *sys.argv[1:]])}


def found_versions(value):
    """What peers say of themselves."""
    found = set()
    if isinstance(value, dict):
        if isinstance(value.get("about"), str) and value["about"]:
            found.add(value["about"])
        for v in value.values():
            found |= found_versions(v)
    return found


def describe(b, results):
    devices = "; ".join(f"`{d['id']}` {d['name']} ({d['driver']} {d['version']})" for d in b.devices)
    peers = ", ".join(sorted(found_versions(results))) or "none"
    text = f"{processor()}, {os.cpu_count()} cores; {platform.platform()}. Devices: {devices}. " \
           f"Peers: {peers}."
    if b.limit:
        text += f" The processor has more than {shown_isa(b.limit)}: gimbal runs with `--isa " \
                f"{b.limit}`, PyTorch and OpenBLAS with " \
                f"`{' '.join(f'{k}={v}' for k, v in LIMITS[b.limit].items())}`. **ONNX Runtime has " \
                "no such switch and uses all that the processor has.**"
    return text


def shown_isa(isa):
    return {"avx512": "AVX-512", "avx2": "AVX2"}.get(isa, isa)


def run_parts(b, names, results, save):
    for name in names:
        begin = time.monotonic()
        before = results.get(name, {}).get("result", {})
        results[name] = stamp()
        try:
            results[name]["result"] = PARTS[name](b, before)
        except (Failed, OSError, KeyError, ValueError, StopIteration) as e:
            results[name]["error"] = f"{type(e).__name__}: {e}"[:300]
            print(f"bench: {name} failed: {results[name]['error']}", file=sys.stderr)
        results[name]["seconds"] = round(time.monotonic() - begin, 1)
        print(f"bench: {name} took {results[name]['seconds']} s", flush=True)
        save()


def write(path, text):
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.replace(path)


def main():
    args = arguments()
    begin = time.monotonic()
    peers = Peers(args.venv or args.build / "venv-bench", not args.no_peers)
    for peer, why in peers.missing.items():
        print(f"bench: without {peer}: {why}", file=sys.stderr)
    b = Bench(args.build.resolve(), peers, args.quick, args.tiny, args.isa)
    b.networks = [n for n in args.networks.split(",") if n]
    b.say = lambda what: print(f"bench: {time.monotonic() - begin:5.0f} s  {what}", flush=True)
    limited = " limited to" if b.limit else ","
    title = f"{processor()}{limited} {shown_isa(b.isa())}, {os.cpu_count()} cores"
    store = b.folder / (re.sub(r"\W+", "-", title).lower() + ("-tiny" if args.tiny else "") + ".json")
    results = json.loads(store.read_text()) if store.exists() else {}
    page_now = lambda: args.page.read_text() if args.page.exists() else ""  # noqa: E731
    lost = [part for part in page.parts_of(page_now(), title) if part not in [*results, *args.only]]
    if lost:
        sys.exit(f"bench: {args.page} has figures of {', '.join(lost)}, which {store} has not: run all "
                 "parts, or write to another page (--page FILE)")
    pocl = None if b.limit else next((d["id"] for d in b.devices if d["backend"] == "opencl"),
                                     "opencl:0")

    def save():
        ordered = {name: results[name] for name in PARTS if name in results}
        write(store, json.dumps(ordered, indent=1))
        text = page.section(title, describe(b, ordered), ordered, pocl)
        write(args.page, page.join(page_now(), title, text))

    run_parts(b, args.only, results, save)
    parts = {n: p["result"] for n, p in results.items() if "result" in p}
    print("\n".join(page.targets_page(parts, pocl)))


main()
