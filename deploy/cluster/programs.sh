#!/bin/sh
# The programs of a Kubernetes cluster, into build/cluster/bin: built by the Go of .venv from the versions that
# deploy/cluster/programs pins. What is there is not built again.
set -eu

KUBERNETES=v1.37.2
KWOK=v0.8.0
COREDNS=v1.15.0
DEBIAN="containerd runc containernetworking-plugins nftables conntrack iproute2 buildah mmdebstrap"

root=$PWD
bin=$root/build/cluster/bin
sources=$root/deploy/cluster/programs
export GOPATH="$root/build/go/path" GOCACHE="$root/build/go/cache" GOBIN="$bin" GOTOOLCHAIN=local \
    GOFLAGS=-modcacherw CGO_ENABLED=0
mkdir -p "$bin"

quietly() { # says something only where it fails
    "$@" >"$root/build/cluster/build.log" 2>&1 || { tail -n 20 "$root/build/cluster/build.log" >&2; exit 1; }
}
build() { # build FOLDER ARGUMENTS: in a module of ours
    (cd "$sources/$1" && shift && quietly "$root/.venv/bin/go" build -trimpath "$@")
}
installed() { [ -x "$bin/$1" ]; }

lacking=
for package in $DEBIAN; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || lacking="$lacking $package"
done
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || lacking="$lacking postgresql"
if [ -n "$lacking" ]; then
    echo "installing Debian's$lacking"
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086 # words
    if ! { apt-get update -qq && apt-get install -qq -y --no-install-recommends $lacking; } \
        >"$root/build/cluster/apt.log" 2>&1; then
        tail -n 5 "$root/build/cluster/apt.log" >&2
        echo "missing:$lacking; remedy: apt-get install$lacking" >&2
        exit 1
    fi
fi

if ! installed kubelet; then # linked last
    echo "building Kubernetes $KUBERNETES, which takes a while"
    stamp="-s -w"
    for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        stamp="$stamp -X $package.gitVersion=$KUBERNETES -X $package.gitMajor=1 -X $package.gitMinor=37"
        stamp="$stamp -X $package.gitTreeState=clean"
    done
    for program in kube-apiserver kube-controller-manager kube-proxy kube-scheduler kubectl kubelet; do
        build kubernetes -tags selinux,notest,grpcnotrace -ldflags "$stamp" -o "$bin/" "k8s.io/kubernetes/cmd/$program"
    done
fi
if ! installed etcd; then
    echo "building etcd"
    build etcd -ldflags "-s -w" -o "$bin/etcd" go.etcd.io/etcd/server/v3
fi
if ! installed kwok; then
    echo "building kwok $KWOK"
    quietly "$root/.venv/bin/go" install -trimpath "sigs.k8s.io/kwok/cmd/kwok@$KWOK"
    "$root/build/go/bin/kustomize" build "$GOPATH/pkg/mod/sigs.k8s.io/kwok@$KWOK/kustomize/stage/fast" \
        >"$root/build/cluster/stages.yaml" # how a simulated node and its pods behave
fi
if ! installed coredns; then
    echo "building CoreDNS $COREDNS"
    quietly "$root/.venv/bin/go" install -trimpath "github.com/coredns/coredns@$COREDNS"
fi
installed pause || build pause -ldflags "-s -w" -o "$bin/pause" .
