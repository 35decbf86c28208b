// bitmap_engine.h from C++: owns handles with RAII.
#include "bitmap_engine.h"

#include <cstdio>
#include <memory>
#include <vector>

struct Destroy {
  void operator()(SBitmapEngine *engine) const { bitmap_engine_destroy(engine); }
  void operator()(SBitmapCursor *cursor) const { bitmap_cursor_close(cursor); }
};

int main() {
  std::unique_ptr<SBitmapEngine, Destroy> engine(bitmap_engine_init());
  if (!engine) return 1;
  for (uint64_t id = 0; id < 10; ++id) {
    if (bitmap_engine_mark_new(engine.get(), id, 100 - id, 0) != ERR_SUCCESS) return 2;
  }
  SBitmapCursor *opened = nullptr;
  if (bitmap_engine_open_cursor_by_wal(engine.get(), 0, 95, &opened) != ERR_SUCCESS) return 3;
  std::unique_ptr<SBitmapCursor, Destroy> cursor(opened);
  std::vector<uint64_t> ids(10);
  size_t count = 0;
  if (bitmap_cursor_next(cursor.get(), ids.data(), ids.size(), &count) != ERR_SUCCESS) return 4;
  if (count != 5 || ids[0] != 9 || ids[4] != 5) {
    std::fprintf(stderr, "%zu blocks, first %llu\n", count, static_cast<unsigned long long>(ids[0]));
    return 5;
  }
  return 0;
}
