#!/usr/bin/env python3
"""The diffs in docs/ still apply to the sources. Prints TAP.   check_docs.py ROOT"""
import re
import subprocess
import sys
from pathlib import Path

root = Path(sys.argv[1])
diffs = [(doc.name, text) for doc in sorted((root / "docs").glob("adding-*.md"))
         for text in re.findall(r"```diff\n(.*?)```", doc.read_text(), re.S)]
failures = 0
print(f"1..{len(diffs)}")
for number, (name, text) in enumerate(diffs, 1):
    done = subprocess.run(["git", "apply", "--check", "-"], input=text, text=True, cwd=root,
                          capture_output=True)
    failures += done.returncode != 0
    print(f"{'not ok' if done.returncode else 'ok'} {number} - a diff of {name} applies")
    for line in done.stderr.splitlines():
        print(f"# {line}")
sys.exit(failures != 0 or not diffs)
