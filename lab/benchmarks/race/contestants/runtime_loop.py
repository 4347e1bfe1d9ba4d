"""No peer's product, but what is left without any: the loop around a runtime, in a process.

python -m lab.benchmarks.race.contestants.runtime_loop RUNTIME REPOSITORY RELEASE AT_ONCE [ddim]
"""

import sys
from importlib.metadata import version
from pathlib import Path

from lab.benchmarks.race.contestants.loop import Loop
from lab.benchmarks.race.contestants.runtimes import RUNTIMES
from lab.benchmarks.race.contestants.worker import work

if __name__ == "__main__":
    runtime, repository, release, at_once, *sampler = sys.argv[1:]
    loop = Loop(RUNTIMES[runtime], Path(repository), int(release), int(at_once), ddim=bool(sampler))
    work(loop.draw, {name: version(name) for name in ("onnxruntime", "openvino")})
