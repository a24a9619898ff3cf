"""The peers' side of tools/bench's protocol: a line "CALL SECONDS CALLS" on standard input (at least
so long, and so often) is answered by a line of JSON: {"ms": [...]}, or {"error": "..."}."""
import json
import os
import resource
import sys
import time

LONG_CALL = 0.3  # seconds; longer ones need no warming up before each line


def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def times(call, seconds, least, last):
    if seconds > 0 and last < LONG_CALL:
        call()
    ms, start = [], time.perf_counter()
    now = start
    while len(ms) < least or now - start < seconds:
        call()
        ms.append(1e3 * (time.perf_counter() - now))
        now = time.perf_counter()
    return ms


def serve(calls, **about):
    """calls: name -> function that makes the function to time, when it is first wanted."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    start, made, last = peak_bytes(), {}, {}

    def answer(what):
        print(json.dumps(what), file=answers, flush=True)

    answer({"ready": True, **about})
    for line in sys.stdin:
        name, seconds, least = line.split()
        try:
            if name == "memory":
                answer({"start_bytes": start, "peak_bytes": peak_bytes()})
                continue
            if name not in made:
                made[name] = calls[name]()
            ms = times(made[name], float(seconds), int(least), last.get(name, 0))
            last[name] = ms[-1] / 1e3
            answer({"ms": ms})
        except Exception as e:  # the row says so
            answer({"error": f"{type(e).__name__}: {e}".split("\n")[0][:200]})
