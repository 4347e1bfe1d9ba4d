#!/bin/sh
# One look of the CronJob: picks become a release in the store, or a verdict that says why not. A turn is a folder,
# $WORK/turns/<number>; the newest one that has no outcome goes on where it was.
#   retrain, where it is due ─▶ offline gate ─▶ export ─▶ push
# Loading, a trial and a promotion are an operator's: python -m deploy.releases in the release controller (docs/kubernetes.md).
# Knows commands and files; no models. A family is known by its release: $WORK/families/<release> names its folder.
set -eu

repository=$WORK/model_repository
mkdir -p "$WORK/turns" "$WORK/families" "$repository"
cp -R -n model_repository/. "$repository/" # every model's config.pbtxt, the first time
python -m deploy.releases.agent fetch --store "$PERFUSION_RELEASES_URL" --repository "$repository"

newest=$(find "$WORK/turns" -mindepth 1 -maxdepth 1 -printf '%f\n' | sort -n | tail -n 1)
newest=${newest:-0}
if [ "$newest" -gt 0 ] && [ ! -e "$WORK/turns/$newest/outcome" ]; then
    number=$newest
else
    number=$((newest + 1))
fi
turn=$WORK/turns/$number
last=$WORK/turns/$((number - 1))/run
[ "$number" -gt 1 ] || last=none

ends() { # the turn, with this outcome
    echo "$1" > "$turn/outcome.new"
    mv "$turn/outcome.new" "$turn/outcome"
    echo "turn $number: $1"
    exit 0
}

status=0
python -m training.retraining.retrain --groups "$LAKE/groups" --original "$ORIGINAL" --weights "$FAMILY" \
    --out "$turn/run" --parts "$PARTS" --min-new "$MIN_NEW" --every "$EVERY_HOURS" --last "$last" \
    --order-weight "$ORDER_WEIGHT" --shop "$LAKE/shop" || status=$?
[ "$status" -ne 3 ] || exit 0 # not due yet
[ "$status" -eq 0 ] || exit "$status"

live=$(cat "$repository/releases/current" 2>/dev/null || echo none)
family=$FAMILY # what was exported elsewhere is of the base family; so is what comes before any release
[ ! -e "$WORK/families/$live" ] || family=$(cat "$WORK/families/$live")
version=$(python -c 'import json, sys; print(json.load(open(sys.argv[1]))["table_version"])' "$turn/run/retraining.json")
verdict=$turn/offline.json
python -m training.retraining.gate offline --groups "$LAKE/groups@$version" --live "$family" \
    --candidate "$turn/run/family" --out "$verdict"
python -m training.retraining.gate show "$verdict"
passed=$(python -c 'import json, sys; print(json.load(open(sys.argv[1]))["verdict"])' "$verdict")
[ "$passed" = pass ] || ends "refused"

python -m training.exporting.export --weights "$turn/run/family" --repository "$repository"
release=$(find "$repository/releases" -mindepth 1 -maxdepth 1 -name '[0-9]*' -printf '%f\n' | sort -n | tail -n 1)
echo "$turn/run/family" > "$WORK/families/$release"
python -m deploy.releases.agent push "$release" --store "$PERFUSION_RELEASES_URL" --repository "$repository"
ends "release $release"
