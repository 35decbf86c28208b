#!/bin/sh
# Installs headers, libraries, the glue for taosdump, the pkg-config file, the CMake package and, where it is built, the
# tool. PREFIX may be moved afterwards. Libraries and programs are stripped; FILE.debug beside each has its symbols and
# lines, and is found there by debuggers and by a panic's backtrace. It may be left out of a package.
#   c-shim/install.sh PREFIX [DIRECTORY_OF_THE_LIBRARIES, default target/release]
set -eu
[ $# -ge 1 ] || { echo "usage: $0 PREFIX [LIBRARIES]" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
prefix=$1
libraries=${2:-$here/../target/release}
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$here/../Cargo.toml")
mkdir -p "$prefix/include/incremental_bitmap" "$prefix/lib/pkgconfig" "$prefix/lib/cmake/incremental_bitmap" \
  "$prefix/share/incremental_bitmap/taosdump"
cp "$here"/include/*.h "$prefix/include/incremental_bitmap/"
cp "$here"/taosdump/*.[ch] "$prefix/share/incremental_bitmap/taosdump/"

# stripped FROM TO: a library or program without symbols, and TO.debug with them. The name of that file and its sum are
# noted in TO, so it is complete before.
stripped() {
  "${OBJCOPY:-objcopy}" --only-keep-debug --compress-debug-sections "$1" "$2.debug"
  chmod a-x "$2.debug"
  "${OBJCOPY:-objcopy}" --strip-unneeded --add-gnu-debuglink="$2.debug" "$1" "$2"
}

case $(uname -s) in
  Darwin)
    cp "$libraries/libincremental_bitmap.a" "$prefix/lib/"
    cp "$libraries/libincremental_bitmap.dylib" "$prefix/lib/libincremental_bitmap_plugin.dylib" ;;
  *)
    stripped "$libraries/libincremental_bitmap.so" "$prefix/lib/libincremental_bitmap_plugin.so"
    # The plugin for taosX and the tool are packages of their own, and not everybody builds them.
    if [ -e "$libraries/libtaosx_incremental_bitmap_plugin.so" ]; then
      stripped "$libraries/libtaosx_incremental_bitmap_plugin.so" "$prefix/lib/libtaosx_incremental_bitmap_plugin.so"
    fi
    if [ -e "$libraries/incremental_bitmap_tool" ]; then
      mkdir -p "$prefix/bin"
      stripped "$libraries/incremental_bitmap_tool" "$prefix/bin/incremental_bitmap_tool"
    fi
    # The archive holds C libraries of its own, zstd and liblzma. A program that is also linked to other copies of
    # them (libtaos exports a zstd) would get a mixture of both, which writes garbage. So everything becomes one
    # object in which only the functions of the headers are global, and which holds only what these need.
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    nm -D --defined-only "$prefix/lib/libincremental_bitmap_plugin.so" | awk '$2 == "T" { print $3 }' > "$work/exported"
    [ -s "$work/exported" ] || { echo "$0: $libraries/libincremental_bitmap.so exports nothing" >&2; exit 1; }
    # shellcheck disable=SC2046 # one argument a symbol
    "${LD:-ld}" -r --gc-sections -o "$work/all.o" $(sed 's/^/-u /' "$work/exported") "$libraries/libincremental_bitmap.a"
    "${OBJCOPY:-objcopy}" --keep-global-symbols="$work/exported" --strip-debug -R .llvmbc -R .llvmcmd "$work/all.o"
    rm -f "$prefix/lib/libincremental_bitmap.a"
    "${AR:-ar}" rcs "$prefix/lib/libincremental_bitmap.a" "$work/all.o" ;;
esac
sed -e "s|@VERSION@|$version|" "$here/pkgconfig/incremental_bitmap.pc.in" \
  > "$prefix/lib/pkgconfig/incremental_bitmap.pc"
cp "$here/cmake/incremental_bitmapConfig.cmake" "$prefix/lib/cmake/incremental_bitmap/"
