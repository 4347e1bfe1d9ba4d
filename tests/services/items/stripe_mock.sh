#!/bin/sh
# stripe_mock.sh FOLDER: build Stripe's own server of request shapes into FOLDER, by the Go of .venv.
# It checks parameters against Stripe's OpenAPI description and answers with fixtures; it keeps no state.
set -eu

STRIPE_MOCK=github.com/stripe/stripe-mock@v0.203.0

go=$PWD/build/go
mkdir -p "$1" "$go"
echo "building stripe-mock ${STRIPE_MOCK#*@}, a minute the first time"
GOBIN=$(cd "$1" && pwd) GOPATH="$go/path" GOCACHE="$go/cache" GOTOOLCHAIN=local GOFLAGS=-modcacherw CGO_ENABLED=0 \
    .venv/bin/go install -trimpath "$STRIPE_MOCK"
