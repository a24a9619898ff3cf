#!/usr/bin/env python3
"""Compiles the kernels for matrix units, which Debian's shaderc does not know, with the glslang and
SPIRV-Tools of tests/requirements.txt:

    build/venv/bin/python3 shaders/spirv/compile.py build/tests/unit/test_matrix

asks gimbal for the kernels' texts (NAME.comp) and writes their modules (NAME.spv.txt): the words of an
instruction, then what they mean. With --check nothing is written: the modules must be what the texts
give, and valid, and so must those for bf16 that are made of them (shaders/bfloat16.py). Run it again,
and ninja, after a change to shaders/matrix.gk, shaders/matrix.glsl, backends/gpu/lower_matrix.c or the
frame that backends/gpu/frame.c puts around kernels.

    python3 shaders/spirv/compile.py --newer "COMMAND" build/tests/unit/test_matrix

where COMMAND starts a glslangValidator that knows bfloat16_t (16.6 does): what it makes of a text
for bf16 must be what shaders/bfloat16.py makes of its module for f16."""
import shlex
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

here = Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(here.parent))
import bfloat16

check = "--check" in sys.argv
arguments = [a for a in sys.argv[1:] if a != "--check"]
newer = shlex.split(arguments[1]) if arguments[0] == "--newer" else None
program = arguments[-1]
tools = Path(sys.prefix) / "bin"  # of the environment that runs this
number = failures = 0


def report(name, problem):
    global number, failures
    number += 1
    failures += bool(problem)
    print(f"{'not ok' if problem else 'ok'} {number} - {name}")
    for line in problem.splitlines()[:20]:
        print(f"# {line}")


def run(tool, *arguments):
    command = newer if newer and tool == "glslangValidator" else [tools / tool]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    return done.stdout, "" if done.returncode == 0 else done.stdout + done.stderr + "failed"


def compiling(source, binary):  # the problem, or ""
    return run("glslangValidator", "-V", "--target-env", "vulkan1.1", "-o", binary, source)[1]


def validating(binary):
    return run("spirv-val", "--target-env", "vulkan1.1", binary)[1]


def words_of(path):
    data = path.read_bytes()
    return struct.unpack(f"<{len(data) // 4}I", data)


def listing_of(path):
    words = words_of(path)
    meaning, problem = run("spirv-dis", "--no-color", "--no-indent", "--no-header", path)
    if problem:
        raise SystemExit(problem)
    lines, at = [" ".join(f"{w:08x}" for w in words[:5]) + " ; header"], 5
    for text in meaning.splitlines():
        count = words[at] >> 16
        lines.append(" ".join(f"{w:08x}" for w in words[at:at + count]) + f" ; {text}")
        at += count
    assert at == len(words), "an instruction is not a line"
    return "\n".join(lines) + "\n"


def parts(words):  # the order of capabilities and extensions is free
    whole = list(bfloat16.instructions(words))
    start = next(at for at, i in enumerate(whole) if i[0] & 0xffff == 14)  # OpMemoryModel
    return sorted(whole[:start]), whole[start:]


def compare_with_newer(source):
    other = source.with_suffix(".bf16.comp")
    other.write_bytes(bfloat16.text(source.read_bytes()))
    modules = source.with_suffix(".spv"), other.with_suffix(".spv")
    problem = compiling(source, modules[0]) or compiling(other, modules[1])
    if not problem:
        ours, theirs = bfloat16.module(words_of(modules[0])), words_of(modules[1])
        problem = "" if parts(ours) == parts(theirs) else "shaders/bfloat16.py makes another module"
    report(f"{source.stem} for bf16 is what the newer compiler makes", problem)


with tempfile.TemporaryDirectory() as folder:
    folder = Path(folder)
    subprocess.run([program, "texts", folder], check=True, stdout=subprocess.DEVNULL)
    for source in sorted(folder.glob("*.comp")):
        name = source.stem
        if newer:
            compare_with_newer(source)
            continue
        text, module = here / source.name, here / f"{name}.spv.txt"
        if check:
            report(f"{source.name} is what gimbal asks for",
                   "" if text.read_bytes() == source.read_bytes() else "run compile.py without --check")
        binary = folder / f"{name}.spv"
        problem = compiling(source, binary)
        report(f"{name} compiles", problem)
        if problem:
            continue
        report(f"{name} is valid", validating(binary))
        words = bfloat16.module(words_of(binary))
        other = folder / f"{name}.bf16.spv"
        other.write_bytes(struct.pack(f"<{len(words)}I", *words))
        report(f"{name} for bf16 is valid", validating(other))
        if check:
            report(f"{module.name} is its module",
                   "" if module.read_text() == listing_of(binary) else "run compile.py without --check")
        else:
            text.write_bytes(source.read_bytes())
            module.write_text(listing_of(binary))
print(f"1..{number}")
sys.exit(1 if failures else 0)
