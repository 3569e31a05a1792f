#!/bin/sh
# Build the image without Docker and without a registry of images, and try it: needs root, buildah and debootstrap.
#
#   sh deploy/compose/build-with-buildah.sh [NAME]     # NAME: localhost/darkroom-queue:built
#
# The base is Debian 13 with its own Python, made here by debootstrap.  pip inside the build uses the host's settings.
set -eu
cd "$(dirname "$0")/../.."
name=${1:-localhost/darkroom-queue:built}
base=localhost/debian-python:13
export STORAGE_DRIVER="${STORAGE_DRIVER:-vfs}" BUILDAH_ISOLATION="${BUILDAH_ISOLATION:-chroot}"

if ! buildah inspect --type image "$base" >/dev/null 2>&1; then
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates trixie "$folder" >/dev/null
  ln -s python3 "$folder/usr/bin/python"
  rm -rf "$folder"/var/cache/apt "$folder"/var/lib/apt/lists/*
  container=$(buildah from scratch)
  buildah add --quiet "$container" "$folder" / >/dev/null
  buildah commit --quiet "$container" "$base" >/dev/null
  buildah rm "$container" >/dev/null
  echo "made $base"
fi

set --
for file in /etc/pip.conf "$HOME/.config/pip" "${PIP_CERT:-}"; do
  if [ -n "$file" ] && [ -e "$file" ]; then set -- "$@" --volume "$file:$file:ro"; fi
done
# OCI's own format has no health check.
buildah bud --quiet --format docker --network host "$@" --env "PIP_CERT=${PIP_CERT:-}" --build-arg "PYTHON_IMAGE=$base" \
  --file deploy/compose/Dockerfile --tag "$name" . >/dev/null
echo "built $name"

container=$(buildah from "$name")
trap 'buildah rm "$container" >/dev/null' EXIT
buildah inspect --type image --format '{{.Docker.Config.Healthcheck}}' "$name" | grep -q beat_check
buildah run "$container" -- sh -eu -c '
  test "$(id -u)" = 10001
  for tool in gcc cc pip make; do if command -v "$tool"; then echo "left in the image: $tool"; exit 1; fi; done
  python -c "import json; json.load(open(\"/opt/darkroom/sbom.cdx.json\"))[\"components\"]"
  DARKROOM_PORT=0 darkroom up >/tmp/up.log 2>&1 &
  for _ in $(seq 120); do if [ -s /var/lib/darkroom/url ]; then break; fi; sleep 1; done
  python -m supervisor.processes.beat_check 60
  python -c "import urllib.request; urllib.request.urlopen(open(\"/var/lib/darkroom/url\").read().strip() + \"/readyz\")"
  kill -STOP $! && sleep 8
  if python -m supervisor.processes.beat_check 5 2>/dev/null; then echo "a frozen system is healthy"; exit 1; fi
  kill -CONT $! && kill $! && wait $!
'
echo "1 passed, 0 failed"
