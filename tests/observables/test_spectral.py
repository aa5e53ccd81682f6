"""Both gaps against dense linear algebra on weights from the oracles."""

import numpy as np
import pytest
import torch

from gibbsian import SmoothStep, aes_attention
from gibbsian._errors import ArgumentError
from gibbsian.observables import blocks
from gibbsian.observables.spectral import dense_spectral_gaps, eigenvalue_gap, singular_gap
from tests.oracles import entmax as entmax_oracle
from tests.oracles import spectral as oracle
from tests.tolerances import SPECTRAL_FLOAT32_ERROR, SPECTRAL_TOLERANCE, assert_identity

EXACT = {"tolerance": SPECTRAL_TOLERANCE, "max_products": 400}


def inputs(*, batch=2, heads=3, key_heads=None, queries=24, keys=None, spread=2.0):
    keys = queries if keys is None else keys
    query = torch.randn(batch, heads, queries, 5, dtype=torch.float64) * spread
    return query, torch.randn(batch, key_heads or heads, keys, 5, dtype=torch.float64)


def matrices(query, key, zeta, seen=None):
    """P of every head, row by row from the oracle; zeta a number or an array of the rows."""
    batch, heads, queries, head_dim = query.shape
    group = heads // key.shape[1]
    result = np.zeros((batch, heads, queries, key.shape[2]))
    zetas = np.broadcast_to(np.asarray(zeta, dtype=np.float64), result.shape[:3])
    for b, h, i in np.ndindex(batch, heads, queries):
        js = np.arange(key.shape[2]) if seen is None else np.flatnonzero(seen[b, h, i])
        if js.size:
            scores = (key[b, h // group, js] @ query[b, h, i]).numpy() / head_dim**0.5
            result[b, h, i, js] = entmax_oracle.probabilities(scores, zetas[b, h, i])
    return result


def second(matrix, present=None):
    return torch.from_numpy(oracle.over_heads(oracle.second_eigenvalue, matrix, present))


def largest(matrix, present=None):
    function = oracle.largest_centred_singular_value
    return torch.from_numpy(oracle.over_heads(function, matrix, present))


@pytest.mark.parametrize("zeta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("queries", [1, 2, 3, 24])
def test_both_gaps_match_dense_algebra(zeta, queries):
    # an eigenvalue 0 of the sparse weights of three sharp rows is defective: good to eps^(1/2) only
    query, key = inputs(queries=queries, spread=0.5 if queries < 24 else 2.0)
    expected = matrices(query, key, zeta)
    found = eigenvalue_gap(query, key, zeta=zeta, **EXACT)
    assert found.converged.all()
    assert_identity(found.magnitude, second(expected))
    assert_identity(found.gap, 1 - second(expected))
    found = singular_gap(query, key, zeta=zeta, **EXACT)
    assert found.converged.all()
    assert_identity(found.magnitude, largest(expected))
    assert_identity(found.gap, 1 - largest(expected))


def test_more_positions_than_products_of_a_small_basis():
    query, key = inputs(batch=1, heads=2, queries=150)
    expected = matrices(query, key, 0.0)
    found = eigenvalue_gap(query, key, **EXACT)
    assert found.converged.all()
    assert_identity(found.magnitude, second(expected))
    assert_identity(singular_gap(query, key, **EXACT).magnitude, largest(expected))


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_float32_on_both_backends(backend):
    if backend == "cpu":
        pytest.importorskip("numba")
    query, key = inputs(queries=40, key_heads=1)
    narrow = {"backend": backend, "enable_gqa": True, "zeta": 0.3}
    for gap, of in ((eigenvalue_gap, second), (singular_gap, largest)):
        found = gap(query.float(), key.float(), **narrow)
        assert found.converged.all()
        error = (found.magnitude - of(matrices(query, key, 0.3))).abs().max()
        assert error <= SPECTRAL_FLOAT32_ERROR


def test_adaptive_sparsity_by_its_reported_sparsities():
    query, key = inputs(spread=4.0)
    _, statistics = aes_attention(
        query, key, key, schedule=SmoothStep(low=0.1, high=0.9), return_statistics=True
    )
    assert statistics.zeta.std() > 0
    expected = matrices(query, key, statistics.zeta.numpy())
    assert_identity(
        eigenvalue_gap(query, key, zeta=statistics.zeta, **EXACT).magnitude, second(expected)
    )
    assert_identity(
        singular_gap(query, key, zeta=statistics.zeta, **EXACT).magnitude, largest(expected)
    )


@pytest.mark.parametrize("zeta", [0.0, 0.5])
@pytest.mark.parametrize("given", ["is_causal", "mask"])
def test_causal_eigenvalues_are_the_diagonal(zeta, given, monkeypatch):
    monkeypatch.setattr(blocks, "_BLOCK_NUMBERS", 1000)
    query, key = inputs(key_heads=1)
    causal = torch.ones(24, 24, dtype=torch.bool).tril()
    arguments = {"is_causal": True} if given == "is_causal" else {"mask": causal}
    arguments["enable_gqa"] = True
    expected = matrices(query, key, zeta, causal.expand(2, 3, 24, 24).numpy())
    found = eigenvalue_gap(query, key, zeta=zeta, **arguments)
    diagonal = np.sort(expected.diagonal(axis1=-2, axis2=-1), axis=-1)
    assert_identity(found.magnitude, torch.from_numpy(diagonal[..., -2].copy()))
    assert (found.residual == 0).all()
    compiled = eigenvalue_gap(query.float(), key.float(), zeta=zeta, **arguments).magnitude
    assert (compiled - found.magnitude).abs().max() <= SPECTRAL_FLOAT32_ERROR
    found = singular_gap(query, key, zeta=zeta, **arguments, **EXACT)
    assert_identity(found.magnitude, largest(expected))


@pytest.mark.parametrize("is_causal", [False, True])
def test_padding_is_deletion(is_causal, monkeypatch):
    monkeypatch.setattr(blocks, "_BLOCK_NUMBERS", 1000)  # six rows at a time
    query, key = inputs()
    present = torch.ones(2, 1, 1, 24, dtype=torch.bool)
    present[0, ..., :5] = False
    present[1, ..., 20:] = False
    found = [
        gap(query, key, mask=present, is_causal=is_causal, **EXACT).magnitude
        for gap in (eigenvalue_gap, singular_gap)
    ]
    for sample, kept in enumerate((slice(5, None), slice(0, 20))):
        alone = query[sample : sample + 1, :, kept], key[sample : sample + 1, :, kept]
        for padded, gap in zip(found, (eigenvalue_gap, singular_gap), strict=True):
            expected = gap(*alone, is_causal=is_causal, **EXACT).magnitude
            assert_identity(padded[sample : sample + 1], expected)


def test_uniform_attention_mixes_at_once():
    query = torch.zeros(1, 1, 30, 4)
    key = torch.randn(1, 1, 30, 4)
    for gap in (eigenvalue_gap, singular_gap):
        found = gap(query, key)
        assert found.converged.all()
        assert found.magnitude.max() <= SPECTRAL_FLOAT32_ERROR


def test_two_rooms_never_mix():
    query, key = inputs(batch=1, heads=1, queries=10)
    room = torch.arange(10) < 4
    found = eigenvalue_gap(query, key, mask=room == room[:, None], **EXACT)
    assert_identity(found.gap, torch.zeros(1, 1))


def test_theorem_3_3_holds_for_symmetric_doubly_stochastic_weights():
    """lambda_2^2 is the sum of squares along the major component; a circulant is normal too."""
    torch.manual_seed(1)
    raw = torch.rand(40, 40, dtype=torch.float64)
    weights = (raw + raw.T).exp()
    for _ in range(500):
        scale = weights.sum(dim=-1).rsqrt()
        weights = scale[:, None] * weights * scale
    eigen, singular = dense_spectral_gaps(weights)
    assert_identity(eigen.magnitude, singular.magnitude)
    first = torch.rand(15, dtype=torch.float64).softmax(-1)
    circulant = torch.stack([first.roll(shift) for shift in range(15)])
    eigen, singular = dense_spectral_gaps(circulant)
    assert_identity(eigen.magnitude, singular.magnitude)


def test_theorem_3_3_holds_for_attention_on_a_sphere():
    """Queries equal to keys on the corners of a cube: P is symmetric, through the streamed path."""
    corners = torch.tensor([[i >> b & 1 for b in range(5)] for i in range(32)]) * 2.0 - 1.0
    corners = corners.double()[None, None]
    eigen = eigenvalue_gap(corners, corners, **EXACT)
    assert_identity(eigen.magnitude, singular_gap(corners, corners, **EXACT).magnitude)
    # tanh of the score of one coordinate: P is a product of five 2 x 2 matrices
    assert_identity(eigen.magnitude, torch.tensor([[5**-0.5]], dtype=torch.float64).tanh())


def test_theorem_3_3_fails_for_other_weights():
    query, key = inputs(queries=40)
    eigen = eigenvalue_gap(query, key, **EXACT).magnitude
    singular = singular_gap(query, key, **EXACT).magnitude
    assert (singular > 1.2 * eigen).all()
    half = torch.zeros(40, 40, dtype=torch.float64)
    half[:20, 0] = half[20:, 1] = 1.0
    eigen_gap, singular_gap_ = dense_spectral_gaps(half)
    assert_identity(eigen_gap.magnitude, torch.zeros(()))
    assert_identity(singular_gap_.magnitude, torch.tensor(20.0).double().sqrt())


def test_rectangular_matrices_have_a_singular_gap_only():
    query, key = inputs(queries=9, keys=14)
    found = singular_gap(query, key, **EXACT)
    assert_identity(found.magnitude, largest_of_rectangular(matrices(query, key, 0.0)))
    with pytest.raises(ArgumentError, match="`query` must be as long as `key`"):
        eigenvalue_gap(query, key)


def largest_of_rectangular(matrix):
    result = np.zeros(matrix.shape[:2])
    for b, h in np.ndindex(*result.shape):
        result[b, h] = oracle.largest_centred_singular_value(matrix[b, h])
    return torch.from_numpy(result)


def test_rows_without_keys(monkeypatch):
    monkeypatch.setattr(blocks, "_BLOCK_NUMBERS", 40)
    query, key = inputs(batch=1, heads=1, queries=8, keys=12)
    mask = torch.ones(8, 12, dtype=torch.bool)
    mask[3] = False
    found = singular_gap(query, key, mask=mask, **EXACT)
    kept = [i for i in range(8) if i != 3]
    assert_identity(found.magnitude, singular_gap(query[:, :, kept], key, **EXACT).magnitude)
    mask = torch.ones(12, 12, dtype=torch.bool)
    mask[3] = False
    query, key = inputs(batch=1, heads=1, queries=12)
    for gap in (eigenvalue_gap, singular_gap):
        with pytest.raises(ArgumentError, match="got none for position 3 of sample 0, head 0"):
            gap(query, key, mask=mask)


def test_too_few_products_are_reported():
    query, key = inputs(batch=1, heads=1, queries=60)
    for gap in (eigenvalue_gap, singular_gap):
        found = gap(query, key, max_products=3, tolerance=SPECTRAL_TOLERANCE)
        assert not found.converged.any()
        assert (found.residual > SPECTRAL_TOLERANCE).all()


def test_equal_calls_give_equal_results():
    query, key = inputs(queries=50)
    first, again = (eigenvalue_gap(query.float(), key.float()) for _ in range(2))
    torch.rand(3)
    assert torch.equal(first.magnitude, again.magnitude)


@pytest.mark.parametrize("queries", [0, 1])
def test_without_two_positions_the_gap_is_one(queries):
    query, key = inputs(queries=queries)
    for gap in (eigenvalue_gap, singular_gap):
        assert_identity(gap(query, key).gap, torch.ones(2, 3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tolerance": 0.0}, "`tolerance` must be > 0"),
        ({"max_products": 0}, "`max_products` must be > 0"),
        ({"zeta": 1.5}, r"`zeta` must lie in \[0, 1\]"),
        ({"zeta": torch.rand(5)}, r"`zeta` must broadcast to \(batch, heads, queries\)"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    for gap in (eigenvalue_gap, singular_gap):
        with pytest.raises(ArgumentError, match=message):
            gap(*inputs(), **arguments)


@pytest.mark.parametrize("is_causal", [False, True])
def test_a_nan_stays_in_its_head(is_causal):
    query, key = inputs(batch=1, queries=20)
    query[0, 1, 3, 2] = torch.nan
    for gap in (eigenvalue_gap, singular_gap):
        found = gap(query, key, is_causal=is_causal)
        assert found.gap.isnan().tolist() == [[False, True, False]]
        assert found.converged.tolist() == [[True, False, True]]


def test_autocast_changes_nothing():
    query, key = inputs(queries=20)
    for gap in (eigenvalue_gap, singular_gap):
        outside = gap(query.float(), key.float()).magnitude
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(gap(query.float(), key.float()).magnitude, outside)
            assert torch.equal(gap(query=query.float(), key=key.float()).magnitude, outside)


def test_dense_weights_in_half_precision():
    for found in dense_spectral_gaps(torch.full((4, 4), 0.25, dtype=torch.bfloat16)):
        assert_identity(found.gap, torch.tensor(1.0))


def test_dense_weights_are_checked():
    with pytest.raises(ArgumentError, match="`weights` must be square, got 2 x 3"):
        dense_spectral_gaps(torch.full((2, 3), 1 / 3))
    with pytest.raises(ArgumentError, match="`weights` must have rows that sum to 1"):
        dense_spectral_gaps(torch.eye(3) * 2)
