"""The very same evaluations for every optimizer: a process that answers candidates.

`Oracle` starts `serve` of the search bench, reads the description of the space from its first line,
and asks it candidates, a line of JSON each. It keeps the truth about every candidate aside, where
no optimizer looks.
"""

import json
import math
import subprocess
import time


class TimeIsUp(Exception):
    """Raised where a candidate is asked after the time is up."""


class Oracle:
    def __init__(self, binary, problem, repetition, seconds=math.inf):
        command = [binary, "serve", problem, "--repetition", str(repetition)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.space = json.loads(self.process.stdout.readline())
        self.knobs = [Knob(knob) for knob in self.space["knobs"]]
        self.met = []
        self.known = {}
        self.objectives = []
        self.seconds = seconds
        self.begin()

    def begin(self):
        """Starts the clock, by which every answer is dated."""
        self.began = time.perf_counter()
        self.dates = []

    def ask(self, values):
        """Evaluates knobs by path on the seeds of the search; knobs that are left out rest."""
        if time.perf_counter() - self.began > self.seconds:
            raise TimeIsUp
        self.process.stdin.write(json.dumps({"knobs": values}) + "\n")
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise ValueError(answer["error"])
        shown = Answer(answer, self)
        self.met.append((values, shown, answer.get("truth")))
        self.dates.append(time.perf_counter() - self.began)
        return shown

    def count_within(self, seconds):
        """How many evaluations were answered by then."""
        return sum(date <= seconds for date in self.dates)

    def best_within(self, evaluations):
        """The cost of the best truly feasible candidate of the first so many.

        Where truth is dear, it is asked in order of what the optimizer saw, until that is clearly
        dearer than the best, and not at all of what is outside of a limit by half of it: as for our
        own search.
        """
        met = self.met[:evaluations]
        if not self.space["truth_seeds"]:
            truths = [truth for _, _, truth in met]
            return min((truth["cost"] for truth in truths if truth["feasible"]), default=None)
        hopeful = [entry for entry in met if max(entry[1].violations) <= 0.4]
        best = None
        for values, shown, _ in sorted(hopeful, key=lambda entry: entry[1].objective):
            if best is not None and shown.objective > best + 0.03 * abs(best):
                break
            truth = self.truth(values, shown)
            if truth["feasible"]:
                best = truth["cost"] if best is None else min(best, truth["cost"])
        return best

    def truth(self, values, shown):
        """What a candidate is on the fresh seeds of the truth, asked once."""
        if shown.hash not in self.known:
            question = {"knobs": values, "seeds": self.space["truth_seeds"]}
            self.process.stdin.write(json.dumps(question) + "\n")
            score = json.loads(self.process.stdout.readline())["score"]
            sign = 1.0 if "minimize" in self.space["objective"] else -1.0
            cost = None if score["objective"] is None else sign * score["objective"]
            self.known[shown.hash] = {"cost": cost, "feasible": score["feasible"]}
        return self.known[shown.hash]

    def active(self, values):
        """The values of the knobs that matter, given values of all."""
        kept = {}
        for knob in self.knobs:
            # A condition names a knob before the one that it switches.
            if all(kept.get(other) in options for other, options in knob.when.items()):
                kept[knob.path] = values[knob.path]
        return kept

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Answer:
    """What an optimizer may see: the objective to minimize and how far each constraint is outside.

    The violations are negative inside, 0 on the limit and positive outside, on the logarithmic
    scale that our own search uses: raw latencies near saturation would wreck anybody's surrogate.
    """

    def __init__(self, answer, oracle):
        score = answer["score"]
        sign = 1.0 if "minimize" in oracle.space["objective"] else -1.0
        objective = score["objective"]
        if objective is None:
            objective = sign * max(oracle.objectives, default=0.0)
        self.objective = sign * objective
        oracle.objectives.append(self.objective)
        self.violations = score["violations"]
        self.feasible = score["feasible"]
        self.hash = answer["hash"]


class Knob:
    """One degree of freedom, with its place in the unit interval."""

    def __init__(self, knob):
        self.path, self.type, self.when = knob["path"], knob["type"], knob["when"]
        self.rest = knob["rest"]
        if self.type == "choice":
            self.options = knob["options"]
        else:
            self.low, self.high, self.log = knob["low"], knob["high"], knob["log"]
            self.step = knob.get("step")

    def on_grid(self, value):
        """The nearest value that the knob can have."""
        if self.type != "int":
            return min(max(value, self.low), self.high)
        steps = round((value - self.low) / self.step)
        return int(min(max(self.low + steps * self.step, self.low), self.high))

    def to_unit(self, value):
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def from_unit(self, share):
        share = min(max(share, 0.0), 1.0)
        if self.log:
            return self.on_grid(self.low * (self.high / self.low) ** share)
        return self.on_grid(self.low + (self.high - self.low) * share)
