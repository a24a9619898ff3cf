"""Checks that print TAP."""
import sys

number = failures = 0


def check(name, condition, shown=""):
    """Prints a line; where the condition does not hold, what is shown as well."""
    global number, failures
    number += 1
    failures += not condition
    print(f"{'ok' if condition else 'not ok'} {number} - {name}", flush=True)
    if not condition:
        print("\n".join(f"# {line}" for line in str(shown).splitlines()))


def finish():
    """Ends the program: status 1 where a check failed."""
    print(f"1..{number}")
    sys.exit(failures > 0)
