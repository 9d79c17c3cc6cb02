#!/bin/sh
# The gateway as an operator runs it: with all that the kernel enforces, a request leaves from its account's own address.

set -eu
relay() { /gateway/codex-relay "$@"; }

ends_badly() {
    echo "gateway: $1"
    cat /tmp/gateway.log
    exit 1
}

nc -ll -p 7004 -e /gateway/upstream.sh &
relay egress echo --listen 127.0.0.1:7001 &
/gateway/codex-relay run -c /gateway/relay.toml >/tmp/gateway.log 2>&1 &
gateway=$!

tries=0
until wget -q -O /tmp/ready http://127.0.0.1:7002/ready; do
    kill -0 "$gateway" || ends_badly 'has ended'
    tries=$((tries + 1))
    [ "$tries" -lt 120 ] || ends_badly 'is not ready'
    sleep 0.5
done
cat /tmp/ready
[ "$(grep -o '"active"' /tmp/ready | wc -l)" -eq 5 ] || ends_badly 'does without some of it'

wget -q -O /tmp/answer --header 'x-api-key: relay-machine-tenant-key-0123456789abcdef' \
    --header 'content-type: application/json' --post-data '{"model":"machine-1","input":"hello"}' \
    http://127.0.0.1:7003/v1/responses || ends_badly 'does not answer'
[ "$(cat /tmp/answer)" = '{"answer":"it"}' ] || ends_badly 'gives another answer'

relay egress check -c /gateway/relay.toml --to 127.0.0.1:7001 || ends_badly 'leaves from elsewhere'

# What has ended is on record as soon as the control thread has heard of it.
tries=0
until relay egress log -c /gateway/relay.toml --json | grep '"127.0.7.[12]:.*"127.0.0.1:7004"'; do
    tries=$((tries + 1))
    [ "$tries" -lt 120 ] || ends_badly 'has no record of the connection'
    sleep 0.5
done

kill -TERM "$gateway"
wait "$gateway" || ends_badly 'does not end well'
relay kernel status -c /gateway/relay.toml || ends_badly 'has left nothing in force'
relay kernel detach -c /gateway/relay.toml || ends_badly 'cannot be taken out of the kernel'
