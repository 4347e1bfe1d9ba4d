#!/bin/sh
# chromium.sh: Debian's Chromium and a font with Chinese characters, for the tests of the merchant's page.
# As root it installs them; else it says what is missing, and those tests are skipped.
set -eu

have_font() { fc-list 2>/dev/null | grep -qi -e "wqy" -e "noto sans cjk"; }

if command -v chromium >/dev/null && have_font; then
    exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "the tests of the merchant's page are skipped without Chromium: apt-get install chromium fonts-wqy-zenhei"
    exit 0
fi
echo "installing Chromium and a font with Chinese characters"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-wqy-zenhei; } >"$log" 2>&1; then
    tail -5 "$log"
    echo "Chromium could not be installed: the tests of the merchant's page are skipped"
fi
rm -f "$log"
