"""`make k8s-e2e` runs these, in namespaces of their own; elsewhere they are left out."""

import os

from deploy.cluster.machine import INSIDE

collect_ignore_glob = [] if os.environ.get(INSIDE) else ["test_*.py"]
