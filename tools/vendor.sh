#!/bin/sh
# Fetch the vendored parts of the pages again from npm, at the versions written here. To update one: change its
# version, run this, run the browser tests, and correct the table in static/vendor/README.md.
set -eu

HTMX=4.0.1
SCHIBSTED=5.3.0
SPLINE=5.3.0

target="$(cd "$(dirname "$0")/.." && pwd)/src/agentnexus/web/static/vendor"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

unpack() { # name version: leaves the package in ./package
    rm -rf package
    npm pack --silent "$1@$2" >/dev/null
    tar xzf ./*.tgz
    rm -f ./*.tgz
}

unpack htmx.org "$HTMX"
cp package/dist/htmx.min.js package/dist/ext/hx-sse.min.js "$target/"
# Source maps are not shipped, so the pointers to them would only make 404s.
sed -i -e '/sourceMappingURL/d' -e '$a\' "$target/htmx.min.js" "$target/hx-sse.min.js"
cp package/LICENSE "$target/htmx.LICENSE.txt"

unpack @fontsource-variable/schibsted-grotesk "$SCHIBSTED"
cp package/files/schibsted-grotesk-latin-wght-normal.woff2 \
   package/files/schibsted-grotesk-latin-ext-wght-normal.woff2 "$target/"
cp package/LICENSE "$target/schibsted-grotesk.LICENSE.txt"

unpack @fontsource-variable/spline-sans-mono "$SPLINE"
cp package/files/spline-sans-mono-latin-wght-normal.woff2 "$target/"
cp package/LICENSE "$target/spline-sans-mono.LICENSE.txt"
