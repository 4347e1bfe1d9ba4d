"""A Kubernetes cluster on this machine, without Docker: a real control plane, real nodes, and simulated ones.

`make k8s-e2e` plays the manifests of deploy/k8s in it. Everything lives in namespaces of its own and ends with the
command that made them; the machine's own network, mounts and settings stay as they are.
"""
