"""What Numba's loops need of LLVM directly."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_LINE = 64  # bytes of a cache line


@intrinsic
def float_of_bits(typing_context, bits):
    """The float32 that has the bits of an int32."""

    def generate(context, builder, signature, given):
        return builder.bitcast(given[0], ir.FloatType())

    return types.float32(types.int32), generate


@intrinsic
def floats_on_stack(typing_context, count):
    """A pointer to a constant number of float32 on the stack.

    Nothing else can point to them, which LLVM knows: it then needs no checks before it makes
    vectors of a loop.
    """
    if not isinstance(count, types.IntegerLiteral):
        return None

    def generate(context, builder, signature, given):
        size = ir.Constant(ir.IntType(64), count.literal_value)
        pointer = cgutils.alloca_once(builder, ir.FloatType(), size=size)
        pointer.align = _LINE
        return pointer

    return types.CPointer(types.float32)(count), generate
