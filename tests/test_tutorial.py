"""docs/tutorial.md, followed to the letter."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", (ROOT / "docs" / "tutorial.md").read_text(), re.DOTALL)


def test_every_block_runs_in_order(tmp_path):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    tools = {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    python = ""
    assert [kind for kind, _ in BLOCKS].count("python") == 2
    for kind, text in BLOCKS:
        if kind == "python":  # one session: the second goes on where the first stopped
            python += text
        command = ["bash", "-ec", text] if kind == "sh" else [sys.executable, "-c", python]
        done = subprocess.run(command, cwd=tmp_path, env={**os.environ, **tools}, capture_output=True, text=True)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        printed = done.stdout
        if "search query" in text:
            assert "individual" in printed and "camera" in printed
        if "gallery.search" in text:
            assert len(re.findall(r"\d \d+ -?\d\.\d{3} ", printed)) == 5
    for name in ("answer.png", "correspondences.png", "conditional_maps.png", "run/report.html"):
        assert (tmp_path / name).stat().st_size > 10_000
