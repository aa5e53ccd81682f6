"""Small cases for the harness's own tests: right, wrong, broken, missing."""

import torch

from gibbsian.experiments.bench.case import Case, Contender, Operation, Ratio


def rows(size):
    return {"scores": torch.randn(8, size, generator=torch.Generator().manual_seed(0))}


def softmax_reference(tensors, chosen):
    return (tensors["scores"][chosen].softmax(dim=-1),)


def operation(tensors, function):
    leaves = {n: t for n, t in tensors.items() if t.requires_grad}
    return Operation(call=lambda: (function(tensors["scores"]),), leaves=leaves)


def right(tensors):
    return operation(tensors, lambda x: x.softmax(dim=-1))


def wrong(tensors):
    # off by a thousandth, in one row only
    off = torch.zeros(8, 1)
    off[7] = 1e-3
    return operation(tensors, lambda x: x.softmax(dim=-1) + off)


class _WrongBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        p = x.softmax(dim=-1)
        ctx.save_for_backward(p)
        return p

    @staticmethod
    def backward(ctx, gradient):
        (p,) = ctx.saved_tensors
        return p * gradient  # the mean is not taken off


def wrong_backward(tensors):
    return operation(tensors, _WrongBackward.apply)


def not_a_number(tensors):
    return operation(tensors, lambda x: x.softmax(dim=-1) * float("nan"))


def zeros(tensors):
    return operation(tensors, torch.zeros_like)


def broken(_):
    raise RuntimeError("no such kernel")


def missing(_):
    import a_package_that_nobody_has

    return a_package_that_nobody_has


def contender(name, prepare, *, reference=softmax_reference, **options):
    return Contender(name=name, prepare=prepare, reference=reference, **options)


def case(*contenders, name="softmax-16", **options):
    options.setdefault("ratios", tuple(Ratio(of=c.name, to="right") for c in contenders[:1]))
    return Case(
        name=name,
        group="Softmax of rows",
        size=16,
        tensors=rows,
        contenders=contenders,
        differentiated=("scores",),
        **options,
    )


class Silent:
    def __init__(self):
        self.cases = []

    def on_case(self, name, index, total):
        self.cases.append((name, index, total))

    def on_step(self, text):
        pass
