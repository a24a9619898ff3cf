"""docs/benchmarks.md: a section for each kind of CPU, replaced by runs on that kind alone."""
import re

from parts import CONVOLUTIONS, PRODUCTS

HEAD = """# Benchmarks

Written by `tools/bench`: gimbal and its peers take turns in one run. A section for each kind of CPU; a run replaces the one of its own kind. Absolute times swing with the machine's load: compare within a table. Times are medians, with the least in parentheses. A training step is forward, loss, backward and optimizer on a batch that lies in memory, f32, all cores.
"""


def ms(r):
    if not r or "error" in r:
        return f"failed: {r['error']}" if r else "-"
    digits = 2 if r["median"] < 10 else 1 if r["median"] < 1000 else 0
    return f"{r['median']:.{digits}f} ({r['min']:.{digits}f})"


def median(r):
    return r["median"] if r and "error" not in r else None


def best_torch(rows, prefix="PyTorch ", gpu=False):
    """Name and median of PyTorch's best mode."""
    found = [(r["median"], name) for name, r in rows.items()
             if name.startswith(prefix) and "error" not in r
             and gpu == name.startswith(("PyTorch cuda", "PyTorch xpu"))]
    return min(found) if found else (None, None)


def ratio(peer, own):
    return peer / own if peer and own else None


def times(value):
    return f"{value:.2f} ×" if value else "-"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows] + [""]


# --- parts ---

def steps_page(part):
    lines = ["### Training steps", ""]
    for name, rows in part["networks"].items():
        best, mode = best_torch(rows)
        cpu = median(rows.get("cpu"))
        body = []
        for who, r in rows.items():
            label = who if who.startswith(("PyTorch", "tinygrad")) else f"gimbal {who}"
            body.append((label, ms(r), times(ratio(best, median(r))), times(ratio(cpu, median(r)))))
        lines += [f"**{name}**" + (f" (PyTorch's best: {mode[8:]})" if mode else ""), ""]
        lines += table(("", "ms", "PyTorch's best ÷ this", "gimbal cpu ÷ this"), body)
    return lines


def inference_page(part):
    lines = ["### Inference, ResNet-20", ""]
    for batch, rows in part["batches"].items():
        peer = median(rows.get("ONNX Runtime"))
        body = [(who if " " in who else f"gimbal {who}", ms(r), times(ratio(peer, median(r))))
                for who, r in rows.items()]
        lines += [f"Batch {batch}:", ""] + table(("", "ms", "ONNX Runtime ÷ this"), body)
    return lines


def share(cell, peak):
    if not cell or "error" in cell:
        return f"failed: {cell['error']}" if cell else "-"
    if not peak:
        return f"{cell['gflops']:.1f} GFLOP/s"
    return f"{cell['gflops'] / peak:.2f} ({cell['best'] / peak:.2f})"


def kernels_page(part):
    peak = part["peak"]
    names = list(dict.fromkeys(n for row in part["rows"].values() for n in row))
    body = [(label, *(share(row.get(n), peak) for n in names),
             *(share(p.get(label) or ({"error": p["error"]} if "error" in p else None), peak)
               for p in part["peers"].values()))
            for label, row in part["rows"].items()]
    shown = f"{peak:.0f} GFLOP/s, median over the run" if peak else "not measured"
    return ["### Operators", "", f"Share of the CPU's peak of fused multiply-adds ({shown}): at the "
            "median, and at the best. Products are M×N×K; convolutions 3×3, batch 128, forward, with "
            "32×32, 16×16 and 8×8 images; Winograd's count as direct ones.", "",
            *table(("", *(f"gimbal {n}" for n in names), *part["peers"]), body)]


def start_page(part):
    def seconds(r, key):
        if "error" in r:
            return f"failed: {r['error']}"
        t = r.get(key)
        return "-" if not t else (f"{t['start']:.2f} / {t['end']:.2f}" if t["start"] is not None
                                  else f"- / {t['end']:.2f}")
    return ["### Start", "", "Seconds from the process's start to the first step's start / end, "
            "ResNet-20, data read from disk:", "",
            *table(("", "cold kernel caches", "warm"),
                   [(n if " " in n else f"gimbal {n}", seconds(r, "cold"), seconds(r, "warm"))
                    for n, r in part["rows"].items()])]


def growth_of(r):
    return r["peak_bytes"] - r["start_bytes"] if r and "error" not in r else None


def memory_page(part):
    body = []
    for n, r in part["rows"].items():
        v = growth_of(r)
        body.append((n if " " in n else f"gimbal {n}", f"failed: {r['error']}" if v is None
                     else f"{v / 2**20:.0f} MiB"))
    return ["### Peak memory", "", "ResNet-18 in training, batch 128, resident memory above what "
            "loading takes:", "", *table(("", "memory"), body)]


def host_page(part):
    body = [(f"gimbal {n}", *((f"failed: {r['error']}",) + ("-",) * 3 if "error" in r else
             (f"{r['step']:.2f}", f"{r['device']:.2f}", f"{r['host']:.3f}",
              f"{100 * r['share']:.1f} %"))) for n, r in part["rows"].items()]
    return ["### Host", "", "The MLP's step, and the host's time beside the device's, ms "
            "(`gimbal profile`):", "", *table(("", "step", "device", "host", "host ÷ device"), body)]


def growth_page(part):
    lines = ["### Growth", "", "Milliseconds a step:", ""]
    for title, devices in part["rows"].items():
        values = list(dict.fromkeys(v for line in devices.values() for v in line))
        lines += table((title, *values), [(f"gimbal {d}", *(ms(line.get(v)) for v in values))
                                          for d, line in devices.items()])
    return lines


PAGES = {"steps": steps_page, "inference": inference_page, "kernels": kernels_page,
         "start": start_page, "memory": memory_page, "host": host_page, "growth": growth_page}


# --- what it must reach ---

def targets(parts, pocl):
    """(what, at least, aim, measured or None, unit, whether less is better); pocl: the OpenCL device
    to judge, None: the CPU alone."""
    rows = cpu_targets(parts)
    if pocl:
        rows += device_targets(parts, pocl)
    m = parts.get("memory", {}).get("rows", {})
    peer = [v for v in (growth_of(r) for n, r in m.items() if n.startswith("PyTorch")) if v]
    rows.append(("peak memory ResNet-18 batch 128 vs PyTorch's", 0.8, 0.5,
                 ratio(growth_of(m.get("cpu")), min(peer, default=None)), "×", True))
    for device in ("cpu", pocl) if pocl else ("cpu",):
        share_ = parts.get("host", {}).get("rows", {}).get(device, {}).get("share")
        rows.append((f"{device}: host beside device time, MLP", 10, 3,
                     100 * share_ if share_ is not None else None, "%", True))
    return rows


def networks_of(parts):
    return parts.get("steps", {}).get("networks", {})


def step_of(parts, name, who):
    return median(networks_of(parts).get(name, {}).get(who))


def versus_torch(parts, name, who):
    return ratio(best_torch(networks_of(parts).get(name, {}))[0], step_of(parts, name, who))


def cpu_targets(parts):
    rows = [(f"CPU: {name} step vs PyTorch's best mode", least, aim,
             versus_torch(parts, name, "cpu"), "×", False)
            for name, least, aim in (("MLP", 1.1, 1.4), ("CNN", 1.5, 2), ("ResNet-20", 1.5, 2),
                                     ("ResNet-18", 1.7, 2.5), ("airbench94", 1.7, 2.5))]
    for batch in ("128", "1"):
        r = parts.get("inference", {}).get("batches", {}).get(batch, {})
        rows.append((f"CPU: inference ResNet-20 batch {batch} vs ONNX Runtime", 1.1, 1.5,
                     ratio(median(r.get("ONNX Runtime")), median(r.get("cpu"))), "×", False))
    return rows


def device_targets(parts, pocl):
    rows = []

    def add(what, least, aim, value, unit="×", less=False):
        rows.append((what, least, aim, value, unit, less))

    operators = parts.get("kernels", {})
    peak = operators.get("peak")

    def of_peak(label, *devices):
        found = [operators.get("rows", {}).get(label, {}).get(d, {}).get("gflops") for d in devices]
        found = [g for g in found if g]
        return max(found) / peak if found and peak else None

    for size in PRODUCTS:
        add(f"{pocl}: sgemm {size}, share of FMA peak", 0.5, 0.75, of_peak(size, pocl), "")
    for channels, _ in CONVOLUTIONS:
        add(f"{pocl}: conv 3×3 {channels} ch forward, share of FMA peak", 0.6, 0.78,
            of_peak(f"conv {channels} ch", pocl), "")
    for name in ("ResNet-20", "ResNet-18"):
        add(f"{pocl}: {name} step vs PyTorch's best mode", 0.8, 1.2,
            versus_torch(parts, name, pocl))
    for name in ("MLP", "CNN", "ResNet-20", "ResNet-18", "airbench94"):
        add(f"{pocl}: {name} step vs our CPU backend", 0.5, 0.8,
            ratio(step_of(parts, name, "cpu"), step_of(parts, name, pocl)))
    add(f"{pocl}: CNN vs tinygrad", 5, 10,
        ratio(step_of(parts, "CNN", "tinygrad OpenCL"), step_of(parts, "CNN", pocl)))
    add("Vulkan, the better of lavapipe and SwiftShader: sgemm 1024³, share of FMA peak", 0.04, 0.06,
        of_peak(PRODUCTS[0], "vulkan:0", "SwiftShader vulkan:0"), "")
    first = parts.get("start", {}).get("rows", {}).get(pocl, {})
    for key, least, aim in (("cold", 8, 4), ("warm", 1, 0.4)):
        add(f"{pocl}: to ResNet-20's first step, {key} caches", least, aim,
            first.get(key, {}).get("start"), "s", True)
    return rows


def verdict(least, aim, value, less):
    if value is None:
        return "not measured"
    reached = (lambda bound: value <= bound) if less else (lambda bound: value >= bound)
    return "aim" if reached(aim) else "reached" if reached(least) else "**MISSED**"


def targets_page(parts, pocl):
    body = []
    for what, least, aim, value, unit, less in targets(parts, pocl):
        show = lambda v: f"{v:.3g} {unit}".strip()
        body.append((what, ("≤ " if less else "≥ ") + show(least), show(aim),
                     "-" if value is None else show(value), verdict(least, aim, value, less)))
    return ["### What it must reach", "", *table(("work", "at least", "aim", "measured", ""), body)]


def section(title, about, results, pocl):
    lines = [f"## {title}", ""]
    lines += table(("part", "date", "commit", "command"),
                   [(n, p["date"], p["commit"], f"`{p['command']}`") for n, p in results.items()])
    lines += [about, ""]
    parts = {n: p["result"] for n, p in results.items() if "result" in p}
    lines += targets_page(parts, pocl)
    for name, page in PAGES.items():
        if name in parts:
            lines += page(parts[name])
        elif "error" in results.get(name, {}):
            lines += [f"### {name}", "", f"failed: {results[name]['error']}", ""]
    return "\n".join(lines).rstrip() + "\n"


def sections(text):
    return [p for p in re.split(r"(?m)^(?=## )", text) if p.startswith("## ")]


def parts_of(old, title):
    """The parts whose figures the page has in the section of that title."""
    section = next((p for p in sections(old) if p.startswith(f"## {title}\n")), "")
    return re.findall(r"(?m)^\| (\w+) \| \d{4}-\d\d-\d\d", section)


def join(old, title, text):
    """The page with this section in the place of the one of its title."""
    kept = [p.rstrip() + "\n" for p in sections(old)]
    for i, p in enumerate(kept):
        if p.startswith(f"## {title}\n"):
            kept[i] = text
            break
    else:
        kept.append(text)
    return HEAD + "\n" + "\n".join(kept)
