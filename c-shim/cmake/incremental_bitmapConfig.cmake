# find_package(incremental_bitmap CONFIG) gives the targets
#   incremental_bitmap::static   libincremental_bitmap.a
#   incremental_bitmap::shared   libincremental_bitmap_plugin.so
# and the function
#   incremental_bitmap_add_to(TARGET)   what makes a patched taosdump incremental
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

# Through properties: taosdump's own target_link_libraries calls are of different kinds in different releases, and CMake
# refuses a call of another kind.
function(incremental_bitmap_add_to target)
  get_target_property(include incremental_bitmap::static INTERFACE_INCLUDE_DIRECTORIES)
  get_filename_component(glue "${include}/../../share/incremental_bitmap/taosdump" ABSOLUTE)
  set_property(TARGET ${target} APPEND PROPERTY COMPILE_DEFINITIONS INCREMENTAL)
  set_property(TARGET ${target} APPEND PROPERTY INCLUDE_DIRECTORIES "${include}" "${glue}")
  set_property(TARGET ${target} APPEND PROPERTY SOURCES "${glue}/taosdump_incremental.c")
  set_property(TARGET ${target} APPEND PROPERTY LINK_LIBRARIES incremental_bitmap::static)
endfunction()
