# Runs independent checks at once, as many as there are processors; each says its piece in the order of their start. To be
# sourced by scripts with `set -e`:
#   start COMMAND…   begins a check in the background
#   finish           waits for all; fails if one failed
# shellcheck shell=bash

JOBS=${JOBS:-$(nproc)}
job_logs=$(mktemp -d)
job_numbers=()
job_count=0
job_failed=0

start() {
    if [ "${#job_numbers[@]}" -ge "$JOBS" ]; then wait_for_oldest; fi
    job_count=$((job_count + 1))
    # Not in a condition, where a shell ignores that a command of a function failed.
    (
        set -e
        "$@"
    ) > "$job_logs/$job_count" 2>&1 &
    job_numbers+=("$! $job_count")
}

wait_for_oldest() {
    local process number
    read -r process number <<< "${job_numbers[0]}"
    job_numbers=("${job_numbers[@]:1}")
    wait "$process" || job_failed=1
    cat "$job_logs/$number"
}

finish() {
    while [ "${#job_numbers[@]}" -gt 0 ]; do wait_for_oldest; done
    rm -rf "$job_logs"
    return "$job_failed"
}
