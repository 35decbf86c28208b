#!/bin/sh
# Runs the C programs under valgrind, AddressSanitizer and ThreadSanitizer.
# Needs cc, valgrind and the release libraries: cargo build --release
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
"$root/c-shim/install.sh" "$out/prefix" "$root/target/release"
flags="-std=c99 -D_POSIX_C_SOURCE=200809L -Wall -Wextra -Werror -g -O1 -pthread -I$out/prefix/include/incremental_bitmap"
library="$out/prefix/lib/libincremental_bitmap.a -ldl -lm"

for program in engine_basics engine_misuse engine_threads; do
  # engine_basics takes a directory for its state; the others ignore arguments.
  cc $flags "$root/tests/c/$program.c" $library -o "$out/$program"
  echo "valgrind $program"
  valgrind --quiet --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite,indirect,possible \
    --fair-sched=yes "$out/$program" "$out/valgrind-$program"
  echo "AddressSanitizer $program"
  cc $flags -fsanitize=address,undefined -fno-sanitize-recover=all "$root/tests/c/$program.c" $library -o "$out/$program-asan"
  "$out/$program-asan" "$out/asan-$program"
done

echo "ThreadSanitizer engine_threads"
cc $flags -fsanitize=thread "$root/tests/c/engine_threads.c" $library -o "$out/engine_threads-tsan"
TSAN_OPTIONS=halt_on_error=1 "$out/engine_threads-tsan"
echo "all clean"
