"""Many numbers of a row at a time, as one value of a compiled kernel: for loops that LLVM does not turn into vectors.

LLVM fits them to the machine, whatever the width of its registers. What a loop compares comes out as a mask, whose
bits are counted by one instruction where sums of ones would take one for every few numbers.

Here is also what memory is told beforehand (`foresee`): it foresees by itself one long run, but a pass takes short
runs from many sources in turn.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model


def _has_widest_registers() -> bool:
    """Whether this machine has 32 registers of 64 bytes; no where LLVM cannot tell."""
    try:
        return bool(binding.get_host_cpu_features().get("avx512f"))
    except RuntimeError:
        return False


LANES = 16
"""Numbers in one value: what the widest registers take of float32."""
WIDE = 8 if _has_widest_registers() else 4
"""Numbers of float64 in one value of `load_wide`: nine such sums and their factors fit this machine's registers."""
LINE = 64
"""Bytes that memory moves at a time."""

_INT32, _BYTES = ir.IntType(32), ir.IntType(8).as_pointer()


class Lanes(types.Type):
    """`LANES` numbers of a dtype, or another count of them."""

    def __init__(self, dtype: types.Type, count: int = LANES) -> None:
        self.dtype = dtype
        self.count = count
        super().__init__(name=f"Lanes({dtype}, {count})")


class Mask(types.Type):
    """What a comparison of `Lanes` says of each."""

    def __init__(self) -> None:
        super().__init__(name="Mask")


_MASK = Mask()


def _vector(dtype: types.Type, count: int = LANES) -> ir.VectorType:
    return ir.VectorType(ir.FloatType() if dtype == types.float32 else ir.DoubleType(), count)


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Lanes) -> None:
        super().__init__(manager, kind, _vector(kind.dtype, kind.count))


@register_model(Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Mask) -> None:
        super().__init__(manager, kind, ir.VectorType(ir.IntType(1), LANES))


def _of(name: str, numbers: Lanes) -> str:
    """What LLVM calls its function of a name for such numbers."""
    return f"llvm.{name}.v{numbers.count}f{numbers.dtype.bitwidth}"


def _function(builder: Any, name: str, result: ir.Type, arguments: Sequence[ir.Type]) -> Any:
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, arguments), name)


def _dtype(like: Any) -> Any:
    return like.dtype if isinstance(like, types.Array) else like


def _loaded(builder: Any, kind: ir.VectorType, width: int, address: Any, index: Any) -> Any:
    """A vector of that kind, numbers of `width` bits, from an index on of those at an address: anywhere on a line."""
    first = builder.gep(builder.inttoptr(address, kind.element.as_pointer()), [index])
    loaded = builder.load(builder.bitcast(first, kind.as_pointer()))
    loaded.align = width // 8
    return loaded


@intrinsic
def load(typing_context: Any, address: Any, index: Any, like: Any) -> Any:
    """The numbers from an index on of those at an address, in the dtype of `like`, an array or a number."""
    dtype = _dtype(like)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _loaded(builder, _vector(dtype), dtype.bitwidth, *arguments[:2])

    return Lanes(dtype)(types.intp, types.intp, like), generate


@intrinsic
def load_wide(typing_context: Any, address: Any, index: Any) -> Any:
    """`WIDE` numbers of float64, as `load`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _loaded(builder, _vector(types.float64, WIDE), types.float64.bitwidth, *arguments)

    return Lanes(types.float64, WIDE)(types.intp, types.intp), generate


@intrinsic
def widened(typing_context: Any, numbers: Any) -> Any:
    """The same numbers in float64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if numbers.dtype == types.float64:
            return arguments[0]
        return builder.fpext(arguments[0], _vector(types.float64, numbers.count))

    return Lanes(types.float64, numbers.count)(numbers), generate


@intrinsic
def number(typing_context: Any, address: Any, index: Any, like: Any) -> Any:
    """One of the numbers at an address, which are of the dtype of the number `like`.

    An array that is handed to a function is counted as held, on every call; an address is not.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = context.get_value_type(like)
        return builder.load(builder.gep(builder.inttoptr(arguments[0], kind.as_pointer()), [arguments[1]]))

    return like(types.intp, types.intp, like), generate


@intrinsic
def store(typing_context: Any, numbers: Any, address: Any, index: Any) -> Any:
    """Put numbers to where `load` would find them."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = _vector(numbers.dtype, numbers.count)
        first = builder.gep(builder.inttoptr(arguments[1], kind.element.as_pointer()), [arguments[2]])
        stored = builder.store(arguments[0], builder.bitcast(first, kind.as_pointer()))
        stored.align = numbers.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(numbers, types.intp, types.intp), generate


@intrinsic
def spread(typing_context: Any, number: Any) -> Any:
    """One number in every lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = _vector(number)
        none = ir.Constant(kind, ir.Undefined)
        first = builder.insert_element(none, arguments[0], _INT32(0))
        return builder.shuffle_vector(first, none, ir.Constant(ir.VectorType(_INT32, LANES), [0] * LANES))

    return Lanes(number)(number), generate


@intrinsic
def marked(typing_context: Any, address: Any, index: Any) -> Any:
    """Which of the bytes from an index on of those at an address are not 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.VectorType(ir.IntType(8), LANES)
        first = builder.gep(builder.inttoptr(arguments[0], _BYTES), [arguments[1]])
        loaded = builder.load(builder.bitcast(first, kind.as_pointer()))
        loaded.align = 1
        return builder.icmp_unsigned("!=", loaded, ir.Constant(kind, None))

    return _MASK(types.intp, types.intp), generate


@intrinsic
def where(typing_context: Any, mask: Any, numbers: Any, others: Any) -> Any:
    """The numbers that a mask marks, the others in the other lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(*arguments)

    return numbers(mask, numbers, others), generate


@intrinsic
def total(typing_context: Any, numbers: Any) -> Any:
    """The sum of all lanes, in any order."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = _vector(numbers.dtype, numbers.count)
        add = _function(builder, _of("vector.reduce.fadd", numbers), kind.element, [kind.element, kind])
        return builder.call(add, [ir.Constant(kind.element, -0.0), arguments[0]], fastmath=("reassoc",))

    return numbers.dtype(numbers), generate


@intrinsic
def add_product(typing_context: Any, numbers: Any, left: Any, right: Any) -> Any:
    """numbers + left right, rounded once where the machine can: for sums whose last bit is free."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = _vector(numbers.dtype, numbers.count)
        add = _function(builder, _of("fmuladd", numbers), kind, [kind] * 3)
        summed, one, other = arguments
        return builder.call(add, [one, other, summed])

    return numbers(numbers, left, right), generate


@intrinsic
def signed(typing_context: Any, sizes: Any, numbers: Any) -> Any:
    """The sizes with the signs of the numbers; that of 0 is its own."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = _vector(sizes.dtype, sizes.count)
        return builder.call(_function(builder, _of("copysign", sizes), kind, [kind, kind]), arguments)

    return sizes(sizes, numbers), generate


@intrinsic
def bits(typing_context: Any, mask: Any) -> Any:
    """A mask as a uint64, the first lane lowest."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.zext(builder.bitcast(arguments[0], ir.IntType(LANES)), ir.IntType(64))

    return types.uint64(mask), generate


@intrinsic
def ones(typing_context: Any, word: Any) -> Any:
    """How many bits of a uint64 are set."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


@intrinsic
def lowest_bit(typing_context: Any, word: Any) -> Any:
    """Number of the lowest bit that is set in a uint64 other than 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], context.get_constant(types.boolean, True))

    return types.int64(types.uint64), generate


@intrinsic
def foresee(typing_context: Any, address: Any) -> Any:
    """Have the line at an address, valid or not, brought into the second cache."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        prefetch = _function(builder, "llvm.prefetch.p0", ir.VoidType(), [_BYTES, _INT32, _INT32, _INT32])
        read, second_cache, data = _INT32(0), _INT32(2), _INT32(1)
        builder.call(prefetch, [builder.inttoptr(arguments[0], _BYTES), read, second_cache, data])
        return context.get_dummy_value()

    return types.void(types.intp), generate


@intrinsic
def size_of(typing_context: Any, like: Any) -> Any:
    """Bytes of a number."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.get_constant(types.intp, like.bitwidth // 8)

    return types.intp(like), generate


def _of_each(name: str) -> Any:
    @intrinsic
    def operation(typing_context: Any, numbers: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kind = _vector(numbers.dtype, numbers.count)
            return builder.call(_function(builder, _of(name, numbers), kind, [kind]), arguments)

        return numbers(numbers), generate

    return operation


root = _of_each("sqrt")
"""Square roots."""
_absolute = _of_each("fabs")


def by_library(name: str) -> Any:
    """A function of the C library, called for one number after the other; of float64."""

    @intrinsic
    def function(typing_context: Any, numbers: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            called = _function(builder, name, ir.DoubleType(), [ir.DoubleType()])
            result = ir.Constant(_vector(types.float64), ir.Undefined)
            for lane in range(LANES):
                value = builder.call(called, [builder.extract_element(arguments[0], _INT32(lane))])
                result = builder.insert_element(result, value, _INT32(lane))
            return result

        return numbers(numbers), generate

    return function


@intrinsic
def power_of_two(typing_context: Any, numbers: Any) -> Any:
    """2 to the power of whole numbers n from -126 to 127, in float32.

    They come as 1.5 * 2^23 + 127 + n, whose lowest bits are the exponent.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        whole = ir.VectorType(_INT32, LANES)
        exponent = builder.shl(builder.bitcast(arguments[0], whole), ir.Constant(whole, [23] * LANES))
        return builder.bitcast(exponent, _vector(numbers.dtype))

    return numbers(numbers), generate


def _arithmetic(instruction: str) -> Any:
    @intrinsic
    def operation(typing_context: Any, left: Any, right: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, instruction)(*arguments)

        return left(left, right), generate

    return operation


def _comparison(sign: str) -> Any:
    @intrinsic
    def operation(typing_context: Any, left: Any, right: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.fcmp_ordered(sign, *arguments)

        return _MASK(left, right), generate

    return operation


def _offer(python_operator: Callable[..., Any], operation: Any, of: type[types.Type] = Lanes) -> None:
    """Let kernels write an operation as Python does."""

    @overload(python_operator)
    def choose(left, right):  # type: ignore[no-untyped-def]
        if isinstance(left, of) and left == right:
            return lambda left, right: operation(left, right)
        return None


for _operator, _operation in (
    (operator.add, _arithmetic("fadd")),
    (operator.sub, _arithmetic("fsub")),
    (operator.mul, _arithmetic("fmul")),
    (operator.truediv, _arithmetic("fdiv")),
    (operator.ge, _comparison(">=")),
    (operator.gt, _comparison(">")),
):
    _offer(_operator, _operation)
_offer(operator.and_, _arithmetic("and_"), Mask)
_offer(operator.or_, _arithmetic("or_"), Mask)


@overload(abs)
def _choose_abs(numbers):  # type: ignore[no-untyped-def]
    return (lambda numbers: _absolute(numbers)) if isinstance(numbers, Lanes) else None
