r"""Products of one query with the codes of `KEY_BLOCK` keys, held in registers.

A plain loop over the codes would keep its sums in memory: LLVM vectorises it, but does not see that
they could stay in registers over all channels.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from gibbsian.numerics.cpu.jit import instruction
from gibbsian.numerics.cpu.simd import KEY_BLOCK

_FLOAT, _INT16, _INT32, _INT64 = ir.FloatType(), ir.IntType(16), ir.IntType(32), ir.IntType(64)


@instruction
def code_products(typing_context: Any, codes: Any, query: Any, count: Any, sums: Any) -> Any:
    """Writes `KEY_BLOCK` sums over k < count of query[k] * codes[k, j], float32, to `sums`.

    Args:
        typing_context: numba's.
        codes: address of int16, channel by channel.
        query: address of float32.
        count: of channels, >= 1.
        sums: address of float32.
    """
    del typing_context, codes, query, count, sums

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del signature
        _emit(builder, *arguments)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 4), generate


def _emit(builder: Any, codes: Any, query: Any, count: Any, sums: Any) -> None:
    floats = ir.VectorType(_FLOAT, KEY_BLOCK)
    shorts = ir.VectorType(_INT16, KEY_BLOCK)
    kind = ir.FunctionType(floats, [floats] * 3)
    fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{KEY_BLOCK}f32")
    codes = builder.inttoptr(codes, shorts.as_pointer())
    query = builder.inttoptr(query, _FLOAT.as_pointer())
    start, loop, end = (
        builder.block,
        builder.append_basic_block("channels"),
        builder.append_basic_block("stored"),
    )
    builder.branch(loop)
    builder.position_at_end(loop)
    k = builder.phi(_INT64)
    total = builder.phi(floats)
    code = builder.load(builder.gep(codes, [k]))
    code.align = 2
    numbers = builder.sitofp(builder.sext(code, ir.VectorType(_INT32, KEY_BLOCK)), floats)
    undefined = ir.Constant(floats, ir.Undefined)
    first = builder.insert_element(
        undefined, builder.load(builder.gep(query, [k])), ir.Constant(_INT32, 0)
    )
    zeros = ir.Constant(ir.VectorType(_INT32, KEY_BLOCK), [0] * KEY_BLOCK)
    factor = builder.shuffle_vector(first, undefined, zeros)
    updated = builder.call(fma, [factor, numbers, total])
    following = builder.add(k, ir.Constant(_INT64, 1))
    k.add_incoming(ir.Constant(_INT64, 0), start)
    k.add_incoming(following, loop)
    total.add_incoming(ir.Constant(floats, [0.0] * KEY_BLOCK), start)
    total.add_incoming(updated, loop)
    builder.cbranch(builder.icmp_signed("<", following, count), loop, end)
    builder.position_at_end(end)
    builder.store(updated, builder.inttoptr(sums, floats.as_pointer())).align = 4
