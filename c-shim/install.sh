#!/bin/sh
# Installs headers, libraries, the glue for taosdump, the pkg-config file and the CMake package. PREFIX may be moved
# afterwards.
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
case $(uname -s) in
  Darwin)
    cp "$libraries/libincremental_bitmap.a" "$prefix/lib/"
    cp "$libraries/libincremental_bitmap.dylib" "$prefix/lib/libincremental_bitmap_plugin.dylib" ;;
  *)
    cp "$libraries/libincremental_bitmap.so" "$prefix/lib/libincremental_bitmap_plugin.so"
    # The plugin for taosX is a package of its own, and not everybody builds it.
    if [ -e "$libraries/libtaosx_incremental_bitmap_plugin.so" ]; then
      cp "$libraries/libtaosx_incremental_bitmap_plugin.so" "$prefix/lib/"
    fi
    # The archive holds C libraries of its own, zstd and liblzma. A program that is also linked to other copies of
    # them (libtaos exports a zstd) would get a mixture of both, which writes garbage. So everything becomes one
    # object in which only the functions of the headers are global.
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    nm -D --defined-only "$prefix/lib/libincremental_bitmap_plugin.so" | awk '$2 == "T" { print $3 }' > "$work/exported"
    [ -s "$work/exported" ] || { echo "$0: $libraries/libincremental_bitmap.so exports nothing" >&2; exit 1; }
    # shellcheck disable=SC2046 # one argument a symbol
    "${LD:-ld}" -r -o "$work/all.o" $(sed 's/^/-u /' "$work/exported") "$libraries/libincremental_bitmap.a"
    "${OBJCOPY:-objcopy}" --keep-global-symbols="$work/exported" --strip-debug -R .llvmbc -R .llvmcmd "$work/all.o"
    rm -f "$prefix/lib/libincremental_bitmap.a"
    "${AR:-ar}" rcs "$prefix/lib/libincremental_bitmap.a" "$work/all.o" ;;
esac
sed -e "s|@VERSION@|$version|" "$here/pkgconfig/incremental_bitmap.pc.in" \
  > "$prefix/lib/pkgconfig/incremental_bitmap.pc"
cp "$here/cmake/incremental_bitmapConfig.cmake" "$prefix/lib/cmake/incremental_bitmap/"
