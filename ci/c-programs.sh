#!/usr/bin/env bash
# shellcheck disable=SC2046,SC2086 # flags, libraries and arguments are several words each
# Runs the C programs under valgrind, AddressSanitizer and ThreadSanitizer.
# Needs a C and a C++ compiler (CC, CXX), valgrind and the release libraries:
#   cargo build --release -p incremental-bitmap -p taosx
# (LIBRARIES names another directory than target/release, PROGRAMS and TSAN_PROGRAMS some of the programs).
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
out=$(mktemp -d)
tsan_build=
trap '[ -z "$tsan_build" ] || kill "$tsan_build" 2>/dev/null; rm -rf "$out"' EXIT
. "$root/ci/jobs.sh"
libraries=${LIBRARIES:-$root/target/release}

# ThreadSanitizer must see the engine's own synchronisation, so the library is built with it. A stable toolchain has the
# runtime, and takes the flags when asked so. It is built while programs run that need one processor.
runtime=$(find "$(rustc --print sysroot)/lib/rustlib" -name 'librustc*_rt.tsan.a' | head -n 1)
target=$(rustc -vV | sed -n 's/^host: //p')
if [ -n "$runtime" ]; then
  RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer" \
    cargo build --quiet --manifest-path "$root/Cargo.toml" -p incremental-bitmap --lib \
    --target "$target" --target-dir "$root/target/tsan" &
  tsan_build=$!
fi
"$root/c-shim/install.sh" "$out/prefix" "$libraries"
# The flags of the build script and of the tests (c-shim/compile.rs).
flags="@$root/c-shim/flags/c -g -I$out/prefix/include/incremental_bitmap"
cc=${CC:-cc}
programs="${PROGRAMS:-engine_basics engine_misuse engine_threads taosdump_engine
  event_interceptor event_threads ring_buffer observability storage_engine taosx_plugin}"
library="$out/prefix/lib/libincremental_bitmap.a -ldl -lm"

# What a program is run with; each run gets a directory of its own.
arguments() {
  case $1 in
    storage_engine)
      cp -r "$root/tests/data/base" "$2/data"
      echo "$2/data $root/tests/data/incr_wal $2" ;;
    coordinator) echo "$2" ;;
    taosx_plugin) echo "$libraries/libtaosx_incremental_bitmap_plugin.so $2" ;;
    *) echo "$2/state" ;;
  esac
}

valgrind_and_asan() {
  program=$1
  # Those that need no directory ignore it.
  $cc $flags "$root/tests/c/$program.c" $library -o "$out/$program"
  echo "valgrind $program"
  mkdir "$out/valgrind-$program.dir"
  valgrind --quiet --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite,indirect,possible \
    --suppressions="$root/ci/valgrind.supp" --fair-sched=yes "$out/$program" $(arguments "$program" "$out/valgrind-$program.dir")
  echo "AddressSanitizer $program"
  mkdir "$out/asan-$program.dir"
  $cc $flags -fsanitize=address,undefined -fno-sanitize-recover=all "$root/tests/c/$program.c" $library -o "$out/$program-asan"
  "$out/$program-asan" $(arguments "$program" "$out/asan-$program.dir")
}

# Allocations of the library's own threads end with the process, so what may still be reached counts as no leak here.
coordinator() {
  $cc $flags "$root/tests/c/coordinator.c" $library -o "$out/coordinator"
  mkdir "$out/archives-valgrind" "$out/archives-asan"
  echo "valgrind coordinator"
  valgrind --quiet --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite,indirect \
    "$out/coordinator" "$out/archives-valgrind"
  echo "AddressSanitizer coordinator"
  $cc $flags -fsanitize=address,undefined -fno-sanitize-recover=all "$root/tests/c/coordinator.c" $library -o "$out/coordinator-asan"
  "$out/coordinator-asan" "$out/archives-asan"
}

# host PROGRAM LIBRARIES ARGUMENTS...: a host of the plugin, or the backup tool. Each run has a directory of its own for
# what it writes.
host() {
  program=$1 linked=$2
  shift 2
  mkdir "$out/valgrind-$program.dir" "$out/asan-$program.dir"
  $cc $flags "$root/tests/c/$program.c" $linked -o "$out/$program"
  echo "valgrind $program"
  (cd "$out/valgrind-$program.dir" && RECORDED="$root/tests/data/incr_wal" valgrind --quiet --error-exitcode=9 --leak-check=full \
    --errors-for-leak-kinds=definite,indirect "$out/$program" "$@" > /dev/null)
  $cc $flags -fsanitize=address,undefined -fno-sanitize-recover=all "$root/tests/c/$program.c" $linked -o "$out/$program-asan"
  echo "AddressSanitizer $program"
  (cd "$out/asan-$program.dir" && RECORDED="$root/tests/data/incr_wal" "$out/$program-asan" "$@" > /dev/null)
}

# taosdump's glue, in a program that stands in for taosdump. It ends with the engine's code, 3.
stand_in() {
  glue="-D_GNU_SOURCE -I$root/c-shim/taosdump $root/c-shim/taosdump/taosdump_incremental.c
    $root/tests/c/taosdump_stand_in.c $root/tests/c/taosdump_listing_engine.c -ldl"
  line="-n --incremental -i a -i b --base c --data-dir d -hx meters -s d1"
  $cc $flags $glue -o "$out/stand-in"
  echo "valgrind taosdump_stand_in"
  valgrind --quiet --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite,indirect,possible \
    "$out/stand-in" $line > /dev/null || [ $? -eq 3 ]
  echo "AddressSanitizer taosdump_stand_in"
  $cc $flags -fsanitize=address,undefined -fno-sanitize-recover=all $glue -o "$out/stand-in-asan"
  "$out/stand-in-asan" $line > /dev/null || [ $? -eq 3 ]
}

tsan() {
  program=$1
  echo "ThreadSanitizer $program"
  mkdir "$out/tsan-$program.dir"
  $cc $flags -fsanitize=thread -c "$root/tests/c/$program.c" -o "$out/$program.o"
  ${CXX:-c++} "$out/$program.o" "$root/target/tsan/$target/debug/libincremental_bitmap.a" \
    -Wl,--whole-archive "$runtime" -Wl,--no-whole-archive -pthread -ldl -lm -o "$out/$program-tsan"
  TSAN_OPTIONS="halt_on_error=1 suppressions=$root/ci/tsan.supp" \
    "$out/$program-tsan" $(arguments "$program" "$out/tsan-$program.dir")
}

# Settings with which the backup tool must refuse what can't be encrypted.
export ENCRYPTED="$out/encrypted.json"
echo '{"backup": {"encryption": true, "key_file": "k"}}' > "$ENCRYPTED"

for program in $programs; do
  start valgrind_and_asan "$program"
done
start coordinator
start host plugin_host -ldl "$out/prefix/lib/libincremental_bitmap_plugin.so" recorded "$root/tests/data/incr_wal"
start host backup_tool "$library" misuse script.sh
start stand_in
if [ -n "$runtime" ]; then
  wait "$tsan_build"
  tsan_build=
  for program in ${TSAN_PROGRAMS:-engine_threads event_interceptor event_threads ring_buffer storage_engine coordinator}; do
    start tsan "$program"
  done
fi
finish
[ -n "$runtime" ] || echo "skipped: this toolchain has no runtime of ThreadSanitizer"
echo "all clean"
