"""Runs peers on problems of the search bench and appends a line of JSON per run.

    python run.py BINARY --problem static7 --method tpe --seeds 20 --out peers.jsonl
    python run.py BINARY --problem static7 --method tpe --seconds 2,20 --at 9999 --out timed.jsonl

With `--seconds` a run ends when the last of them is over, or after the last of `--at`. BINARY is the search bench: `cargo bench --bench search --no-run` prints where it is.
"""

import argparse
import importlib
import json
import math
import os
import time
from pathlib import Path

# One core each: what is compared is the price of a suggestion, not the size of a machine.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

from oracle import Oracle, TimeIsUp  # noqa: E402

METHODS = {
    "tpe": ("optuna_peers", "tpe"),
    "nsga2": ("optuna_peers", "nsga2"),
    "optuna-gp": ("optuna_peers", "gp"),
    "smac": ("smac_peer", "smac"),
    "botorch": ("botorch_peer", "botorch"),
}


def run(binary, problem, method, seed, at, seconds):
    module, function = METHODS[method]
    minimize = getattr(importlib.import_module(module), function)
    oracle = Oracle(binary, problem, seed, seconds=max(seconds, default=math.inf))
    wall, cpu = time.perf_counter(), time.process_time()
    oracle.begin()
    try:
        minimize(oracle, max(at), seed)
    except TimeIsUp:
        pass
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    row = {
        "problem": problem,
        "method": method,
        "seed": seed,
        "at": {str(count): oracle.best_within(count) for count in at if not seconds},
        "within": {str(s): oracle.best_within(oracle.count_within(s)) for s in seconds},
        "cpu_per_evaluation_s": cpu / max(len(oracle.met), 1),
        "wall_s": wall,
        "evaluations": len(oracle.met),
    }
    oracle.close()
    return row


def done(path):
    if not path.exists():
        return set()
    rows = map(json.loads, path.read_text().splitlines())
    return {(row["problem"], row["method"], row["seed"]) for row in rows}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("--problem", action="append", required=True)
    parser.add_argument("--method", action="append", choices=METHODS, required=True)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--at", type=lambda text: [int(n) for n in text.split(",")],
                        default=[30, 60, 120, 240])
    parser.add_argument("--seconds", type=lambda text: [float(n) for n in text.split(",")],
                        default=[])
    parser.add_argument("--out", type=Path, default=Path("peers.jsonl"))
    args = parser.parse_args()
    for seed in range(args.first, args.first + args.seeds):
        for problem in args.problem:
            for method in args.method:
                # What is in the file already is not run again.
                if (problem, method, seed) in done(args.out):
                    continue
                row = run(args.binary, problem, method, seed, args.at, args.seconds)
                with args.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
