"""The origin of a benchmark's numbers."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import torch
import torch_geometric


def origin() -> str:
    """Machine, versions, commit and command in one line."""
    return "; ".join(
        [
            f"{_processor()}, {torch.get_num_threads()} threads of {os.cpu_count()}",
            *_card(),
            f"Python {platform.python_version()}, torch {torch.__version__}, PyG {torch_geometric.__version__}",
            f"commit {_commit()}",
            "python -m benchmarks." + " ".join([_name(Path(sys.argv[0])), *sys.argv[1:]]),
        ]
    )


def _name(program: Path) -> str:
    return program.parent.name if program.stem == "__main__" else program.stem


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def _card() -> list[str]:
    if not torch.cuda.is_available():
        return []
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    except FileNotFoundError:
        driver = []
    return [f"{torch.cuda.get_device_name()}, driver {driver[0] if driver else 'unknown'}, CUDA {torch.version.cuda}"]


def _commit() -> str:
    folder = Path(__file__).parent
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=folder, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or os.environ.get("GIT_COMMIT", "unknown")  # for a copy without its git history
