#!/bin/sh
# The images of the cluster's pods, into build/cluster/images: the Dockerfiles of deploy/images run by buildah, step by
# step, without Docker. An image whose sources are older than its archive is not built again.
#
# No registry is asked: the images that a Dockerfile begins from are stood in for by Debian's own Python 3.11.
set -eu

PYTHON=3.11.14-slim-bookworm # what the Dockerfiles name
TAG=0.1.0

images=$PWD/build/cluster/images
mkdir -p "$images"

with_store() { # of our own, so that no image of this machine is touched
    buildah --root "$images/store" --runroot "$images/run" --storage-driver "${STORAGE_DRIVER:-overlay}" "$@"
}

base=$images/python.tar
if [ ! -e "$base" ]; then
    echo "making an image of Debian's Python"
    sources=$(ls /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null | head -n 1)
    mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,libpython3.11 \
        --dpkgopt=force-unsafe-io --customize-hook='ln -s python3 "$1/usr/bin/python"' \
        bookworm "$images/new.tar" "$sources"
    container=$(with_store from scratch)
    with_store add --quiet "$container" "$images/new.tar" /
    with_store commit --quiet --rm "$container" "localhost/python:$PYTHON" >/dev/null
    mv "$images/new.tar" "$base"
fi

newer() { # newer ARCHIVE SOURCE...: whether the archive has to be made
    [ ! -e "$1" ] || [ -n "$(find "$@" -newer "$1" -type f -not -name '*.pyc' | head -n 1)" ]
}
image() { # image NAME SOURCE...
    name=$1
    archive=$images/$name.tar
    shift
    if newer "$archive" "deploy/images/$name/Dockerfile" "$@"; then
        echo "building the image perfusion-$name"
        # pip's own settings and certificates are this machine's
        with_store build --layers --quiet --isolation chroot --pull-never --format oci \
            -v /etc/ssl/certs:/etc/ssl/certs:ro $(pip_settings) \
            -f "deploy/images/$name/Dockerfile" -t "perfusion-$name:$TAG" . >/dev/null
        rm -f "$archive"
        with_store push --quiet "perfusion-$name:$TAG" "oci-archive:$archive.new:$TAG"
        mv "$archive.new" "$archive"
    fi
}
pip_settings() {
    [ ! -e /etc/pip.conf ] || echo "-v /etc/pip.conf:/etc/pip.conf:ro"
}

image services contract services protos/gen protos/client deploy/releases deploy/images/requirements-services.lock
image triton-wheel deploy/local/triton

if [ ! -e "$images/pause.tar" ]; then
    container=$(with_store from scratch)
    with_store copy --quiet "$container" build/cluster/bin/pause /pause >/dev/null
    with_store config --entrypoint '["/pause"]' --user 65535:65535 "$container"
    with_store commit --quiet --rm --format oci "$container" "perfusion-pause:$TAG" >/dev/null
    with_store push --quiet "perfusion-pause:$TAG" "oci-archive:$images/pause.tar:$TAG"
fi
