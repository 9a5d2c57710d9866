"""Optuna: TPE, Gaussian processes and NSGA-II, constraints through `constraints_func`."""

import warnings

import optuna

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
# `constraints_func` works from version 4 on, its successor from 5 on only.
warnings.filterwarnings("ignore", category=FutureWarning)


def constraints(trial):
    return trial.user_attrs["violations"]


def tpe(oracle, evaluations, seed):
    # Both options are those that its documentation recommends for knobs that act on each other
    # and for conditional ones.
    sampler = optuna.samplers.TPESampler(
        seed=seed, multivariate=True, group=True, constraints_func=constraints
    )
    minimize(oracle, evaluations, sampler, conditional=True)


def gp(oracle, evaluations, seed):
    # It models the knobs that every trial has, and draws the others at random: so it gets them all.
    sampler = optuna.samplers.GPSampler(seed=seed, constraints_func=constraints)
    minimize(oracle, evaluations, sampler, conditional=False)


def nsga2(oracle, evaluations, seed):
    # The default population of 50 would be two generations at 120 evaluations.
    sampler = optuna.samplers.NSGAIISampler(
        seed=seed, population_size=20, constraints_func=constraints
    )
    minimize(oracle, evaluations, sampler, conditional=True)


def minimize(oracle, evaluations, sampler, conditional):
    def objective(trial):
        values = {}
        for knob in oracle.knobs:
            is_on = all(values.get(other) in options for other, options in knob.when.items())
            if is_on or not conditional:
                values[knob.path] = suggest(trial, knob)
        answer = oracle.ask(oracle.active(values) if not conditional else values)
        trial.set_user_attr("violations", answer.violations)
        return answer.objective

    study = optuna.create_study(direction="minimize", sampler=sampler)
    study.optimize(objective, n_trials=evaluations)


def suggest(trial, knob):
    if knob.type == "choice":
        return trial.suggest_categorical(knob.path, knob.options)
    if knob.type == "float":
        return trial.suggest_float(knob.path, knob.low, knob.high, log=knob.log)
    if knob.log:
        return knob.on_grid(trial.suggest_int(knob.path, knob.low, knob.high, log=True))
    return trial.suggest_int(knob.path, knob.low, knob.high, step=knob.step)
