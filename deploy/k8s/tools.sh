#!/bin/sh
# What the manifests are checked with, into build/: kustomize, built by the Go of .venv, the schemas of the objects that
# are not Kubernetes' own, and promtool. What is there already is not made again.
set -eu

KUSTOMIZE=v5.8.1
KEDA=github.com/kedacore/keda/v2@v2.21.0
CERT_MANAGER=github.com/cert-manager/cert-manager@v1.19.1
PROMETHEUS_OPERATOR=github.com/prometheus-operator/prometheus-operator@v0.85.0

root=$PWD
go=$root/build/go
schemas=$root/build/k8s/schemas
export GOPATH="$go/path" GOCACHE="$go/cache" GOBIN="$go/bin" GOTOOLCHAIN=local GOFLAGS=-modcacherw CGO_ENABLED=0
mkdir -p "$schemas" "$go"

if [ ! -x "$go/bin/kustomize" ]; then
    echo "building kustomize $KUSTOMIZE, some minutes the first time"
    .venv/bin/go install -trimpath "sigs.k8s.io/kustomize/kustomize/v5@$KUSTOMIZE"
fi

folder_of() { # a Go module, fetched
    (cd "$go" && "$root/.venv/bin/go" mod download -json "$1") | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p'
}
if [ ! -e "$schemas/keda.yaml" ]; then
    echo "fetching the schemas of KEDA's objects"
    cp "$(folder_of "$KEDA")/config/crd/bases/keda.sh_scaledobjects.yaml" "$schemas/keda.yaml"
fi
if [ ! -e "$schemas/issuer.yaml" ]; then
    echo "fetching the schemas of cert-manager's objects"
    from=$(folder_of "$CERT_MANAGER")/deploy/crds
    cp "$from/cert-manager.io_certificates.yaml" "$schemas/certificate.yaml"
    cp "$from/cert-manager.io_issuers.yaml" "$schemas/issuer.yaml"
fi
if [ ! -e "$schemas/servicemonitor.yaml" ]; then
    echo "fetching the schemas of the Prometheus operator's objects"
    from=$(folder_of "$PROMETHEUS_OPERATOR")/example/prometheus-operator-crd
    cp "$from/monitoring.coreos.com_prometheusrules.yaml" "$schemas/prometheusrule.yaml"
    cp "$from/monitoring.coreos.com_servicemonitors.yaml" "$schemas/servicemonitor.yaml"
fi

# Strimzi's are written by a program of its own, which needs a newer Java than Kafka does.
java=
for each in ${JAVA_HOME:+"$JAVA_HOME/bin/java"} /usr/lib/jvm/*/bin/java java; do
    version=$("$each" -version 2>&1 | sed -n '1s/.*"\([0-9]*\)[."].*/\1/p')
    if [ "${version:-0}" -ge 21 ]; then java=$each; fi
done
if [ -n "$java" ] && [ ! -e "$schemas/kafka.yaml" ]; then
    echo "writing the schemas of Strimzi's objects"
    jars=$root/build/k8s/strimzi
    mvn -q -B -Dstyle.color=never -f deploy/k8s/strimzi/pom.xml dependency:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$jars"
    written=$root/build/k8s/written # all of them or none: this is the last step
    rm -rf "$written" && mkdir "$written"
    model=io.strimzi.api.kafka.model
    "$java" -cp "$jars/*" io.strimzi.crdgenerator.CrdGenerator --target-kube 1.16+ --crd-api-version v1 \
        --api-versions v1 --storage-version v1 --yaml \
        "$model.topic.KafkaTopic=$written/kafkatopic.yaml" \
        "$model.user.KafkaUser=$written/kafkauser.yaml" \
        "$model.nodepool.KafkaNodePool=$written/kafkanodepool.yaml" \
        "$model.kafka.Kafka=$written/kafka.yaml"
    mv "$written"/kafka?*.yaml "$schemas/"
    mv "$written/kafka.yaml" "$schemas/"
fi
[ -e "$schemas/kafka.yaml" ] || echo "no Java 21 here: Strimzi's objects are not checked against their schemas"

# Prometheus' own reader of rules: the machine's, or the one of Debian's package, unpacked here and not installed.
prometheus=$root/build/prometheus
if ! command -v promtool >/dev/null && [ ! -x "$prometheus/usr/bin/promtool" ]; then
    echo "fetching Debian's prometheus, for its promtool"
    debian() {
        apt-get -qq -o Acquire::Retries=0 -o Acquire::http::Timeout=10 "$@"
    }
    rm -rf "$prometheus" && mkdir -p "$prometheus"
    if ! (cd "$prometheus" && { debian download prometheus || { debian update && debian download prometheus; }; } \
        && dpkg-deb -x prometheus_*.deb .) >"$prometheus.log" 2>&1; then
        echo "missing: promtool; remedy: apt-get install prometheus; until then alerts and dashboard are not tried"
    fi
fi
