"""`python -m deploy.cluster COMMAND...`: runs a command where a cluster may be started: in namespaces of its own.

    python -m deploy.cluster python -m pytest tests/deploy/cluster

is what `make k8s-e2e` does. It needs root. The command sees this machine's files, and a network with nothing in it.
"""

import sys

from deploy.cluster.machine import isolated


def main() -> None:
    command = sys.argv[1:]
    if not command or command[0] in ("-h", "--help"):
        print(__doc__)
        sys.exit(0 if command else 2)
    sys.exit(isolated(command))


if __name__ == "__main__":
    main()
