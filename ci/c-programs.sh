#!/bin/sh
# shellcheck disable=SC2046,SC2086 # flags, libraries and arguments are several words each
# Runs the C programs under valgrind, AddressSanitizer and ThreadSanitizer.
# Needs a C and a C++ compiler (CC, CXX), valgrind and the release libraries: cargo build --release -p incremental-bitmap -p taosx
# (LIBRARIES names another directory than target/release, PROGRAMS and TSAN_PROGRAMS some of the programs).
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
libraries=${LIBRARIES:-$root/target/release}
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

for program in $programs; do
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
done

# A host of the plugin, and the backup tool. Allocations of the plugin's own threads end with the process.
$cc $flags "$root/tests/c/plugin_host.c" -ldl -o "$out/plugin_host"
$cc $flags "$root/tests/c/backup_tool.c" $library -o "$out/backup_tool"
$cc $flags "$root/tests/c/coordinator.c" $library -o "$out/coordinator"
mkdir "$out/archives-valgrind" "$out/archives-asan"
echo "valgrind coordinator"
valgrind --quiet --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite,indirect \
  "$out/coordinator" "$out/archives-valgrind"
echo "AddressSanitizer coordinator"
$cc $flags -fsanitize=address,undefined -fno-sanitize-recover=all "$root/tests/c/coordinator.c" $library -o "$out/coordinator-asan"
"$out/coordinator-asan" "$out/archives-asan"
plugin="$out/prefix/lib/libincremental_bitmap_plugin.so"
for check in "plugin_host $plugin recorded $root/tests/data/incr_wal" "backup_tool misuse $out/script.sh"; do
  echo "valgrind ${check%% *}"
  (cd "$out" && RECORDED="$root/tests/data/incr_wal" valgrind --quiet --error-exitcode=9 --leak-check=full \
    --errors-for-leak-kinds=definite,indirect "$out/"$check > /dev/null)
  program=${check%% *}
  $cc $flags -fsanitize=address,undefined -fno-sanitize-recover=all "$root/tests/c/$program.c" $library -o "$out/$program-asan"
  echo "AddressSanitizer $program"
  (cd "$out" && RECORDED="$root/tests/data/incr_wal" "$out/$program-asan" ${check#* } > /dev/null)
done

# taosdump's glue, in a program that stands in for taosdump. It ends with the engine's code, 3.
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

# ThreadSanitizer must see the engine's own synchronisation, so the library is built with it. A stable toolchain has the
# runtime, and takes the flags when asked so.
runtime=$(find "$(rustc --print sysroot)/lib/rustlib" -name 'librustc*_rt.tsan.a' | head -n 1)
if [ -n "$runtime" ]; then
  target=$(rustc -vV | sed -n 's/^host: //p')
  RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer" \
    cargo build --quiet --manifest-path "$root/Cargo.toml" -p incremental-bitmap --lib \
    --target "$target" --target-dir "$root/target/tsan"
  for program in ${TSAN_PROGRAMS:-engine_threads event_interceptor event_threads ring_buffer storage_engine coordinator}; do
    echo "ThreadSanitizer $program"
    mkdir "$out/tsan-$program.dir"
    $cc $flags -fsanitize=thread -c "$root/tests/c/$program.c" -o "$out/$program.o"
    ${CXX:-c++} "$out/$program.o" "$root/target/tsan/$target/debug/libincremental_bitmap.a" \
      -Wl,--whole-archive "$runtime" -Wl,--no-whole-archive -pthread -ldl -lm -o "$out/$program-tsan"
    TSAN_OPTIONS="halt_on_error=1 suppressions=$root/ci/tsan.supp" \
      "$out/$program-tsan" $(arguments "$program" "$out/tsan-$program.dir")
  done
else
  echo "skipped: this toolchain has no runtime of ThreadSanitizer"
fi
echo "all clean"
