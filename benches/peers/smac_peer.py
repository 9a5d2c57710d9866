"""SMAC3 with its random forest, by ask and tell.

SMAC3 has no constraints of its own: what is infeasible costs more than anything feasible, and the
more the further outside it is.
"""

import logging
import math
import tempfile
from pathlib import Path

from ConfigSpace import Categorical, ConfigurationSpace, Float, InCondition, Integer
from smac import HyperparameterOptimizationFacade, Scenario
from smac.runhistory.dataclasses import TrialValue

# Costs are told as logarithms; nothing in these problems is a million times dearer.
INFEASIBLE = math.log(1e6)


def smac(oracle, evaluations, seed):
    logging.disable(logging.WARNING)
    space = config_space(oracle, seed)
    with tempfile.TemporaryDirectory() as folder:
        scenario = Scenario(
            space,
            n_trials=evaluations,
            deterministic=True,
            seed=seed,
            output_directory=Path(folder),
        )
        facade = HyperparameterOptimizationFacade(
            scenario, lambda config, seed: 0.0, overwrite=True, logging_level=logging.ERROR
        )
        while len(oracle.met) < evaluations:
            info = facade.ask()
            facade.tell(info, TrialValue(cost=cost(oracle, dict(info.config))))


def cost(oracle, config):
    values = {}
    for knob in oracle.knobs:
        if knob.path in config:
            value = config[knob.path]
            values[knob.path] = str(value) if knob.type == "choice" else knob.on_grid(float(value))
    answer = oracle.ask(values)
    if answer.feasible:
        return math.log(max(answer.objective, 1e-9))
    return INFEASIBLE + sum(max(violation, 0.0) for violation in answer.violations)


def config_space(oracle, seed):
    space = ConfigurationSpace(seed=seed)
    made = {}
    for knob in oracle.knobs:
        if knob.type == "choice":
            made[knob.path] = Categorical(knob.path, knob.options)
        elif knob.type == "int":
            made[knob.path] = Integer(knob.path, (knob.low, knob.high), log=knob.log)
        else:
            made[knob.path] = Float(knob.path, (knob.low, knob.high), log=knob.log)
    space.add(list(made.values()))
    for knob in oracle.knobs:
        for other, options in knob.when.items():
            space.add(InCondition(made[knob.path], made[other], options))
    return space
