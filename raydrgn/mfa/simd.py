"""SIMD operations: eight neighbouring numbers of arrays at a time, in functions compiled by numba.

The compiler takes several numbers at a time only in loops far longer than those over the features
of a grid point; these operations do it always.
"""

from collections.abc import Callable
from typing import Any, no_type_check

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

SIMD_WIDTH = 8
_VECTOR = ir.VectorType(ir.FloatType(), SIMD_WIDTH)
_FAST = ("fast",)

Typed = tuple[Any, Callable[..., Any]]
"""The signature of an operation, and the function that generates its code."""


@intrinsic
@no_type_check  # numba has types of its own
def mix(_typing: Any, out: Any, at: Any, grid: Any, starts: Any, weights: Any) -> Typed:
    """Set ``out[at : at + 8]`` to the sum of ``weight·grid[start : start + 8]``.

    Args:
        out: Flat, float32.
        at: Where in it.
        grid: Flat, float32.
        starts: Eight places in the grid.
        weights: As many, float32.
    """
    places, factors = types.UniTuple(types.intp, 8), types.UniTuple(types.float32, 8)
    signature = types.void(out, types.intp, grid, places, factors)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, at, grid, starts, weights = args
        total = None
        for start, weight in zip(
            cgutils.unpack_tuple(builder, starts),
            cgutils.unpack_tuple(builder, weights),
            strict=True,
        ):
            place = _place(context, builder, signature.args[2], grid, start)
            part = builder.fmul(
                builder.load(place, align=4), _repeated(builder, weight), flags=_FAST
            )
            total = part if total is None else builder.fadd(total, part, flags=_FAST)
        target = _place(context, builder, signature.args[0], out, at)
        builder.store(total, target, align=4)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
@no_type_check  # numba has types of its own
def add(_typing: Any, target: Any, at: Any, source: Any, start: Any, weight: Any) -> Typed:
    """Add ``weight·source[start : start + 8]`` to ``target[at : at + 8]``, both flat float32."""
    signature = types.void(target, types.intp, source, types.intp, types.float32)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        target, at, source, start, weight = args
        to = _place(context, builder, signature.args[0], target, at)
        part = builder.load(_place(context, builder, signature.args[2], source, start), align=4)
        part = builder.fmul(part, _repeated(builder, weight), flags=_FAST)
        builder.store(builder.fadd(builder.load(to, align=4), part, flags=_FAST), to, align=4)
        return context.get_dummy_value()

    return signature, generate


@no_type_check  # numba has types of its own
def _place(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """Return the address of eight numbers of an array."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


@no_type_check  # numba has types of its own
def _repeated(builder: Any, number: Any) -> Any:
    """Return eight times the same number."""
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    one = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
    first = ir.Constant(ir.VectorType(ir.IntType(32), SIMD_WIDTH), [0] * SIMD_WIDTH)
    return builder.shuffle_vector(one, undefined, first)
