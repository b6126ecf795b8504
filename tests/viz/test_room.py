"""What the room may not do: touch other rooms, or matplotlib's global state."""

import subprocess
import sys


def test_importing_and_drawing_leave_pyplot_and_the_other_rooms_alone() -> None:
    code = (
        "import sys\n"
        "from matplotlib import rcParams\n"
        # Reading the backend would choose one, and import pyplot for it.
        "before = {name: rcParams[name] for name in rcParams if not name.startswith('backend')}\n"
        "import numpy as np\n"
        "from cace_pyg.viz import cmc_curve, correspondences\n"
        "cmc_curve({'individual': np.array([0.5, 0.6])})\n"
        "correspondences(np.zeros((4, 2)), np.zeros((4, 2)), [(0, 1, 1.0)], (2, 1))\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules\n"
        "rooms = {name.split('.')[1] for name in sys.modules if name.startswith('cace_pyg.')}\n"
        "assert rooms == {'viz', 'read_picture'}, rooms\n"
        "assert before == {name: rcParams[name] for name in before}\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
