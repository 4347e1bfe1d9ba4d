#!/bin/sh
# install.sh VENV LOCK: make the virtual environment VENV hold exactly what LOCK pins, checked by hash.
# uv does it in seconds where pip takes minutes; uv itself comes by pip from bootstrap.lock, also by hash.
set -eu

venv=$1
lock=$2
bootstrap=build/bootstrap

if [ ! -x "$bootstrap/bin/uv" ]; then
    echo "installing uv, the installer"
    python3.11 -m venv "$bootstrap"
    "$bootstrap/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r deploy/local/bootstrap.lock
fi

# uv does not read pip's configuration: a machine that has its own package index says so to pip.
for key in :env:.index-url global.index-url; do
    index=$("$bootstrap/bin/pip" config get "$key" 2>/dev/null || true)
    if [ -n "$index" ] && [ -z "${UV_DEFAULT_INDEX:-}" ]; then
        export UV_DEFAULT_INDEX="$index"
    fi
done

export UV_HTTP_TIMEOUT="${UV_HTTP_TIMEOUT:-180}"
[ -x "$venv/bin/python" ] || python3.11 -m venv --without-pip "$venv"
echo "installing $(grep -c '==' "$lock") pinned packages of $lock into $venv"
# Compiled once here, since a machine may forbid it later (PYTHONDONTWRITEBYTECODE): torch alone then takes seconds more
# at every start. Of what comes with torch only what is imported: all of it would take a minute of two cores.
compile=--compile-bytecode
if grep -q '^torch==' "$lock"; then
    compile=
fi
"$bootstrap/bin/uv" pip sync $compile --require-hashes --python "$venv/bin/python" "$lock"
if [ -z "$compile" ]; then
    "$venv/bin/python" -P deploy/local/compile.py
fi
