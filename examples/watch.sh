#!/bin/sh
# Order a picture and watch it, with nothing but curl: ./watch.sh URL TOKEN PHOTO
# It goes on until you stop it: after a break it says what it has read last, and is sent what came since.
set -eu
url=$1 token=$2 photo=$3
ask() { curl --silent --show-error --fail-with-body -H "Authorization: Bearer $token" "$@"; }

image=$(ask -F "image=@$photo" "$url/v1/images" | sed 's/.*"id":"\([^"]*\)".*/\1/')
ask -H 'Content-Type: application/json' -H "Idempotency-Key: $image" "$url/v1/tasks" \
    -d '{"type":"photography","params":{"images":["'"$image"'"]}}'
echo

kept=$(mktemp)
trap 'rm -f "$kept"' EXIT
trap 'exit 0' INT TERM
while :; do
    place=$(cat "$kept")
    ask --no-buffer --keepalive-time 20 ${place:+-H "Last-Event-ID: $place"} "$url/v1/works/feed" |
        while IFS= read -r line; do
            printf '%s\n' "$line"
            case $line in "id: "*) printf '%s' "${line#id: }" >"$kept" ;; esac
        done
    sleep 2
done
