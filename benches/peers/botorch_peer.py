"""BoTorch: a Gaussian process per outcome and the logarithm of constrained expected improvement.

Choices are relaxed to one coordinate per option and rounded to the largest; knobs that do not matter
stand at their resting values. The start is a scrambled Sobol sequence of two points per knob.
"""

import warnings

import torch
from botorch import fit_gpytorch_mll
from botorch.acquisition.analytic import LogConstrainedExpectedImprovement
from botorch.models import ModelListGP, SingleTaskGP
from botorch.models.transforms import Standardize
from botorch.optim import optimize_acqf
from gpytorch.mlls import SumMarginalLogLikelihood

warnings.filterwarnings("ignore")
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)


def botorch(oracle, evaluations, seed):
    torch.manual_seed(seed)
    width = sum(dimensions(knob) for knob in oracle.knobs)
    sobol = torch.quasirandom.SobolEngine(width, scramble=True, seed=seed)
    start = min(2 * len(oracle.knobs) + 2, evaluations // 3)
    points, outcomes, seen = [], [], set()

    def meet(point):
        values = decode(oracle, point)
        answer = oracle.ask(oracle.active(values))
        points.append(encode(oracle, values))
        outcomes.append([answer.objective, *answer.violations])
        seen.add(repr(values))

    while len(points) < start:
        meet(sobol.draw(1).double()[0])
    while len(points) < evaluations:
        point = suggest(torch.stack(points), torch.tensor(outcomes), width)
        # A candidate that is known already teaches nothing here: the evaluations repeat exactly.
        if repr(decode(oracle, point)) in seen:
            point = sobol.draw(1).double()[0]
        meet(point)


def suggest(points, outcomes, width):
    models = [
        SingleTaskGP(points, outcomes[:, at : at + 1], outcome_transform=Standardize(1))
        for at in range(outcomes.shape[1])
    ]
    model = ModelListGP(*models)
    fit_gpytorch_mll(SumMarginalLogLikelihood(model.likelihood, model))
    feasible = (outcomes[:, 1:] <= 0.0).all(dim=1)
    known = outcomes[feasible, 0] if feasible.any() else outcomes[:, 0]
    best = known.min() if feasible.any() else known.max()
    limits = {at: [None, 0.0] for at in range(1, outcomes.shape[1])}
    acquisition = LogConstrainedExpectedImprovement(model, best, 0, limits, maximize=False)
    bounds = torch.stack([torch.zeros(width), torch.ones(width)])
    point, _ = optimize_acqf(acquisition, bounds, q=1, num_restarts=4, raw_samples=256)
    return point[0].detach()


def dimensions(knob):
    return len(knob.options) if knob.type == "choice" else 1


def decode(oracle, point):
    """Values of all knobs, those that do not matter at rest."""
    values, at = {}, 0
    for knob in oracle.knobs:
        width = dimensions(knob)
        if knob.type == "choice":
            values[knob.path] = knob.options[int(torch.argmax(point[at : at + width]))]
        else:
            values[knob.path] = knob.from_unit(float(point[at]))
        at += width
    active = oracle.active(values)
    return {knob.path: active.get(knob.path, knob.rest) for knob in oracle.knobs}


def encode(oracle, values):
    point = []
    for knob in oracle.knobs:
        value = values[knob.path]
        if knob.type == "choice":
            point.extend(float(option == value) for option in knob.options)
        else:
            point.append(knob.to_unit(value))
    return torch.tensor(point)
