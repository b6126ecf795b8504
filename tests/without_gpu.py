"""Imported by the server of tests/forkserver.py before all else, for the processes that it forks.

PyG initialises CUDA when it is imported, and a process that is forked after that cannot use it.
"""

import os

os.environ["CUDA_VISIBLE_DEVICES"] = ""
