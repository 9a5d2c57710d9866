"""Joins our runs and the peers' into tables of medians and quartiles.

    cargo bench --bench search -- compare --json > ours.jsonl
    python table.py ours.jsonl peers.jsonl

Runs of peers that were ended by the clock (`run.py --seconds`) come in tables of their own, beside our
studies; those were timed on one core if run with `--jobs 1`.
"""

import json
import math
import statistics
import sys


def quartiles(values):
    """The quartiles, linear between neighbours; a search that found nothing counts as infinity."""
    values = sorted(math.inf if value is None else value for value in values)
    if len(values) == 1:
        return [values[0]] * 3
    if math.isinf(values[-1]):
        place = [round(share * (len(values) - 1)) for share in (0.25, 0.5, 0.75)]
        return [values[at] for at in place]
    return statistics.quantiles(values, n=4, method="inclusive")


def spread(values, digits=2):
    low, middle, high = quartiles(values)
    show = lambda value: "-" if math.isinf(value) else f"{value:.{digits}f}"
    return f"{show(middle)} [{show(low)}, {show(high)}]"


def at_budget(rows, budget):
    """Empty where no run went so far; `-` where a run went so far and found nothing."""
    costs = [row["at"][budget] for row in rows if budget in row["at"]]
    return spread(costs) if costs else ""


def read(paths):
    """Every run once. What a method does at first may depend on how far it may go (the size of its
    start): runs of different lengths are different rows."""
    runs = {}
    for path in paths:
        for row in map(json.loads, filter(str.strip, open(path))):
            most = max(map(int, row["at"])) if row["at"] else tuple(row["within"])
            runs.setdefault((row["problem"], row["method"], most, row["seed"]), row)
    counted = {key: row for key, row in runs.items() if row["at"]}
    lengths = {}
    for problem, method, most, _ in counted:
        lengths.setdefault((problem, method), set()).add(most)
    for (problem, method, most, _), row in counted.items():
        if len(lengths[problem, method]) > 1:
            row["method"] = f"{method}, {most} in all"
    return list(runs.values())


def by_evaluations(rows):
    budgets = sorted({int(at) for row in rows for at in row["at"]})
    heads = " | ".join(f"@{budget}" for budget in budgets)
    print(f"| method | n | {heads} | CPU/evaluation | wall |")
    print("|---|---|" + "---|" * len(budgets) + "---|---|")
    for method, mine in by_method(rows):
        costs = " | ".join(at_budget(mine, str(budget)) for budget in budgets)
        cpu = statistics.median(row["cpu_per_evaluation_s"] for row in mine)
        wall = statistics.median(row["wall_s"] for row in mine)
        print(f"| {method} | {len(mine)} | {costs} | {1000 * cpu:.1f} ms | {wall:.1f} s |")


def by_time(rows):
    marks = sorted({at for row in rows for at in row.get("within", ())}, key=float)
    heads = " | ".join(f"within {float(at):g} s" for at in marks)
    print(f"| method | n | {heads} | evaluations |")
    print("|---|---|" + "---|" * len(marks) + "---|")
    for method, mine in by_method(rows):
        costs = " | ".join(spread([found_within(row, at) for row in mine]) for at in marks)
        count = statistics.median(row["evaluations"] for row in mine)
        print(f"| {method} | {len(mine)} | {costs} | {count:.0f} |")


def found_within(row, mark):
    """What a run had found by then; a study of ours finds something when it is over, proof and all."""
    if "within" in row:
        return row["within"].get(mark)
    last = max(row["at"], key=int)
    return row["at"][last] if row["wall_s"] <= float(mark) else None


def by_method(rows):
    for method in dict.fromkeys(row["method"] for row in rows):
        yield method, [row for row in rows if row["method"] == method]


def main():
    rows = read(sys.argv[1:])
    for problem in dict.fromkeys(row["problem"] for row in rows):
        of_problem = [row for row in rows if row["problem"] == problem]
        counted = [row for row in of_problem if row["at"]]
        if counted:
            print(f"\n### {problem}\n")
            by_evaluations(counted)
        timed = [row for row in of_problem if row.get("within") or "winner" in row]
        if any(row.get("within") for row in timed):
            print(f"\n### {problem} by the clock\n")
            by_time(timed)


if __name__ == "__main__":
    main()
