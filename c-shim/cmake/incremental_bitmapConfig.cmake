# find_package(incremental_bitmap CONFIG) gives the targets
#   incremental_bitmap::static   libincremental_bitmap.a
#   incremental_bitmap::shared   libincremental_bitmap_plugin.so
get_filename_component(_incremental_bitmap_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
set(_incremental_bitmap_include "${_incremental_bitmap_prefix}/include/incremental_bitmap")

find_package(Threads REQUIRED)

if(NOT TARGET incremental_bitmap::static)
  add_library(incremental_bitmap::static STATIC IMPORTED)
  set_target_properties(incremental_bitmap::static PROPERTIES
    IMPORTED_LOCATION "${_incremental_bitmap_prefix}/lib/libincremental_bitmap.a"
    INTERFACE_INCLUDE_DIRECTORIES "${_incremental_bitmap_include}"
    INTERFACE_LINK_LIBRARIES "Threads::Threads;${CMAKE_DL_LIBS};m")
endif()

if(NOT TARGET incremental_bitmap::shared)
  set(_incremental_bitmap_shared
    "${_incremental_bitmap_prefix}/lib/libincremental_bitmap_plugin${CMAKE_SHARED_LIBRARY_SUFFIX}")
  add_library(incremental_bitmap::shared SHARED IMPORTED)
  set_target_properties(incremental_bitmap::shared PROPERTIES
    IMPORTED_LOCATION "${_incremental_bitmap_shared}"
    INTERFACE_INCLUDE_DIRECTORIES "${_incremental_bitmap_include}")
endif()
