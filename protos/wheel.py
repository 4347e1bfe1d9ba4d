"""Builds the client wheel without network, and leaves nothing in the source tree.

    python protos/wheel.py DIRECTORY    writes perfusion_client-VERSION-py3-none-any.whl there

It knows the build backend (setuptools) and copies what goes in; pyproject.toml beside it says what the wheel is.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROTOS = Path(__file__).resolve().parent
SOURCES = ("pyproject.toml", "gen", "client")
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


def build(out: Path) -> Path:
    """Builds the wheel into `out` and returns its path."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        tree, built = Path(scratch, "tree"), Path(scratch, "built")
        tree.mkdir()
        built.mkdir()
        for name in SOURCES:
            source = PROTOS / name
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, tree / name)
        command = [sys.executable, "-c", BUILD, str(built)]
        done = subprocess.run(command, cwd=tree, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            raise SystemExit(f"setuptools failed:\n{done.stdout}")
        [wheel] = built.glob("*.whl")
        return Path(shutil.copy(wheel, out / wheel.name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="where to write the wheel; made when it is not there")
    print(f"wrote {build(parser.parse_args().directory)}")


if __name__ == "__main__":
    main()
