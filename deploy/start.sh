#!/bin/sh
# Starts hoiclip on a device, in a container or as a service: the first start builds the fastest precision of the device
# into $HOICLIP_CACHE, which must be persistent; every start then runs. Settings are environment variables (docs/deploy.md);
# arguments go to `hoiclip run`.
set -eu
umask 077

fail() {
    echo "start.sh: $1" >&2
    exit 2
}

[ -n "${HOICLIP_SOURCE:-}" ] || fail "set HOICLIP_SOURCE to a file or stream, several one per line"
[ -n "${HOICLIP_CACHE:-}" ] || fail "set HOICLIP_CACHE to a persistent folder"
mkdir -p "$HOICLIP_CACHE" 2>/dev/null || true
[ -w "$HOICLIP_CACHE" ] || fail "cannot write into $HOICLIP_CACHE; mount a volume there"
# Otherwise compiled Python lies beside the package, where only root may write.
export NUMBA_CACHE_DIR="${NUMBA_CACHE_DIR:-$HOICLIP_CACHE/numba}"
model="${HOICLIP_MODEL:-drawn}"
backend="${HOICLIP_BACKEND:-auto}"
precision="${HOICLIP_PRECISION:-auto}"

# Command lines can be read by every user of the machine, and addresses hold passwords: they are passed in a file.
sources="$(mktemp -d "${RUNTIME_DIRECTORY:-${TMPDIR:-/tmp}}/hoiclip.XXXXXX")/sources.txt"
printf '%s\n' "$HOICLIP_SOURCE" >"$sources"
unset HOICLIP_SOURCE

if [ "$precision" != fp32 ]; then
    hoiclip build "$model" --backend "$backend" --precision "$precision" --if-missing \
        ${HOICLIP_CALIBRATE:+--calibrate "$HOICLIP_CALIBRATE"} &
    building=$!
    trap 'kill "$building" 2>/dev/null || true; exit 130' INT TERM
    code=0
    wait "$building" || code=$?
    trap - INT TERM
    # Without torch (5), faster precisions (2) or enough accuracy (6) fp32 is still available; an explicit precision must not be replaced.
    case "$precision:$code" in
        *:0) ;;
        auto:2 | auto:5 | auto:6) echo "start.sh: continues in fp32" >&2 ;;
        *) exit "$code" ;;
    esac
fi

exec hoiclip run "$sources" --model "$model" --backend "$backend" --precision "$precision" \
    ${HOICLIP_LIVE:+--live "$HOICLIP_LIVE"} "$@"
