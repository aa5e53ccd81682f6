r"""Vector instructions for numba kernels, written as LLVM IR.

LLVM vectorises plain loops over arrays by itself. What it cannot do is hold a tile of a matrix
product in registers, so that tile is spelled out here; besides it a few instructions that Python
has no name for. LLVM compiles them for the machine at hand, whatever its vectors: `LANES` only
sets the shape that fits best.

Addresses are plain integers in bytes, `array.ctypes.data`; strides are in elements.
"""

from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils

from gibbsian.numerics.cpu.jit import instruction

_FEATURES = binding.get_host_cpu_features()

LANES = 16 if _FEATURES.get("avx512f") else 8 if _FEATURES.get("avx2") else 4
"""float32 numbers in a vector register."""

TILE_ROWS = 4
"""Rows of a register tile."""

TILE_VECTORS = 2 if LANES == 8 else 4
"""Vectors in a row of a register tile: with 16 registers (AVX2) 4 by 2 fit, with 32, 4 by 4."""

PANEL = LANES * TILE_VECTORS
"""Columns of a register tile."""

KEY_BLOCK = 64
"""Keys are handled in blocks of this many, one bit of a 64-bit word each; a multiple of PANEL."""

_FLOAT, _INT32, _INT64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)


@instruction
def float_bits(typing_context: Any, x: Any) -> Any:
    """The float32 `x` read as an int32."""
    del typing_context, x

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        return builder.bitcast(arguments[0], _INT32)

    return types.int32(types.float32), generate


@instruction
def bits_float(typing_context: Any, x: Any) -> Any:
    """The int32 `x` read as a float32."""
    del typing_context, x

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        return builder.bitcast(arguments[0], _FLOAT)

    return types.float32(types.int32), generate


@instruction
def maximum(typing_context: Any, x: Any, y: Any) -> Any:
    """The larger of two float32, NaN if either is: the form of it that LLVM vectorises."""
    del typing_context, x, y

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        kind = ir.FunctionType(_FLOAT, [_FLOAT, _FLOAT])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.maximum.f32")
        return builder.call(function, arguments)

    return types.float32(types.float32, types.float32), generate


@instruction
def prefetch(typing_context: Any, address: Any) -> Any:
    """Asks for the cache line at `address`, to be read soon; goes on at once."""
    del typing_context, address

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del signature
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, _INT32, _INT32, _INT32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        # to read, into the first-level cache, data
        options = (ir.Constant(_INT32, number) for number in (0, 3, 1))
        builder.call(function, [builder.inttoptr(arguments[0], byte), *options])
        return context.get_dummy_value()

    return types.void(types.intp), generate


@instruction
def trailing_zeros(typing_context: Any, word: Any) -> Any:
    """Position of the lowest bit set in a 64-bit word other than 0."""
    del typing_context, word

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@instruction
def greater_bits(typing_context: Any, address: Any, threshold: Any) -> Any:
    """Bit j tells whether the j-th of the `KEY_BLOCK` float32 at `address` exceeds `threshold`."""
    del typing_context, address, threshold

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        vector = ir.VectorType(_FLOAT, KEY_BLOCK)
        values = builder.load(builder.inttoptr(arguments[0], vector.as_pointer()))
        values.align = 4
        limit = _broadcast(builder, arguments[1], KEY_BLOCK)
        return builder.bitcast(builder.fcmp_ordered(">", values, limit), _INT64)

    return types.uint64(types.intp, types.float32), generate


def register_tile(vectors: int) -> Any:
    r"""A matrix product held in registers, `TILE_ROWS` by `vectors * LANES` of it.

    Returns:
        An intrinsic `tile(a, a_row, a_depth, b, b_depth, c, c_row, depth, accumulate)`:

        $$C_{ij} \leftarrow [\text{accumulate}]\, C_{ij}
          + \sum_{k < \text{depth}} A_{ik} B_{kj},$$

        with a, b, c addresses of float32, `a_row` and `a_depth` the distances of rows and of
        summands in A (either may be 1: A is read plain or transposed), `b_depth` that of the rows
        of B, `c_row` that of C. Columns of B and C are contiguous; depth >= 1.
    """
    arguments_type = [types.intp] * 9

    @instruction
    def tile(
        typing_context: Any,
        a: Any,
        a_row: Any,
        a_depth: Any,
        b: Any,
        b_depth: Any,
        c: Any,
        c_row: Any,
        depth: Any,
        accumulate: Any,
    ) -> Any:
        del typing_context, a, a_row, a_depth, b, b_depth, c, c_row, depth, accumulate

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            del signature
            _emit_tile(builder, vectors, *arguments)
            return context.get_dummy_value()

        return types.void(*arguments_type), generate

    return tile


def _emit_tile(
    builder: Any,
    vectors: int,
    a: Any,
    a_row: Any,
    a_depth: Any,
    b: Any,
    b_depth: Any,
    c: Any,
    c_row: Any,
    depth: Any,
    accumulate: Any,
) -> None:
    vector = ir.VectorType(_FLOAT, LANES)
    fma = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{LANES}f32"
    )
    a, b, c = (builder.inttoptr(address, _FLOAT.as_pointer()) for address in (a, b, c))

    def at(base: Any, offset: Any) -> Any:
        return builder.bitcast(builder.gep(base, [offset]), vector.as_pointer())

    def load(base: Any, offset: Any) -> Any:
        value = builder.load(at(base, offset))
        value.align = 4
        return value

    def integer(value: int) -> Any:
        return ir.Constant(_INT64, value)

    cells = [(i, v) for i in range(TILE_ROWS) for v in range(vectors)]
    results = [builder.add(builder.mul(integer(i), c_row), integer(v * LANES)) for i, v in cells]
    start = builder.block
    old, ready, loop, end = (
        builder.append_basic_block(name) for name in ("old", "ready", "loop", "end")
    )
    builder.cbranch(builder.icmp_signed("!=", accumulate, integer(0)), old, ready)
    builder.position_at_end(old)
    loaded = [load(c, offset) for offset in results]
    builder.branch(ready)
    builder.position_at_end(ready)
    initial = []
    for value in loaded:
        phi = builder.phi(vector)
        phi.add_incoming(ir.Constant(vector, [0.0] * LANES), start)
        phi.add_incoming(value, old)
        initial.append(phi)
    builder.branch(loop)
    builder.position_at_end(loop)
    k = builder.phi(_INT64)
    k.add_incoming(integer(0), ready)
    sums = []
    for value in initial:
        phi = builder.phi(vector)
        phi.add_incoming(value, ready)
        sums.append(phi)
    b_start = builder.mul(k, b_depth)
    columns = [load(b, builder.add(b_start, integer(v * LANES))) for v in range(vectors)]
    a_start = builder.mul(k, a_depth)
    rows = [
        _broadcast(
            builder,
            builder.load(builder.gep(a, [builder.add(a_start, builder.mul(integer(i), a_row))])),
            LANES,
        )
        for i in range(TILE_ROWS)
    ]
    updated = [
        builder.call(fma, [rows[i], columns[v], total])
        for (i, v), total in zip(cells, sums, strict=True)
    ]
    for phi, value in zip(sums, updated, strict=True):
        phi.add_incoming(value, loop)
    following = builder.add(k, integer(1))
    k.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", following, depth), loop, end)
    builder.position_at_end(end)
    for value, offset in zip(updated, results, strict=True):
        builder.store(value, at(c, offset)).align = 4


def _broadcast(builder: Any, scalar: Any, lanes: int) -> Any:
    undefined = ir.Constant(ir.VectorType(_FLOAT, lanes), ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(_INT32, 0))
    zeros = ir.Constant(ir.VectorType(_INT32, lanes), [0] * lanes)
    return builder.shuffle_vector(first, undefined, zeros)
