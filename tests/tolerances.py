"""The one place with numbers: how near is near enough, and why.

- An identity or an oracle in float64: `assert_identity`.
- The same computation written twice in one dtype: `assert_same` (torch.testing's defaults).
- Derivatives against finite differences in float64: `assert_gradients`.
- A fast or fused form in a narrow dtype: `assert_as_accurate_as` plain torch in that dtype.
- Bounds that the package states for itself: the named constants.

A test that needs another number adds it here, named, with the reason. No bound is ever loosened to
make a test pass.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

IDENTITY = 1e-9
"""Relative and absolute, float64: mathematics leaves only rounding, ~1e-16 an operation."""

ENTMAX_PROBABILITY_ERROR = 1e-6
"""Largest absolute error of an entmax probability computed in float32, any alpha in [1, 2]."""

ENTMAX_ALPHA_GRADIENT_ERROR = 1e-3
"""Largest relative error of d p / d alpha in float32, alpha -> 1 included."""

NEGLIGIBLE_ALPHA_GRADIENT = 1e-12
"""A row whose d p / d alpha is nowhere larger has no digits of it to compare in float32."""

NORMALISATION_ERROR = 1e-6
"""Largest |sum p - 1| of a row in float32, for a million states."""

STATISTICS_RELATIVE_ERROR = 1e-3
"""Largest relative error of V in float32, nearly uniform rows included."""

ENTROPY_ERROR = 1e-5
"""Largest error of an entropy or of log Z - max x in float32, nats: a few roundings of log n."""

ENTMAX_PACKAGE = 1e-6
"""Relative, float64: the entmax package bisects 50 times and divides rounding by (alpha - 1)^2."""

FINITE_DIFFERENCE = 1e-6
"""Relative, float64: a difference of second order or higher with steps of 1e-5 to 1e-4."""

FIRST_ORDER_REMAINDER = 1e-3
"""Share of a first-order change that the next order may make up, at steps of 1e-5."""

HALF_PRECISION_ROUNDINGS = 1.0
"""A result in half precision is the float32 one, rounded once: within one eps of the type."""

GOODNESS_OF_FIT_FAILURE_RATE = 2e-5
"""Chance that a correct sampler fails a goodness-of-fit test: one in 50,000 runs."""

DOUBTFUL_SHARE = 0.1
"""Share of random rows that the compiled step may leave to the reference: it is there for speed.
Most are draws from the tail of an uncut distribution."""

TEMPERATURE_ROUNDINGS = 1e-6
"""Relative difference of two solvers' temperatures in float32 that took the same steps."""

RESPONSE_BUDGET_ERROR = 0.3
"""Relative error of the nats that the response schedule removes from Gaussian rows, mean of a few:
its law is first order in the sparsity and second in the scores (measured: 0.02 to 0.22)."""

LEARNED_SPARSITY_ERROR = 0.02
"""How near plain gradient descent comes to a planted sparsity within a test's few hundred steps."""

FUSED_ERROR_RATIO = 2.0
"""How many times the error of plain torch in the same dtype a fast form may make."""

FUSED_ERROR_FLOOR = 4.0
"""Plus so many roundings (eps times the largest value): plain torch may be exact by luck."""

MODEL_OUTPUT_ERROR = 1e-5
"""Largest error of a whole small model's float32 outputs, relative to the largest of them, between
two orders of summation (with a cache, without): sharp attention and norms amplify roundings layer
by layer."""

ELEMENTARY_ROUNDINGS = 2.0
"""Units in the last place that exp and log of the CPU kernels may be off, as documented there."""

LOG1P_ROUNDINGS = 3.0
"""The same of log1p, which rounds 1 + x first: 2.4 at x = -0.3 by itself."""

LONG_SEQUENCE_BYTES = 0.5e9
"""Memory that a step over one head of 16384 may take beyond inputs and results: half of what its
scores would (measured: 0.03e9)."""

NARROW_ERROR = 0.02
"""Relative error of sigma^2/d as the variance of a sum's log, at sigma^2 = 0.01: the next order."""

FENTON_ERROR = 0.05
"""Relative error of Fenton's variance up to sigma^2 = 0.5, and of its mean: an approximation."""

MATCHED_VARIANCE_ERROR = 0.1
"""Distance of a matched Var(log P) from its target of up to 1.25: a line through a curve."""

SPECTRAL_TOLERANCE = 1e-12
"""Residual at which eigenvalue iterations end in float64, to be compared as identities."""

SPECTRAL_FLOAT32_ERROR = 2e-5
"""Error of a gap from float32 products: the default residual of 1e-5, and rounding."""

LOGNORMAL_DISTANCE_ERROR = 4e-4
"""Of a Kolmogorov-Smirnov distance read from bins: a bin's mass under the normal, as documented."""

QUANTILE_ERROR = 1e-3
"""Of a standardised quantile read from the same bins: a bin's width."""

LOGNORMAL_PREDICTION_ERROR = 0.02
"""Of predicted moments of log P, and of its distance to normality, for Gaussian inputs of unit
variance, 64 channels and 2048 keys (measured: 0.005)."""

LLAMA_CPP_ERROR = 2e-5
"""llama.cpp states the probabilities of its test vectors with five digits."""

ENTROPY_TARGET_ERROR = 2e-4
"""Nats by which a solved temperature may miss its entropy: its 1e-4, and float32 of the scores."""

MEAN_SURPRISAL_ERROR = 0.1
"""Nats by which feedback may miss a mean surprisal over a few thousand tokens: their spread."""


def assert_identity(actual: Tensor, expected: Tensor | float, *, scale: float = 1.0) -> None:
    """Check two float64 values of one quantity; `scale` is the size of the terms that cancelled."""
    expected = torch.as_tensor(expected, dtype=torch.float64)
    assert actual.dtype == torch.float64, "an identity is tested in float64"
    torch.testing.assert_close(
        actual, expected.expand(actual.shape), rtol=IDENTITY, atol=IDENTITY * scale
    )


def assert_same(actual: Tensor, expected: Tensor) -> None:
    """Check two tensors of one dtype that come from the same computation written differently."""
    torch.testing.assert_close(actual, expected)


def assert_same_outputs(actual: Tensor, expected: Tensor) -> None:
    """Check the outputs of one model computed in two ways, e.g. with a cache and without."""
    assert actual.dtype == expected.dtype == torch.float32
    atol = MODEL_OUTPUT_ERROR * expected.abs().max().item()
    torch.testing.assert_close(actual, expected, rtol=0.0, atol=atol)


def assert_gradients(
    function: Callable[..., Tensor], inputs: Sequence[Tensor], *, second_order: bool = False
) -> None:
    """Check first (and second) derivatives against finite differences in float64."""
    inputs = tuple(tensor.detach().double().requires_grad_() for tensor in inputs)
    assert torch.autograd.gradcheck(function, inputs)
    if second_order:
        assert torch.autograd.gradgradcheck(function, inputs)


def assert_slope(actual: Tensor, differences: Tensor | float) -> None:
    """Check a derivative in float64 against finite differences taken by the test itself."""
    expected = torch.as_tensor(differences, dtype=torch.float64).expand(actual.shape)
    torch.testing.assert_close(
        actual, expected, rtol=FINITE_DIFFERENCE, atol=FINITE_DIFFERENCE * 1e-2
    )


def assert_as_the_original(actual: Tensor, original: Tensor) -> None:
    """Check a value or gradient in float64 against the entmax package's."""
    torch.testing.assert_close(actual, original, rtol=ENTMAX_PACKAGE, atol=ENTMAX_PACKAGE * 1e-2)


def assert_as_accurate_as(
    actual: Tensor, plain: Tensor, oracle: Tensor, *, scale: float = 0.0
) -> None:
    """Check a fast form in a narrow dtype against what plain torch attains in the same dtype.

    Args:
        actual: the fast form's result.
        plain: plain torch's result, in the same dtype.
        oracle: the truth, in float64.
        scale: size of the terms that cancelled in it; a rounding is one of the largest of them.
    """
    assert actual.dtype == plain.dtype, f"{actual.dtype} is compared with {plain.dtype}"
    assert oracle.dtype == torch.float64, "the oracle is computed in float64"
    error = (actual.double() - oracle).abs().max().item()
    attained = (plain.double() - oracle).abs().max().item()
    largest = max(oracle.abs().max().item(), scale)
    floor = FUSED_ERROR_FLOOR * torch.finfo(actual.dtype).eps * largest
    # Written so that a NaN fails.
    assert error <= FUSED_ERROR_RATIO * attained + floor, (
        f"error {error:.3e}, allowed {FUSED_ERROR_RATIO} * {attained:.3e} + {floor:.3e}"
    )
