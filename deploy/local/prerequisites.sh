#!/bin/sh
# Names what this machine lacks for the local cluster, one line each with its remedy, and fails if anything is missing.
# Plain sh and nothing else, because it runs before there is a Python environment.

missing=0

need() { # need WHAT REMEDY
    echo "missing: $1; remedy: $2" >&2
    missing=1
}

java_major() {
    java -version 2>&1 | sed -n '1s/.*version "\([0-9]*\).*/\1/p'
}

glibc() {
    getconf GNU_LIBC_VERSION 2>/dev/null | cut -d' ' -f2
}

at_least() { # at_least WANTED FOUND
    [ "$(printf '%s\n%s\n' "$1" "${2:-0}" | sort -V | head -n 1)" = "$1" ]
}

# Triton's stub embeds this library; a Debian python3.11 is linked statically and does not bring it.
libpython() {
    directory=$(python3.11 -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))')
    find "$directory" /usr/lib /usr/local/lib -maxdepth 2 -name 'libpython3.11.so.1.0' 2>/dev/null | grep -q .
}

[ "$(uname -sm)" = "Linux x86_64" ] || need "Linux on x86-64 (Triton's wheel has no other build)" "use such a machine"
at_least 2.35 "$(glibc)" || need "glibc 2.35 or newer" "use Debian 12, Ubuntu 22.04 or newer"
if command -v python3.11 >/dev/null; then
    python3.11 -c 'import venv, ensurepip' 2>/dev/null || need "Python's venv module" "apt-get install python3.11-venv"
    libpython || need "libpython3.11.so.1.0" "apt-get install libpython3.11"
else
    need "python3.11" "apt-get install python3.11 python3.11-venv libpython3.11"
fi
if command -v java >/dev/null; then
    at_least 17 "$(java_major)" || need "Java 17 or newer (found $(java_major))" "apt-get install openjdk-17-jre-headless"
else
    need "Java 17" "apt-get install openjdk-17-jre-headless"
fi
command -v mvn >/dev/null || need "Maven" "apt-get install maven"

exit $missing
