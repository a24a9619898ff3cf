#!/usr/bin/env python3
"""tools/bench in seconds, without peers: every part runs, a peer that fails is a row, the page keeps
the sections of other CPUs. Prints TAP.

usage: test_bench.py BUILD"""
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "cli")]
import page  # noqa: E402
from tap import check, finish  # noqa: E402
from workers import Failed, Runner, Worker, alternate  # noqa: E402

BUILD = Path(sys.argv[1])

PEER = """import sys, time
sys.path.insert(0, %r)
from serve import serve
def bad(): raise ValueError("no such mode")
serve({"fast": lambda: lambda: time.sleep(.001), "slow": lambda: lambda: time.sleep(.02), "bad": bad,
       "dies": lambda: sys.exit(3), "hangs": lambda: lambda: time.sleep(60)}, about="a peer 1.0")
"""


def absent():
    raise Failed("not installed: no network")


def turns(folder):
    script = folder / "peer.py"
    script.write_text(PEER % str(HERE))
    make = lambda: Worker("peer", [sys.executable, script], folder / "peer.txt")
    calls = {name: Runner(name, make, name, "peer", 1) for name in ("fast", "slow", "bad", "dies",
                                                                     "hangs")}
    calls["absent"] = Runner("absent", absent, "x")
    calls["no program"] = Runner("no program", lambda: Worker("x", ["/no/such"], folder / "x.txt"),
                                 "x")
    r = alternate(list(calls.values()), 0.02, 3, 3, 30)
    check("peers take turns", r["fast"]["rounds"] == 3 and r["fast"]["calls"] >= 9
          and 1 <= r["fast"]["min"] <= r["fast"]["median"] and r["fast"]["about"] == "a peer 1.0", r)
    check("a group's slow one is left out after a round", r["slow"]["rounds"] == 1, r)
    check("a peer that fails is a row", all("error" in r[n] for n in (
        "bad", "dies", "hangs", "absent", "no program")) and "no such mode" in r["bad"]["error"]
        and "over 1 s" in r["hangs"]["error"] and "no network" in r["absent"]["error"], r)


def figures_stay(folder):
    """A part alone where the other parts' figures are not at hand would drop them from the page."""
    path = folder / "kept.md"
    first = subprocess.run([sys.executable, HERE / "bench.py", "--tiny", "--no-peers", "--build", BUILD,
                            "--page", path, "--only", "host"], capture_output=True, text=True)
    title = next(line[3:] for line in path.read_text().splitlines() if line.startswith("## "))
    old = path.read_text()
    check("parts of a page are found", first.returncode == 0 and "host" in page.parts_of(old, title)
          and page.parts_of(old, "Another CPU") == [], old)
    path.write_text(old.replace("| part | date | commit | command |\n|---|---|---|---|\n",
                                "| part | date | commit | command |\n|---|---|---|---|\n"
                                "| sundry | 2026-01-01 10:00 | 0 | `tools/bench` |\n", 1))
    done = subprocess.run([sys.executable, HERE / "bench.py", "--tiny", "--no-peers", "--build", BUILD,
                           "--page", path, "--only", "host"], capture_output=True, text=True)
    check("figures that are not at hand are not dropped", done.returncode == 1
          and "has figures of sundry" in done.stderr and "sundry" in path.read_text(), done.stderr)


def whole(folder):
    path = folder / "benchmarks.md"
    path.write_text(page.HEAD + "\n## Another CPU, AVX2, 64 cores\n\nits figures\n")
    for only in ([], ["--only", "host"]):
        done = subprocess.run([sys.executable, HERE / "bench.py", "--tiny", "--no-peers", "--build",
                               BUILD, "--page", path, *only], capture_output=True, text=True)
        text = path.read_text()
        check(f"tools/bench --tiny {' '.join(only)}", done.returncode == 0
              and "failed" not in done.stderr, done.stdout + done.stderr)
        check("the page has all parts once", all(text.count(f"### {part}\n") == 1 for part in (
            "What it must reach", "Training steps", "Operators", "Peak memory", "Host", "Growth")),
            text)
        check("sections of other CPUs stay", text.count("its figures") == 1
              and text.count("\n## ") == 2 and text.startswith(page.HEAD), text)


def limited(folder):
    path = folder / "limited.md"
    args = ["--tiny", "--no-peers", "--isa", "avx2", "--only", "steps,host", "--build", BUILD]
    done = subprocess.run([sys.executable, HERE / "bench.py", *args, "--page", path],
                          capture_output=True, text=True)
    if " avx2" in open("/proc/cpuinfo").read():
        text = path.read_text()
        check("tools/bench --isa avx2", done.returncode == 0 and " limited to AVX2, " in text
              and "(gimbal avx2)" in text and "opencl" not in text and "failed" not in text,
              done.stdout + done.stderr + text)
    else:
        check("tools/bench --isa avx2 where there is none", done.returncode != 0, done.stderr)


def verdicts():
    steps = {"cpu": {"median": 100, "min": 90}, "opencl:0": {"median": 300, "min": 200},
             "PyTorch eager": {"median": 240, "min": 200}, "PyTorch compile": {"error": "no C++"},
             "PyTorch channels_last": {"median": 190, "min": 180}}
    rows = page.targets({"steps": {"networks": {"ResNet-20": steps}}}, "opencl:0")
    value = {what: (v, page.verdict(least, aim, v, less)) for what, least, aim, v, _, less in rows}
    check("the best mode counts", value["CPU: ResNet-20 step vs PyTorch's best mode"] ==
          (1.9, "reached"), value)
    check("missed rows are marked", value["opencl:0: ResNet-20 step vs our CPU backend"][1] ==
          "**MISSED**" and value["CPU: MLP step vs PyTorch's best mode"][1] == "not measured", value)
    check("less can be better", page.verdict(0.8, 0.5, 0.4, True) == "aim"
          and page.verdict(0.8, 0.5, 0.9, True) == "**MISSED**")


def main():
    with tempfile.TemporaryDirectory() as folder:
        turns(Path(folder))
        whole(Path(folder))
        figures_stay(Path(folder))
        limited(Path(folder))
    verdicts()
    finish()


main()
