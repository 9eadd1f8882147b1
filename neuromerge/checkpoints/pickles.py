"""Reading a pickle as data: what it would build is noted down, and nothing is imported, called or built.

A pickle is a program for a stack machine whose opcodes may name any function and call it. Here the machine is
ours, and it has no way to reach a function: a name becomes a `Global`, a call becomes a `Call` that keeps its
arguments. Only the few functions by which PyTorch writes tensors and ordered dicts are understood, as patterns
of arguments, and they become `TensorRef`s and dicts. So a hostile file can at most be refused.

`pickletools.genops` of the standard library splits the bytes into opcodes; it runs nothing either.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

import torch

from neuromerge.checkpoints.filetypes import MOST_TENSORS
from neuromerge.checkpoints.text import shown

_MAX_OPCODES = 10_000_000  # a training state of a thousand tensors has some hundred thousand
_MAX_AXES = 32
_MAX_SIZE = 2**62


class PickleError(Exception):
    """What is wrong with a pickle, in words that finish "the file ...". Caught where the file's name is known."""


@dataclass(frozen=True, slots=True)
class Global:
    """The name of a class or function. It is never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(slots=True, eq=False, repr=False)
class Call:
    """What calling or building something would have given: the parts that the pickle handed over.

    `state` is what `__setstate__` or the instance dict would have got, `items` what was appended or set.
    """

    function: Any
    arguments: tuple[Any, ...] = ()
    state: Any = None
    items: list[Any] = field(default_factory=list)

    def __str__(self) -> str:
        return str(self.function) if isinstance(self.function, Global) else "a computed object"

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The instance dict, {} where there is none."""
        state = self.state[0] if isinstance(self.state, tuple) and self.state else self.state
        return state if isinstance(state, dict) else {}


@dataclass(frozen=True, slots=True, eq=False)
class StorageRef:
    """Numbers somewhere in the file: `key` names them, `numel` counts entries of `dtype`, from entry `start`."""

    key: str
    dtype: torch.dtype
    numel: int
    start: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class TensorRef:
    """A tensor over a storage: `offset` and `stride` count entries."""

    storage: StorageRef
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class OddTensor:
    """A tensor of a kind that is not merged; `kind` says which, in words."""

    kind: str


_STORAGE_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}
_DTYPES = {
    str(dtype): dtype
    for dtype in (
        *_STORAGE_DTYPES.values(),
        *(torch.uint16, torch.uint32, torch.uint64),
        *(torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz),
    )
}
_DICTS = {"collections.OrderedDict", "collections.defaultdict", "collections.Counter", "builtins.dict"}
_DICTS |= {"__builtin__.dict"}
_LISTS = {
    f"{module}.{kind}" for module in ("builtins", "__builtin__") for kind in ("list", "tuple", "set", "frozenset")
}
_NEW_OBJECT = {"copyreg.__newobj__", "copy_reg.__newobj__", "copyreg._reconstructor", "copy_reg._reconstructor"}
_ODD = {
    "torch._utils._rebuild_sparse_tensor": "sparse",
    "torch._utils._rebuild_sparse_csr_tensor": "sparse",
    "torch._utils._rebuild_nested_tensor": "nested",
    "torch._utils._rebuild_qtensor": "quantised",
    "torch._utils._rebuild_meta_tensor_no_storage": "on the meta device, without values",
    "torch._utils._rebuild_wrapper_subclass": "of a class of its own",
    "torch._utils._rebuild_device_tensor_from_numpy": "of another device",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": "of another device",
}


def _tensor(storage: Any, dtype: torch.dtype | None, offset: Any, shape: Any, stride: Any) -> TensorRef | OddTensor:
    """A tensor, its place inside the storage checked."""
    if isinstance(storage, Call) and str(storage) == "torch.storage._load_from_bytes":
        return OddTensor("of pickle.dump (use torch.save, or better safetensors)")
    sizes = _sizes(shape)
    steps = _sizes(stride)
    if not isinstance(storage, StorageRef) or sizes is None or steps is None or len(sizes) != len(steps):
        raise PickleError("describes a tensor that is none")
    if not isinstance(offset, int) or isinstance(offset, bool) or not 0 <= offset < _MAX_SIZE:
        raise PickleError("describes a tensor that is none")
    kind = dtype or storage.dtype
    held = storage.numel * storage.dtype.itemsize // kind.itemsize
    count, last = 1, offset
    for size, step in zip(sizes, steps, strict=True):
        count *= size
        last += max(size - 1, 0) * step
    if count and (count > held or last >= held):
        raise PickleError(f"holds a tensor that claims shape {shown(sizes)}, more than the file holds")
    return TensorRef(storage, kind, offset, sizes, steps)


def _sizes(value: Any) -> tuple[int, ...] | None:
    if not isinstance(value, (tuple, list)) or len(value) > _MAX_AXES:
        return None
    if not all(isinstance(size, int) and not isinstance(size, bool) and 0 <= size < _MAX_SIZE for size in value):
        return None
    return tuple(value)


def _rebuilt_v3(storage: Any, offset: Any, shape: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *_: Any) -> Any:
    if not isinstance(dtype, Global) or str(dtype) not in _DTYPES:
        return OddTensor(f"of the type {dtype}")
    return _tensor(storage, _DTYPES[str(dtype)], offset, shape, stride)


def _rebuilt_from_type(function: Any, kind: Any, arguments: Any, *_: Any) -> Any:
    return _call(function, arguments) if isinstance(arguments, tuple) else OddTensor("of a class of its own")


def _first(value: Any, *_: Any) -> Any:
    return value


# What PyTorch's functions would give, from their arguments.
_REBUILDERS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": lambda storage, offset, shape, stride: _tensor(
        storage, None, offset, shape, stride
    ),
    "torch._utils._rebuild_tensor_v2": lambda storage, offset, shape, stride, *_: _tensor(
        storage, None, offset, shape, stride
    ),
    "torch._utils._rebuild_tensor_v3": _rebuilt_v3,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch.nn.parameter.Parameter": _first,
    "torch._tensor._rebuild_from_type_v2": _rebuilt_from_type,
    "torch._tensor._rebuild_from_type": _rebuilt_from_type,
    "torch.Size": lambda sizes=(): tuple(sizes) if isinstance(sizes, (tuple, list)) else (),
    # TorchScript's typed lists and dicts.
    "torch.jit._pickle.build_intlist": _first,
    "torch.jit._pickle.build_tensorlist": _first,
    "torch.jit._pickle.build_doublelist": _first,
    "torch.jit._pickle.build_boollist": _first,
    "torch.jit._pickle.restore_type_tag": _first,
}


def _call(function: Any, arguments: tuple[Any, ...]) -> Any:
    """What a call gives: a tensor or a dict where the function is one of PyTorch's, else a `Call`."""
    if not isinstance(function, Global):
        return Call(function, arguments)
    name = str(function)
    if name in _DICTS:
        return _as_dict(arguments)
    if name in _LISTS:
        return list(arguments[0]) if arguments and isinstance(arguments[0], (list, tuple)) else []
    if name in _ODD:
        return OddTensor(_ODD[name])
    if name in _NEW_OBJECT and arguments:
        return _new(arguments[0], ())
    rebuild = _REBUILDERS.get(name)
    if rebuild is None:
        return Call(function, arguments)
    try:
        return rebuild(*arguments)
    except TypeError:
        raise PickleError(f"describes a tensor in a way that is not understood ({shown(name)})") from None


def _new(kind: Any, arguments: tuple[Any, ...]) -> Any:
    """A new object of a class: dicts are dicts, whatever they are called."""
    return {} if isinstance(kind, Global) and str(kind) in _DICTS else Call(kind, arguments)


def _as_dict(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    """What `OrderedDict(arguments)` holds: a mapping, or pairs (old PyTorch wrote lists of them)."""
    made: dict[Any, Any] = {}
    for given in arguments:
        if isinstance(given, dict):
            made.update(given)
        elif isinstance(given, list):
            for pair in given:
                if isinstance(pair, (list, tuple)) and len(pair) == 2:
                    _set(made, pair[0], pair[1])
    return made


def storage_of(identity: Any) -> Any:
    """What one of PyTorch's persistent identities stands for: a storage, or the class of a module.

    ``("storage", type, key, device, numel)``, in the old format with a view ``(key, start, numel)`` at the end;
    there a class comes with its source text as ``("module", class, file, source)``.
    """
    if not isinstance(identity, tuple) or not identity:
        raise PickleError("names tensors in a way that is not understood")
    if identity[0] == "module" and len(identity) >= 2:
        return identity[1]
    if identity[0] != "storage" or len(identity) not in (5, 6):
        raise PickleError("names tensors in a way that is not understood")
    kind, key, numel = identity[1], identity[2], identity[4]
    dtype = _STORAGE_DTYPES.get(kind.name.rpartition(".")[2]) if isinstance(kind, Global) else None
    if dtype is None and isinstance(kind, Global) and kind.name in ("QInt8Storage", "QUInt8Storage", "QInt32Storage"):
        raise PickleError("holds quantised weights, which cannot be merged: use the unquantised checkpoint")
    if dtype is None or not isinstance(key, str) or not _is_count(numel):
        raise PickleError("names tensors in a way that is not understood")
    view = identity[5] if len(identity) == 6 else None
    if view is None:
        return StorageRef(key, dtype, numel)
    if not isinstance(view, tuple) or len(view) != 3 or not _is_count(view[1]) or not _is_count(view[2]):
        raise PickleError("names tensors in a way that is not understood")
    if view[1] + view[2] > numel:
        raise PickleError("holds a storage that reaches beyond the file")
    return StorageRef(key, dtype, view[2], view[1])


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_SIZE


# Opcodes whose argument is the value.
_VALUES = frozenset(
    [
        "INT",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG",
        "LONG1",
        "LONG4",
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
        "BYTEARRAY8",
        "UNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE",
        "BINUNICODE8",
        "FLOAT",
        "BINFLOAT",
    ]
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_PLAIN_KEYS = (str, int, float, bytes, bool, type(None))
_MARK = object()


def _set(target: dict[Any, Any], key: Any, value: Any) -> None:
    """Keep an entry whose key is a plain value; others (tuples, objects) name no weights."""
    if isinstance(key, _PLAIN_KEYS):
        target[key] = value


class _Machine:
    """The stack, the memo, and one method an opcode."""

    def __init__(self, persistent: Callable[[Any], Any]):
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self._tensors = 0
        self._persistent = persistent

    def run(self, file: IO[bytes]) -> Any:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count > _MAX_OPCODES:
                raise PickleError("is too long a pickle to be a checkpoint")
            name = opcode.name
            if name in _VALUES:
                self.stack.append(argument)
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name])
            elif name == "STOP":
                return self.stack.pop()
            else:
                step = getattr(self, "do_" + name.lower(), None)
                if step is None:
                    raise PickleError(f"uses the pickle opcode {name}, which no checkpoint needs")
                step(argument)
        raise PickleError("ends early")

    def _since_mark(self) -> list[Any]:
        """The values above the last mark, taken off together with it."""
        for place in range(len(self.stack) - 1, -1, -1):
            if self.stack[place] is _MARK:
                values = self.stack[place + 1 :]
                del self.stack[place:]
                return values
        raise PickleError("is damaged")

    def do_proto(self, argument: Any) -> None: ...

    def do_frame(self, argument: Any) -> None: ...

    def do_mark(self, argument: Any) -> None:
        self.stack.append(_MARK)

    def do_pop(self, argument: Any) -> None:
        self.stack.pop()

    def do_pop_mark(self, argument: Any) -> None:
        self._since_mark()

    def do_dup(self, argument: Any) -> None:
        self.stack.append(self.stack[-1])

    def do_empty_list(self, argument: Any) -> None:
        self.stack.append([])

    do_empty_set = do_empty_list

    def do_empty_dict(self, argument: Any) -> None:
        self.stack.append({})

    def do_empty_tuple(self, argument: Any) -> None:
        self.stack.append(())

    def do_tuple1(self, argument: Any) -> None:
        self.stack[-1:] = [(self.stack[-1],)]

    def do_tuple2(self, argument: Any) -> None:
        self.stack[-2:] = [(self.stack[-2], self.stack[-1])]

    def do_tuple3(self, argument: Any) -> None:
        self.stack[-3:] = [(self.stack[-3], self.stack[-2], self.stack[-1])]

    def do_tuple(self, argument: Any) -> None:
        self.stack.append(tuple(self._since_mark()))

    def do_list(self, argument: Any) -> None:
        self.stack.append(self._since_mark())

    do_frozenset = do_list

    def do_dict(self, argument: Any) -> None:
        values = self._since_mark()
        self.stack.append({})
        self._set_pairs(self.stack[-1], values)

    def do_append(self, argument: Any) -> None:
        value = self.stack.pop()
        self._extend(self.stack[-1], [value])

    def do_appends(self, argument: Any) -> None:
        values = self._since_mark()
        self._extend(self.stack[-1], values)

    do_additems = do_appends

    def do_setitem(self, argument: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_pairs(self.stack[-1], [key, value])

    def do_setitems(self, argument: Any) -> None:
        values = self._since_mark()
        self._set_pairs(self.stack[-1], values)

    def _extend(self, target: Any, values: list[Any]) -> None:
        into = target.items if isinstance(target, Call) else target
        if not isinstance(into, list):
            raise PickleError("is damaged")
        into.extend(values)

    def _set_pairs(self, target: Any, values: list[Any]) -> None:
        if len(values) % 2 or not isinstance(target, (dict, Call)):
            raise PickleError("is damaged")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if isinstance(target, Call):
                target.items.append((key, value))
            else:
                _set(target, key, value)

    def do_get(self, argument: Any) -> None:
        if argument not in self.memo:
            raise PickleError("is damaged")
        self.stack.append(self.memo[argument])

    do_binget = do_long_binget = do_get

    def do_put(self, argument: Any) -> None:
        self.memo[argument] = self.stack[-1]

    do_binput = do_long_binput = do_put

    def do_memoize(self, argument: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def do_global(self, argument: Any) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(Global(module, name))

    def do_stack_global(self, argument: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise PickleError("is damaged")
        self.stack.append(Global(module, name))

    def do_reduce(self, argument: Any) -> None:
        arguments, function = self._arguments(self.stack.pop()), self.stack.pop()
        made = _call(function, arguments)
        if isinstance(made, TensorRef):
            self._tensors += 1
            if self._tensors > MOST_TENSORS:
                raise PickleError(f"holds more than {MOST_TENSORS:,} tensors. Save the weights of one model only")
        self.stack.append(made)

    def do_newobj(self, argument: Any) -> None:
        arguments, kind = self._arguments(self.stack.pop()), self.stack.pop()
        self.stack.append(_new(kind, arguments))

    def do_newobj_ex(self, argument: Any) -> None:
        keywords = self.stack.pop()
        arguments, kind = self._arguments(self.stack.pop()), self.stack.pop()
        self.stack.append(_new(kind, (*arguments, keywords)))

    def do_inst(self, argument: Any) -> None:
        values = self._since_mark()
        module, _, name = argument.partition(" ")
        self.stack.append(_new(Global(module, name), tuple(values)))

    def do_obj(self, argument: Any) -> None:
        values = self._since_mark()
        if not values:
            raise PickleError("is damaged")
        self.stack.append(_new(values[0], tuple(values[1:])))

    def do_build(self, argument: Any) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Call):
            target.state = state

    def do_binpersid(self, argument: Any) -> None:
        self.stack.append(self._persistent(self.stack.pop()))

    def _arguments(self, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, tuple):
            raise PickleError("is damaged")
        return value


def read_pickle(file: IO[bytes], persistent: Callable[[Any], Any] = storage_of) -> Any:
    """What the pickle at the file's position describes; the position is left behind it. Nothing in it runs.

    Args:
        file: anything with `read`, `readline` and `tell`; a mapped file does.
        persistent: what a persistent identity stands for.

    Raises:
        PickleError: damaged, or written in a way that no checkpoint needs.
    """
    try:
        return _Machine(persistent).run(file)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError, RecursionError) as error:
        raise PickleError(f"is damaged ({shown(str(error) or type(error).__name__)})") from None
