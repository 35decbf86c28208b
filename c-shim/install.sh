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
cp "$libraries/libincremental_bitmap.a" "$prefix/lib/"
case $(uname -s) in
  Darwin) cp "$libraries/libincremental_bitmap.dylib" "$prefix/lib/libincremental_bitmap_plugin.dylib" ;;
  *) cp "$libraries/libincremental_bitmap.so" "$prefix/lib/libincremental_bitmap_plugin.so" ;;
esac
sed -e "s|@VERSION@|$version|" "$here/pkgconfig/incremental_bitmap.pc.in" \
  > "$prefix/lib/pkgconfig/incremental_bitmap.pc"
cp "$here/cmake/incremental_bitmapConfig.cmake" "$prefix/lib/cmake/incremental_bitmap/"
