#!/bin/sh
# node.sh HOME NAME: the programs of one node, in a network namespace of its own (deploy/cluster/node.py made HOME's files).
# Its mounts are its own, too: two kubelets on one machine may not share the folders that they have by fixed names.
set -eu
home=$1
name=$2

mount --make-rshared /
for folder in /var/lib/kubelet /var/lib/cni /run/containerd; do
    mkdir -p "$folder"
    mount -t tmpfs tmpfs "$folder"
done
# A kubelet wants these settings of the kernel. It is shown them, so that the machine's own stay as they are.
for setting in vm/overcommit_memory:1 vm/panic_on_oom:0 kernel/panic:10 kernel/panic_on_oops:1; do
    file=$home/$(basename "${setting%:*}")
    echo "${setting#*:}" >"$file"
    mount --bind "$file" "/proc/sys/${setting%:*}"
done

containerd --config "$home/containerd.toml" >"$home/containerd.log" 2>&1 &
ctr() { command ctr --address "$home/containerd.sock" --namespace k8s.io "$@"; }
until ctr version >/dev/null 2>&1; do sleep 0.1; done
while read -r archive image; do
    ctr images import --base-name "$image" "$archive"
done <"$home/images"

kube-proxy --config="$home/kube-proxy.yaml" >"$home/kube-proxy.log" 2>&1 &
exec kubelet --config="$home/kubelet.yaml" --kubeconfig="$home/node.kubeconfig" --hostname-override="$name" \
    --node-ip="$(cat "$home/address")" --root-dir="$home/kubelet" --cert-dir="$home/pki" \
    --node-labels="topology.kubernetes.io/zone=$name"
