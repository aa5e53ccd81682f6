"""Transposes of small matrices, a square of vectors at a time."""

from typing import Any

from llvmlite import ir
from numba import types

from gibbsian.numerics.cpu.jit import instruction
from gibbsian.numerics.cpu.simd import LANES

_FLOAT, _INT32, _INT64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)


@instruction
def transpose_square(
    typing_context: Any, source: Any, source_row: Any, target: Any, target_row: Any
) -> Any:
    """Writes `LANES` by `LANES` float32 transposed.

    Args:
        typing_context: numba's.
        source: address.
        source_row: distance of its rows, in elements.
        target: address; may not overlap.
        target_row: distance of its rows.
    """
    del typing_context, source, source_row, target, target_row

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del signature
        vector = ir.VectorType(_FLOAT, LANES)
        source, source_row, target, target_row = arguments

        def row(address: Any, step: Any, i: int) -> Any:
            base = builder.inttoptr(address, _FLOAT.as_pointer())
            place = builder.gep(base, [builder.mul(ir.Constant(_INT64, i), step)])
            return builder.bitcast(place, vector.as_pointer())

        rows = []
        for i in range(LANES):
            loaded = builder.load(row(source, source_row, i))
            loaded.align = 4
            rows.append(loaded)
        # Squares of 2, 4, 8 ... exchange their off-diagonal quarters.
        half = 1
        while half < LANES:
            for i in range(LANES):
                if i & half:
                    continue
                first, second = rows[i], rows[i + half]
                upper = [lane if not lane & half else LANES + lane - half for lane in range(LANES)]
                lower = [lane + half if not lane & half else LANES + lane for lane in range(LANES)]
                masks = (
                    ir.Constant(ir.VectorType(_INT32, LANES), lanes) for lanes in (upper, lower)
                )
                rows[i], rows[i + half] = (
                    builder.shuffle_vector(first, second, mask) for mask in masks
                )
            half *= 2
        for i in range(LANES):
            builder.store(rows[i], row(target, target_row, i)).align = 4
        return context.get_dummy_value()

    return types.void(*[types.intp] * 4), generate
