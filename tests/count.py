#!/usr/bin/env python3
"""Counts test cases over Meson's logs (testlog.json) and prints 'N passed, N failed, N skipped'.

A program that prints TAP counts for each of its cases, any other program for one. A program that
fails without saying which case counts as one failure. Exits 1 if anything failed or nothing ran."""
import json
import re
import sys

CASE = re.compile(r"^(not )?ok\b([^#\n]*)(#\s*skip)?", re.I | re.M)
passed = failed = skipped = 0
for path in sys.argv[1:]:
    for line in open(path, encoding="utf-8"):
        test = json.loads(line)
        cases = CASE.findall(test.get("stdout", ""))
        bad = [name.strip() for no, name, skip in cases if no and not skip]
        skips = [name.strip() for no, name, skip in cases if skip]
        if test["result"] == "SKIP" and not cases:
            skips = [test["name"]]
        elif test["result"] not in ("OK", "SKIP", "EXPECTEDFAIL") and not bad:
            bad = [f"({test['result'].lower()}, exit status {test['returncode']})"]
        good = len(cases) - len(skips) - sum(1 for no, _, skip in cases if no and not skip)
        passed += good if cases else int(test["result"] == "OK")
        failed += len(bad)
        skipped += len(skips)
        for name in bad:
            print(f"FAILED {test['name']}: {name}")
        for name in skips:
            print(f"skipped {test['name']}: {name}")
print(f"{passed} passed, {failed} failed, {skipped} skipped")
sys.exit(1 if failed or not passed else 0)
