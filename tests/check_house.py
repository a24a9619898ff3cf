#!/usr/bin/env python3
"""Checks the rules of docs/architecture.md that a compiler does not: arrows point down only, public
headers stand alone, exported symbols carry the prefix, files stay short. Prints TAP.

usage: check_house.py SOURCE_ROOT LIBRARY.so LIBRARY.a"""
import re
import subprocess
import sys
from pathlib import Path

root, shared, static = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
PUBLIC = r"gimbal/\w+\.h"
LEAF = r"gimbal/(types|status|file|suggest)\.h"
PLAN = r"core/ir/(plan|prim|expr)\.h"
GPU = r"|backends/gpu/.*|shaders/.*"

# Folder -> the project's headers that it may include, besides core/base/ and its own.
ALLOWED = {
    "include/gimbal": PUBLIC,
    "core/base": LEAF,
    "core/ir": r"gimbal/(types|status|suggest|graph)\.h",
    "core/passes": r"gimbal/(types|status|graph|program)\.h|core/ir/.*",
    "core/runtime": PUBLIC + r"|core/(ir|passes)/.*|backends/backend\.h",
    "core/check": PUBLIC + r"|core/(ir|passes|runtime)/.*",
    "backends": rf"gimbal/(types|status|file|device)\.h|{PLAN}|backends/[^/]*|shaders/vmath\.gk",
    "backends/opencl": rf"gimbal/(types|status|file|device)\.h|{PLAN}|backends/[^/]*{GPU}",
    "backends/vulkan": rf"gimbal/(types|status|file|device)\.h|{PLAN}|backends/[^/]*{GPU}",
    "tools": PUBLIC + r"|tools/.*",
    "examples": PUBLIC,
}
for folder in ("train", "compare", "bench", "report", "compress", "search", "data", "nn", "io", "dist"):
    ALLOWED[f"core/{folder}"] = PUBLIC  # builders: they see what users see

INCLUDE = re.compile(r'^\s*#\s*include\s+[<"]([^">]+)[">]', re.M)
SOURCES = [p for top in ("include", "core", "backends", "shaders", "tools", "tests", "examples")
           for p in sorted((root / top).rglob("*")) if p.is_file()]
number = failures = 0


def report(name, problems):
    global number, failures
    number += 1
    failures += bool(problems)
    print(f"{'not ok' if problems else 'ok'} {number} - {name}")
    for problem in problems:
        print(f"# {problem}")


def room_of(folder):
    """The innermost folder with a rule that holds this one, or None."""
    return next((f for f in (folder, *map(str, Path(folder).parents)) if f in ALLOWED), None)


def arrows():
    problems = []
    for path in SOURCES:
        name = path.relative_to(root)
        room = room_of(str(name.parent))
        if path.suffix not in (".c", ".h", ".inc") or room is None:
            continue
        for header in INCLUDE.findall(path.read_text()):
            ours = header.startswith(("gimbal/", "core/", "backends/", "shaders/", "tools/"))
            beside = header.startswith((room + "/", "core/base/"))
            if ours and not beside and not re.fullmatch(ALLOWED[room], header):
                problems.append(f"{name} includes {header}: {room} may not see it")
    report("arrows point down only", problems)


def headers():
    problems = []
    for path in sorted((root / "include/gimbal").glob("*.h")):
        for language, standard in (("c", "c17"), ("c++", "c++17")):
            command = ["cc", "-x", language, f"-std={standard}", "-Wall", "-Wextra", "-Werror",
                       "-pedantic", "-fsyntax-only", "-I", str(root / "include"), "-include",
                       f"gimbal/{path.name}", "/dev/null"]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                problems += [f"{path.name} as {language}: {line}"
                             for line in done.stderr.splitlines()[:5]]
    report("public headers compile alone, as C and as C++", problems)


def symbols(library, *options):
    text = subprocess.run(["nm", "-g", "--defined-only", *options, library], check=True,
                          capture_output=True, text=True).stdout
    fields = (line.split() for line in text.splitlines())
    return {f[2] for f in fields if len(f) == 3 and f[1] in "TDBRVWCu"}


def prefix():
    # 'u', 'V' and 'W' symbols of instrumented or header-only C do not come from this project.
    system = re.compile(r"_init$|_fini$|__|_ZT|_ITM|DW\.ref")
    for name, found in (("shared", symbols(shared, "-D")), ("static", symbols(static))):
        report(f"symbols of the {name} library start with gb_",
               sorted(s for s in found if not s.startswith("gb_") and not system.match(s)))


def lengths():
    problems = []
    for path in SOURCES:
        if path.suffix in (".c", ".h", ".inc", ".py", ".cl", ".glsl", ".build"):
            n = path.read_bytes().count(b"\n")
            if n >= 800:
                problems.append(f"{path.relative_to(root)}: {n} lines")
    report("files have less than 800 lines", problems)


def marks():
    mark = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
    problems = [str(p.relative_to(root)) for p in SOURCES
                if p.suffix in (".c", ".h", ".inc", ".py") and mark.search(p.read_text())]
    report("no unfinished work is marked in the sources", problems)


arrows()
headers()
prefix()
lengths()
marks()
print(f"1..{number}")
sys.exit(1 if failures else 0)
