"""Workers of tools/bench: processes that keep a model and time calls as they are told, so that all
take turns in one run. Their protocol is in serve.py."""
import json
import os
import select
import statistics
import subprocess
import time


class Failed(Exception):
    """A worker that cannot be used; the text is for a table."""


class Worker:
    def __init__(self, name, command, log, env=None, cwd=None, ready=120):
        self.name, self.log, self.buffer, self.started = name, log, b"", time.monotonic()
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(log, "wb") as errors:
                self.process = subprocess.Popen(
                    list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                    stderr=errors, env={**os.environ, **(env or {})}, cwd=cwd)
        except OSError as e:
            raise Failed(f"does not start: {e.strerror}") from e
        self.about = self.answer(ready).get("about", "")

    def reason(self):
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1].strip()[:160] if lines else f"ended with {self.process.poll()}"

    def answer(self, seconds):
        end = time.monotonic() + seconds
        while True:
            line, mark, rest = self.buffer.partition(b"\n")
            if mark:
                self.buffer = rest
                if line.startswith(b"{"):
                    return json.loads(line)
                continue
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                self.close()
                raise Failed(f"took over {seconds:.0f} s")
            more = os.read(self.process.stdout.fileno(), 1 << 16)
            if not more:
                self.process.wait()
                raise Failed(self.reason())
            self.buffer += more

    def ask(self, call, seconds=0.0, least=1, limit=300):
        try:
            self.process.stdin.write(f"{call} {seconds} {least}\n".encode())
            self.process.stdin.flush()
        except (OSError, ValueError) as e:
            raise Failed(self.reason()) from e
        answer = self.answer(limit)
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def close(self):
        if self.process.stdin and not self.process.stdin.closed:
            try:
                self.process.stdin.close()
            except OSError:
                pass
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Runner:
    """A call of a worker, made when it is first wanted. group: of a group's runners, those that are
    much slower than its best are left out after the first round."""

    def __init__(self, name, make, call, group=None, limit=300):
        self.name, self.make, self.call, self.group, self.limit = name, make, call, group, limit
        self.worker, self.ms, self.error, self.about = None, [], None, ""
        self.rounds = 0

    def prepare(self):
        """Starts, compiles and warms up: these take long, and the machine's speed drifts."""
        self.take(0, 1)
        self.ms, self.rounds = [], 0

    def take(self, seconds, least):
        if self.error:
            return
        try:
            if self.worker is None:
                self.worker = self.make()
            self.about = self.worker.about
            self.ms += self.worker.ask(self.call, seconds, least, self.limit)["ms"]
            self.rounds += 1
        except Failed as e:
            self.error = str(e)

    def result(self):
        if not self.ms:
            return {"error": self.error or "was not run", "about": self.about}
        return {"median": statistics.median(self.ms), "min": min(self.ms), "calls": len(self.ms),
                "rounds": self.rounds, "about": self.about}


def much_slower(runner, runners):
    best = min((min(r.ms) for r in runners if r.group == runner.group and r.ms), default=0)
    return runner.group and runner.ms and min(runner.ms) > 1.2 * best


def alternate(runners, seconds, least, rounds, budget, say=None):
    """Prepares all runners, then times them by turns. Rounds end early when the budget (seconds) is spent; after the
    first, those that cannot be their group's best are left out. say: told of each turn."""
    for runner in runners:
        runner.prepare()
        if say:
            say(f"  {runner.name} " + (f"failed: {runner.error}" if runner.error else "is ready"))
    end, active = time.monotonic() + budget, [r for r in runners if not r.error]
    for turn in range(rounds):
        start = time.monotonic()
        for runner in active:
            runner.take(seconds, least)
            if say:
                say(f"  {runner.name}: " + (runner.error or f"{runner.ms[-1]:.2f} ms"))
        active = [r for r in active if not r.error and not much_slower(r, active)]
        took = time.monotonic() - start
        if time.monotonic() + took > end:
            break
    for runner in runners:
        if runner.worker:
            runner.worker.close()
    return {r.name: r.result() for r in runners}
