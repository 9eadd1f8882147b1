"""PyTorch files of every kind are read as data: what they hold is found, and nothing in them runs."""

from __future__ import annotations

import argparse
import collections
import io
import json
import pathlib
import pickle
import subprocess
import sys
import types
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from neuromerge.checkpoints import load_checkpoint
from neuromerge.checkpoints.pickles import PickleError, read_pickle
from neuromerge.errors import CheckpointError, LimitError, NeuroMergeError
from tests.checkpoints import models

State = dict[str, torch.Tensor]
FORMATS = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])


@pytest.fixture(scope="module")
def clip() -> torch.nn.Module:
    return models.open_clip_model()


@pytest.fixture(scope="module")
def state(clip: torch.nn.Module) -> State:
    return dict(clip.state_dict())


def saved(content: Any, path: Path, legacy: bool = False, **options: Any) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy, **options)
    return path


def assert_state(source: Any, expected: State, **options: Any) -> None:
    found = load_checkpoint(source, **options).state_dict()
    assert set(found) == set(expected)
    for key, value in expected.items():
        assert found[key].dtype == value.dtype
        assert torch.equal(found[key], value), key


# ------------------------------------------------------------------------------------------- what people save


@FORMATS
class TestContents:
    def test_tensors_of_every_kind(self, legacy: bool, tmp_path: Path) -> None:
        whole = torch.randn(6, 4)
        tensors = {
            "whole": whole,
            "transposed": whole.T,
            "slice": whole[2:4, 1:],
            "strided": whole[::2],
            "row": whole[3],
            "empty": torch.empty(0, 3),
            "scalar": torch.tensor(2.5),
            "parameter": torch.nn.Parameter(torch.ones(2)).detach(),
            "expanded": torch.arange(4.0).expand(1, 4),
        }
        dtypes = (torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.uint8, torch.int16, torch.int32)
        tensors |= {str(dtype): torch.arange(5).to(dtype) for dtype in (*dtypes, torch.int64, torch.bool)}
        assert_state(saved(tensors, tmp_path / "w.pt", legacy), tensors)
        wrapped = {key: torch.nn.Parameter(value, requires_grad=False) for key, value in tensors.items()}
        assert_state(saved(wrapped, tmp_path / "w.pt", legacy), tensors)
        for protocol in (2, 3, 4, 5):
            assert_state(saved(tensors, tmp_path / "w.pt", legacy, pickle_protocol=protocol), tensors)

    def test_a_pickled_module(self, legacy: bool, clip: torch.nn.Module, state: State, tmp_path: Path) -> None:
        """As a fine-tuning script leaves it: a class of its own around the model, parts of it deleted."""
        assert_state(saved(clip, tmp_path / "m.pt", legacy), state)
        assert_state(saved({"model": clip, "epoch": 3}, tmp_path / "m.pt", legacy), state)
        parallel = saved(torch.nn.DataParallel(clip), tmp_path / "m.pt", legacy)
        assert_state(parallel, {f"module.{key}": value for key, value in state.items()})

    def test_classes_that_do_not_exist_here(
        self, legacy: bool, clip: torch.nn.Module, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        module = types.ModuleType("src_of_a_stranger")

        class ImageEncoder(torch.nn.Module):
            def __init__(self, model: torch.nn.Module):
                super().__init__()
                self.model, self.cache_dir, self.transform = model, pathlib.PurePosixPath("/cache"), {"size": (2, 3)}
                self.head = torch.nn.Linear(8, 3)

        class Settings(dict):  # type: ignore[type-arg]
            pass

        for kind in (ImageEncoder, Settings):
            kind.__module__, kind.__qualname__ = module.__name__, kind.__name__
            setattr(module, kind.__name__, kind)
        encoder = ImageEncoder(clip)
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module.__name__, module)
            path = saved(encoder, tmp_path / "finetuned.pt", legacy)
            dicts = saved(Settings(state_dict=Settings(state)), tmp_path / "dicts.pt", legacy)
        assert module.__name__ not in sys.modules
        loaded = load_checkpoint(path)
        assert set(loaded.left_out) == {"head.weight", "head.bias"}
        assert_state(path, dict(encoder.state_dict()))
        assert_state(dicts, state)

    def test_buffers_that_are_not_kept(self, legacy: bool, tmp_path: Path) -> None:
        model = torch.nn.Linear(2, 2)
        model.register_buffer("mask", torch.full((2,), float("-inf")), persistent=False)
        model.register_buffer("kept", torch.ones(2))
        assert_state(saved(model, tmp_path / "m.pt", legacy), dict(model.state_dict()))

    def test_a_lightning_checkpoint(self, legacy: bool, state: State, tmp_path: Path) -> None:
        prefixed = {f"model.{key}": value for key, value in state.items()}
        content = {
            "epoch": 3,
            "pytorch-lightning_version": "2.2.0",
            "state_dict": collections.OrderedDict(prefixed),
            "hyper_parameters": argparse.Namespace(lr=1e-3, out=pathlib.PurePosixPath("runs/1")),
            "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5)}},
            "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": np.float64(1)}]}],
            "best": np.float32(0.25),
            "array": np.arange(3),
        }
        path = saved(content, tmp_path / "last.ckpt", legacy)
        assert_state(path, prefixed)
        assert {"hyper_parameters", "optimizer_states"} <= set(load_checkpoint(path).left_out)

    @pytest.mark.parametrize(
        "name", ["state_dict", "model", "net", "model_ema", "ema", "weights", "params", "teacher", "anything at all"]
    )
    def test_containers(self, name: str, legacy: bool, clip: torch.nn.Module, state: State, tmp_path: Path) -> None:
        optimizer = torch.optim.AdamW(clip.parameters()).state_dict()
        content = {"epoch": 1, "optimizer": optimizer, name: state, "loss_fn": {"centre": torch.ones(2)}}
        assert_state(saved(content, tmp_path / "c.pt", legacy), state)
        assert_state(saved({"outer": content}, tmp_path / "c.pt", legacy), state)
        assert_state(saved((content, 3), tmp_path / "c.pt", legacy), state)

    def test_attributes_of_an_object(self, legacy: bool, clip: torch.nn.Module, state: State, tmp_path: Path) -> None:
        """A namespace or a trainer that was saved whole."""
        kept = argparse.Namespace(state_dict=state, epoch=3)
        assert_state(saved(kept, tmp_path / "n.pt", legacy), state)
        assert_state(saved({"trainer": argparse.Namespace(model=clip, best=0.5)}, tmp_path / "t.pt", legacy), state)

    def test_numpy_arrays_are_named(self, legacy: bool, state: State, tmp_path: Path) -> None:
        path = saved({key: value.numpy() for key, value in state.items()}, tmp_path / "a.pt", legacy)
        with pytest.raises(CheckpointError, match="NumPy arrays, no tensors"):
            load_checkpoint(path)

    def test_an_average_gives_way(self, legacy: bool, state: State, tmp_path: Path) -> None:
        average = models.perturbed(state, 1)
        path = saved({"ema": average, "model": state}, tmp_path / "c.pt", legacy)
        assert_state(path, state)
        assert "ema" in load_checkpoint(path).left_out
        assert_state(path, average, part="ema")
        assert_state(f"{path}#ema", average)

    def test_two_models_are_named(self, legacy: bool, state: State, tmp_path: Path) -> None:
        teacher = models.perturbed(state, 1)
        path = saved({"student": state, "teacher": {"net": teacher}}, tmp_path / "c.pt", legacy)
        with pytest.raises(CheckpointError, match=r"student and teacher\.net.*#student or #teacher\.net"):
            load_checkpoint(path)
        assert_state(f"{path}#student", state)
        assert_state(path, teacher, part="teacher.net")
        language = dict(models.language_model("llama").state_dict())
        path = saved({"student": language, "teacher": language | {"more": torch.ones(2)}}, tmp_path / "l.pt", legacy)
        with pytest.raises(CheckpointError, match="student and teacher"):
            load_checkpoint(path)

    def test_values_that_are_no_tensors(self, legacy: bool, state: State, tmp_path: Path) -> None:
        path = saved({**state, "epoch": 3, "tokenizer": argparse.Namespace()}, tmp_path / "c.pt", legacy)
        assert_state(path, state)
        assert set(load_checkpoint(path).left_out) == {"epoch", "tokenizer"}

    def test_weights_are_mapped_and_the_file_is_safe(self, legacy: bool, tmp_path: Path) -> None:
        path = saved({"w": torch.zeros(1000)}, tmp_path / "w.pt", legacy)
        before = path.read_bytes()
        load_checkpoint(path).tensor("w").add_(1)
        assert path.read_bytes() == before


def test_every_bundled_module_of_transformers_is_read_like_its_state_dict(tmp_path: Path) -> None:
    for kind in ("llama", "gpt2", "t5"):
        model = models.language_model(kind)
        assert_state(saved(model, tmp_path / "m.pt"), dict(model.state_dict()))


def test_torchscript_archives(clip: torch.nn.Module, state: State, tmp_path: Path) -> None:
    """As OpenAI published CLIP."""
    pictures, texts = torch.randn(1, 3, 16, 16), torch.randint(0, 49, (1, 10))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(clip, (pictures, texts), check_trace=False).save(str(tmp_path / "ViT.pt"))
    loaded = load_checkpoint(tmp_path / "ViT.pt")
    assert loaded.layout == "open_clip"
    found = loaded.state_dict()
    assert all(torch.equal(found[key], value) for key, value in state.items())


def test_archives_that_were_packed_again(state: State, tmp_path: Path) -> None:
    saved(state, tmp_path / "w.pt")
    with (
        zipfile.ZipFile(tmp_path / "w.pt") as old,
        zipfile.ZipFile(tmp_path / "n.pt", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert_state(tmp_path / "n.pt", state)


def test_numbers_of_another_byte_order_are_refused(state: State, tmp_path: Path) -> None:
    saved(state, tmp_path / "w.pt")
    with zipfile.ZipFile(tmp_path / "w.pt") as old, zipfile.ZipFile(tmp_path / "n.pt", "w") as new:
        for name in old.namelist():
            new.writestr(name, b"big" if name.endswith("byteorder") else old.read(name))
    with pytest.raises(CheckpointError, match="byte order"):
        load_checkpoint(tmp_path / "n.pt")


def test_task_vectors_are_not_taken_for_weights(state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object whose attributes hold tensors is no module: its numbers may be anything."""
    module = types.ModuleType("task_vectors_of_a_stranger")

    class TaskVector:
        pass

    TaskVector.__module__, TaskVector.__qualname__ = module.__name__, "TaskVector"
    module.TaskVector = TaskVector  # type: ignore[attr-defined]
    vector = TaskVector()
    vector.vector = state  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)
        saved(vector, tmp_path / "v.pt")
    with pytest.raises(CheckpointError, match=r"TaskVector"):
        load_checkpoint(tmp_path / "v.pt")


def test_a_plain_pickle_names_the_remedy(state: State, tmp_path: Path) -> None:
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(state))
    with pytest.raises(CheckpointError, match=r"torch\.save"):
        load_checkpoint(tmp_path / "w.pkl")


# ------------------------------------------------------------------------------------- the kind of a file


def archive(names: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name, content in names.items():
            made.writestr(name, content)
    return buffer.getvalue()


OTHER_FILES: dict[str, tuple[bytes, str]] = {
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
    "an HTML page": (b"<!DOCTYPE html><html><title>Virus scan warning</title></html>", "HTML page"),
    "an HTML page after a blank line": (b"\n\n  <HTML lang=en><body>Sign in</body>", "HTML page"),
    "an error of a store": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "AccessDenied"),
    "a JSON error": (b'{"error": "Invalid username or password."}', "Invalid username"),
    "a text": (b"Entry not found", "Entry not found"),
    "gzip": (b"\x1f\x8b\x08\x00" + b"\0" * 20, "Unpack it"),
    "a tar archive": (b"w.pt" + b"\0" * 253 + b"ustar\x0000" + b"\0" * 240, "Unpack it"),
    "a zip of something": (archive({"run/notes.txt": "x"}), "zip archive"),
    "NumPy arrays": (archive({"a.npy": "x"}), "NumPy"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 20, "HDF5"),
    "GGUF": (b"GGUF\x03\0\0\0" + b"\0" * 20, "GGUF"),
    "nothing": (b"", "empty"),
    "noise": (b"\x00\x01\x02\x03\xfe\xff" * 9, "unknown format"),
    "half a zip": (archive({"archive/data.pkl": "x"})[:40], "truncated"),
}


@pytest.mark.parametrize(("content", "reason"), OTHER_FILES.values(), ids=OTHER_FILES.keys())
@pytest.mark.parametrize("name", ["w.pt", "w.bin", "w"])
def test_other_files_are_named_for_what_they_are(content: bytes, reason: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / name)
    assert reason in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)


def test_the_content_decides_and_not_the_ending(state: State, tmp_path: Path) -> None:
    save_file(state, tmp_path / "s.pt")
    assert_state(tmp_path / "s.pt", state)
    for name in ("model_best.pth.tar", "weights", "x.model"):
        assert_state(saved(state, tmp_path / name), state)


def test_no_pickle_is_read_where_they_are_forbidden(state: State, tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "script.pt"))
    (tmp_path / "plain.bin").write_bytes(pickle.dumps(3))
    saved(state, tmp_path / "zip.pt")
    saved(state, tmp_path / "legacy.pth", legacy=True)
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(LimitError, match=r"only \.safetensors"):
            load_checkpoint(path, allow_pickle=False)
    save_file(state, tmp_path / "s.pt")
    assert_state(tmp_path / "s.pt", state, allow_pickle=False)


# ------------------------------------------------------------------------------------------ hostile pickles


def text(value: str) -> bytes:
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


def calls(module: str, name: str, *arguments: bytes) -> bytes:
    """A pickle that calls a function by name."""
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"(" + b"".join(arguments) + b"tR."


def stack_global(module: str, name: str, *arguments: bytes) -> bytes:
    return b"\x80\x04" + text(module) + text(name) + b"\x93(" + b"".join(arguments) + b"tR."


def doubled_modules(depth: int) -> bytes:
    """A pickled module that holds another twice, which holds another twice, and so on."""
    made = b"\x80\x02"
    for level in range(depth):
        before = bytes([max(level - 1, 0)])
        pair = text("a") + b"h" + before + text("b") + b"h" + before if level else b""
        state = text("_modules") + b"}(" + pair + b"u" + text("_parameters") + b"}"
        made += b"ctorch.nn\nModule\n)\x81q" + bytes([level]) + b"}(" + state + b"ub0"
    return made + b"h" + bytes([depth - 1]) + b"."


def hostile(proof: str) -> dict[str, bytes]:
    """Pickles that would leave the file `proof`, or import something, if anything of theirs ran."""
    touch = f"open({proof!r}, 'w').close()"
    shell = f"touch {proof}"
    inner = calls("os", "system", text(shell))
    raw_inner = (
        b"C" + bytes([len(inner)]) + inner if len(inner) < 256 else b"B" + len(inner).to_bytes(4, "little") + inner
    )
    made = {
        "os.system": calls("os", "system", text(shell)),
        "posix.system": calls("posix", "system", text(shell)),
        "builtins.exec": calls("builtins", "exec", text(touch)),
        "builtins.eval": calls("builtins", "eval", text(touch)),
        "old eval": calls("__builtin__", "eval", text(touch)),
        "builtins.open": calls("builtins", "open", text(proof), text("w")),
        "__import__": calls("builtins", "__import__", text("antigravity")),
        "importlib": calls("importlib", "import_module", text("antigravity")),
        "naming a module": b"\x80\x02cantigravity\nfly\n.",
        "naming a torch module": b"\x80\x02ctorch.utils.tensorboard\nSummaryWriter\n.",
        "a dotted name": stack_global("os", "path.os.system", text(shell)),
        "subprocess": calls("subprocess", "Popen", b"]" + text("touch") + b"a" + text(proof) + b"a"),
        "runpy": calls("runpy", "run_path", text(proof)),
        "torch.load": calls("torch.serialization", "load", text(proof)),
        "torch.hub": calls("torch.hub", "load", text("a/b"), text("c")),
        "torch.save": calls("torch", "save", b"N", text(proof)),
        "torch from file": calls("torch", "from_file", text(proof), b"\x88", b"K\x08"),
        "storage from file": calls("torch", "FloatStorage.from_file", text(proof), b"\x88", b"K\x08"),
        "a load inside": calls("pickle", "loads", raw_inner),
        "torch's load inside": calls("torch.storage", "_load_from_bytes", raw_inner),
        "numpy.load": calls("numpy", "load", text(proof)),
        "numpy's lib": calls("numpy.testing._private.utils", "runstring", text(touch), b"}"),
        "attrgetter": b"\x80\x02coperator\nattrgetter\n(" + text("system") + b"tR(cos\nsystem\ntR.",
        "methodcaller": b"\x80\x02coperator\nmethodcaller\n("
        + text("touch")
        + b"tR(cpathlib\nPath\n("
        + text(proof)
        + b"tRtR.",
        "partial": b"\x80\x02cfunctools\npartial\n(cos\nsystem\n" + text(shell) + b"tR)R.",
        "codecs": calls("_codecs", "encode", text(touch), text("rot13")),
        "code": calls("types", "FunctionType", b"N", b"}"),
        "INST": b"(" + text(shell) + b"ios\nsystem\n.",
        "OBJ": b"(cos\nsystem\n" + text(shell) + b"o.",
        "NEWOBJ": b"\x80\x02csubprocess\nPopen\n(]" + text("touch") + b"a" + text(proof) + b"at\x81.",
        "NEWOBJ_EX": b"\x80\x04csubprocess\nPopen\n(]" + text("touch") + b"a" + text(proof) + b"at}\x92.",
        "setstate": b"\x80\x02cpathlib\nPath\n)\x81}" + text("__class__") + b"cos\nsystem\nsb.",
        "setitem": b"\x80\x02cos\nenviron\n" + text("PROOF") + text("1") + b"s.",
        "append": b"\x80\x02csys\npath\n" + text(proof) + b"a.",
        "an extension": b"\x80\x02\x82\x01)R.",
        "rebuild with a function": calls("torch._utils", "_rebuild_parameter", b"cos\nsystem\n", b"\x89", b"}"),
        "a hook": b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\nctorch\nTensor\n("
        + text(shell)
        + b"tNtR.",
        "a persistent name": text("storage") + b"Q.",
        "deep lists": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
        "deep tuples": b"\x80\x02)" + b"\x85" * 100_000 + b".",
        "deep keys": b"\x80\x02})" + b"\x85" * 100_000 + b"Ns.",
        "doubling": b"\x80\x02]q\x00" + b"".join(b"(h%ch%ctq%c" % (n, n, n + 1) for n in range(60)) + b".",
        "deep calls": b"\x80\x02ca\nb\nq\x00Nq\x010" + b"h\x00h\x01\x85Rq\x010" * 50_000 + b"h\x01.",
        "a circle of modules": b"\x80\x02ctorch.nn\nModule\n)\x81q\x00}("
        + text("_modules")
        + (b"}" + text("a") + b"h\x00s" + text("_parameters") + b"}ub."),
        "modules doubled": doubled_modules(60),
        "a key of many digits": b"\x80\x02}\x8b" + (20_000).to_bytes(4, "little") + b"\x7f" * 20_000 + b"Ns.",
        "marks": b"\x80\x02" + b"(" * 200_000 + b".",
        "a huge string": b"\x80\x04\x8d" + (2**62).to_bytes(8, "little") + b"x.",
        "a huge number": b"\x80\x02\x8b" + (2**31 - 1).to_bytes(4, "little") + b"x.",
        "itself": b"\x80\x02]q\x00h\x00a.",
        "no end": b"\x80\x02]]",
    }
    return made


READ_THEM = """
import json, sys
from pathlib import Path
from neuromerge.checkpoints import load_checkpoint
from neuromerge.errors import NeuroMergeError

folder, proof = Path(sys.argv[1]), sys.argv[2]
for path in sorted((folder / "harmless").iterdir()):
    load_checkpoint(path).state_dict()
files = sorted((folder / "hostile").iterdir())
known, environment, search = set(sys.modules), dict(__import__("os").environ), list(sys.path)
seen, watching = [], True

def watch(event, arguments):
    if not watching:
        return
    if event == "open" and str(arguments[0]).startswith(str(folder / "hostile")) and arguments[1] in ("r", "rb"):
        return
    if event in ("mmap.__new__", "builtins.id"):
        return
    seen.append([event, repr(arguments)[:200]])

sys.addaudithook(watch)
outcomes = {}
for path in files:
    try:
        load_checkpoint(path)
        outcomes[path.name] = "read"
    except NeuroMergeError as error:
        outcomes[path.name] = "refused"
watching = False
new = sorted(set(sys.modules) - known)
changed = dict(__import__("os").environ) != environment or sys.path != search
told = {"seen": seen[:5], "new": new, "changed": changed, "proof": Path(proof).exists(), "outcomes": outcomes}
print(json.dumps(told))
"""


def test_hostile_pickles_leave_no_trace(state: State, tmp_path: Path) -> None:
    """Every call, import and file is watched while they are read, in a process of its own."""
    proof = tmp_path / "proof"
    for folder in ("harmless", "hostile"):
        (tmp_path / folder).mkdir()
    saved(state, tmp_path / "harmless" / "zip.pt")
    saved(state, tmp_path / "harmless" / "legacy.pt", legacy=True)
    with (
        zipfile.ZipFile(tmp_path / "harmless" / "zip.pt") as old,
        zipfile.ZipFile(tmp_path / "harmless" / "again.pt", "w") as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    files = hostile(str(proof))
    for number, content in enumerate(files.values()):
        (tmp_path / "hostile" / f"{number}-plain.pt").write_bytes(content)
        with zipfile.ZipFile(tmp_path / "hostile" / f"{number}-zip.pt", "w") as made:
            made.writestr("archive/data.pkl", content)
            made.writestr("archive/version", "3\n")
        # Beside real weights: the value of one more key, and the state of a module.
        for place in ("value", "module"):
            evil = b"s." if place == "value" else b"bs."
            before = text("evil") + (b"" if place == "value" else b"ctorch.nn\nModule\n)\x81")
            body = before + content.removeprefix(b"\x80\x02").removeprefix(b"\x80\x04")[:-1] + evil
            with (
                zipfile.ZipFile(tmp_path / "harmless" / "zip.pt") as good,
                zipfile.ZipFile(tmp_path / "hostile" / f"{number}-{place}.pt", "w") as made,
            ):
                for name in good.namelist():
                    data = good.read(name)
                    made.writestr(name, data[:-1] + body if name.endswith("data.pkl") else data)
    legacy = io.BytesIO()
    for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        pickle.dump(value, legacy, protocol=2)
    (tmp_path / "hostile" / "legacy.pt").write_bytes(legacy.getvalue() + files["os.system"])
    command = [sys.executable, "-c", READ_THEM, str(tmp_path), str(proof)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert told["seen"] == []
    assert told["new"] == []
    assert not told["changed"]
    assert not told["proof"]
    assert told["outcomes"]["legacy.pt"] == "refused"
    assert {outcome for name, outcome in told["outcomes"].items() if "plain" in name or "zip" in name} == {"refused"}
    assert len(told["outcomes"]) == 4 * len(files) + 1


def test_the_corpus_is_hostile(tmp_path: Path) -> None:
    """The test above could not fail if these pickles were harmless in themselves."""
    proof = tmp_path / "proof"
    for name in (
        "os.system",
        "builtins.exec",
        "a dotted name",
        "INST",
        "OBJ",
        "subprocess",
        "a load inside",
        "partial",
    ):
        content = hostile(str(proof))[name]
        command = [sys.executable, "-c", "import pickle, sys; pickle.loads(sys.stdin.buffer.read())"]
        subprocess.run(command, input=content, capture_output=True, timeout=60, check=False)
        for _ in range(100):
            if proof.exists():
                break
            subprocess.run(["sleep", "0.05"], check=True)
        assert proof.exists(), name
        proof.unlink()


@given(content=st.binary(max_size=120))
def test_any_bytes_are_data(content: bytes) -> None:
    try:
        read_pickle(io.BytesIO(content))
    except PickleError:
        return


@given(cut=st.integers(0, 3000), value=st.integers(0, 255), legacy=st.booleans())
def test_one_changed_byte_is_read_or_refused(
    cut: int, value: int, legacy: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = saved({"a.weight": torch.ones(2, 3), "b": [1, "x"]}, tmp_path_factory.mktemp("flip") / "w.pt", legacy)
    content = bytearray(path.read_bytes())
    content[cut % len(content)] = value
    path.write_bytes(content)
    try:
        load_checkpoint(path).state_dict()
    except NeuroMergeError:
        return
