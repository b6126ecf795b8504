"""The kernels become machine code of the GPUs they are meant for, without one being here."""

import re
import subprocess
from pathlib import Path

import pytest
import torch

triton = pytest.importorskip("triton")
relu_gram_triton = pytest.importorskip("cace_pyg.kernels.relu_gram_triton")

if relu_gram_triton.INTERPRETED:
    pytest.skip("TRITON_INTERPRET=1 defines no kernels to compile", allow_module_level=True)

KERNELS = {"forward": relu_gram_triton._products_kernel, "backward": relu_gram_triton._gradient_kernel}
IN_DTYPE, IN_FLOAT32 = {"x_a", "x_b", "x", "x_other"}, {"left", "right", "vectors", "vectors_other", "by_row"}
RESULTS, FLOATS = {"by_column", "result"}, {"sharpness", "threshold"}


def compiled(kernel, dtype: str, sharpen: bool, capability: int):
    """As for contiguous clues whose sizes are multiples of 16: what every backbone gives."""
    tile = relu_gram_triton.default_tile({"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[dtype])
    constants = {
        "SHARPEN": sharpen,
        "INTERPRETED": False,
        **dict(zip(("ROWS", "COLUMNS", "CHANNELS"), tile, strict=False)),
    }
    constants |= {name: 1 for name in kernel.arg_names if "channel_stride" in name}
    signature = {name: _type_of(name, dtype) for name in kernel.arg_names} | dict.fromkeys(constants, "constexpr")
    aligned = {
        (place,): [["tt.divisibility", 16]]
        for place, name in enumerate(kernel.arg_names)
        if signature[name] not in ("constexpr", "fp32")
    }
    source = triton.compiler.ASTSource(kernel, signature, constants, aligned)
    target = triton.backends.compiler.GPUTarget("cuda", capability, 32)
    return triton.compile(source, target, {"num_warps": tile.warps, "num_stages": tile.stages})


def _type_of(name: str, dtype: str) -> str:
    if name in IN_DTYPE:
        return f"*{dtype}"
    if name in IN_FLOAT32 | RESULTS:
        return "*fp32"
    return "fp32" if name in FLOATS else "i32"


@pytest.mark.parametrize("sharpen", [False, True])
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize("which", KERNELS)
def test_machine_code(which, dtype, capability, sharpen, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    found = compiled(KERNELS[which], dtype, sharpen, capability)
    assert found.metadata.shared <= 99 * 1024  # bytes of shared memory a block may have on the smallest of them
    assert _spilled(found.asm["cubin"], tmp_path / "kernel.cubin") <= 16  # Triton 3.7: 0; 3.6: up to 16
    matrix_unit = "wgmma" if capability == 90 else "mma.sync"
    assert (matrix_unit in found.asm["ptx"]) == (dtype != "fp32")  # float32 is float32: no TF32


def _spilled(cubin: bytes, path: Path) -> int:
    """Bytes of a thread's registers that did not fit."""
    path.write_bytes(cubin)
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    said = subprocess.run([str(tool), "--dump-resource-usage", str(path)], capture_output=True, text=True, check=True)
    return int(re.search(r"STACK:(\d+)", said.stdout)[1])
