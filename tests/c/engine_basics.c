/* A tour of bitmap_engine.h: marks, lookups, range queries, cursors, batches, memory. Exit code 0 if all is well. */
#include "bitmap_engine.h"
#include "check.h"

#include <stdio.h>
#include <string.h>

static int marks_and_lookups(void) {
  SBitmapEngine *engine = bitmap_engine_init();
  EBlockState    state = BLOCK_STATE_CLEAN;
  SBlockMetadata metadata;
  uint64_t       ids[4];
  uint64_t       total, dirty, fresh, deleted;

  CHECK(engine != NULL);
  CHECK(bitmap_engine_mark_dirty(engine, 7, 100, -5) == ERR_SUCCESS);
  CHECK(bitmap_engine_mark_new(engine, 3, 101, -4) == ERR_SUCCESS);
  CHECK(bitmap_engine_mark_deleted(engine, 9, 102, 0) == ERR_SUCCESS);
  CHECK(bitmap_engine_mark_dirty(engine, 9, 103, 1) == ERR_INVALID_STATE_TRANS);
  CHECK(bitmap_engine_mark_dirty(engine, 3, 104, -3) == ERR_SUCCESS); /* stays NEW */

  CHECK(bitmap_engine_get_block_state(engine, 3, &state) == ERR_SUCCESS && state == BLOCK_STATE_NEW);
  CHECK(bitmap_engine_get_block_state(engine, 4, &state) == ERR_BLOCK_NOT_FOUND);
  CHECK(bitmap_engine_get_block_metadata(engine, 3, &metadata) == ERR_SUCCESS);
  CHECK(metadata.block_id == 3 && metadata.wal_offset == 104 && metadata.timestamp == -3);
  CHECK(metadata.state == BLOCK_STATE_NEW);

  CHECK(bitmap_engine_get_dirty_blocks_by_wal(engine, 100, 104, ids, 4) == 2);
  CHECK(ids[0] == 7 && ids[1] == 3);
  CHECK(bitmap_engine_get_dirty_blocks_by_time(engine, -5, -5, ids, 4) == 1 && ids[0] == 7);
  CHECK(bitmap_engine_last_query_error() == ERR_SUCCESS);

  CHECK(bitmap_engine_clear_block(engine, 7) == ERR_SUCCESS);
  CHECK(bitmap_engine_get_dirty_blocks_by_time(engine, INT64_MIN, INT64_MAX, ids, 4) == 1 && ids[0] == 3);
  bitmap_engine_get_stats(engine, &total, &dirty, &fresh, &deleted);
  CHECK(total == 3 && dirty == 0 && fresh == 1 && deleted == 1);
  bitmap_engine_destroy(engine);
  return 0;
}

static int batches_and_cursors(void) {
  SBitmapEngine *engine = bitmap_engine_init();
  SBitmapCursor *cursor = NULL;
  SBlockMark     marks[1000];
  uint64_t       ids[300];
  size_t         applied = 0, count = 0, seen = 0, i;

  for (i = 0; i < 1000; i++) {
    marks[i].block_id = i << 32;
    marks[i].wal_offset = i;
    marks[i].timestamp = -(int64_t)i;
  }
  CHECK(bitmap_engine_mark_dirty_batch(engine, marks, 1000, &applied) == ERR_SUCCESS && applied == 1000);
  CHECK(bitmap_engine_open_cursor_by_wal(engine, 0, UINT64_MAX, &cursor) == ERR_SUCCESS);
  do {
    CHECK(bitmap_cursor_next(cursor, ids, 300, &count) == ERR_SUCCESS);
    for (i = 0; i < count; i++) CHECK(ids[i] == (uint64_t)(seen + i) << 32);
    seen += count;
    if (seen == 300) { /* marks after the cursor was opened are not in it */
      uint64_t cleared[2] = {999ull << 32, 5};
      CHECK(bitmap_engine_clear_batch(engine, cleared, 2, &applied) == ERR_BLOCK_NOT_FOUND && applied == 1);
    }
  } while (count > 0);
  CHECK(seen == 1000);
  bitmap_cursor_close(cursor);
  CHECK(bitmap_engine_open_cursor_by_time(engine, -1, 0, &cursor) == ERR_SUCCESS);
  CHECK(bitmap_cursor_next(cursor, ids, 300, &count) == ERR_SUCCESS && count == 2);
  CHECK(ids[0] == 1ull << 32 && ids[1] == 0);
  bitmap_engine_destroy(engine); /* a cursor outlives its engine's handle */
  CHECK(bitmap_cursor_next(cursor, ids, 300, &count) == ERR_SUCCESS && count == 0);
  bitmap_cursor_close(cursor);
  return 0;
}

static int deleted(void) {
  SBitmapEngine *engine = bitmap_engine_init();
  SBlockMark     marks[2] = {{1, 5, 5}, {2, 6, 6}};
  size_t         applied = 0;
  EBlockState    state = BLOCK_STATE_CLEAN;

  CHECK(bitmap_engine_mark_deleted_batch(engine, marks, 2, &applied) == ERR_SUCCESS && applied == 2);
  CHECK(bitmap_engine_get_block_state(engine, 2, &state) == ERR_SUCCESS && state == BLOCK_STATE_DELETED);
  bitmap_engine_destroy(engine);
  return 0;
}

/* With persistence, memory can be given back. */
static int given_back(const char *path) {
  SBitmapEngineConfig config = {64, true, path};
  SBitmapEngine      *engine = bitmap_engine_init_with_config(&config);
  uint64_t            id;
  EBlockState         state = BLOCK_STATE_CLEAN;

  CHECK(engine != NULL);
  for (id = 0; id < 300000; id++) CHECK(bitmap_engine_mark_dirty(engine, id << 20, id * 7 % 300000, (int64_t)id) == ERR_SUCCESS);
  CHECK(bitmap_engine_cleanup_memory(engine, 1) > 0);
  CHECK(bitmap_engine_get_block_state(engine, UINT64_C(299999) << 20, &state) == ERR_SUCCESS && state == BLOCK_STATE_DIRTY);
  bitmap_engine_destroy(engine);
  return 0;
}

static int memory(void) {
  SBitmapEngineConfig config;
  SBitmapEngine      *engine;
  SMemoryStats        stats;
  double              percent = -1;
  bool                warning = true;
  uint64_t            id;

  memset(&config, 0, sizeof config);
  config.max_memory_mb = 64;
  engine = bitmap_engine_init_with_config(&config);
  CHECK(engine != NULL && bitmap_engine_get_memory_limit(engine) == 64);
  for (id = 0; id < 200000; id++) CHECK(bitmap_engine_mark_dirty(engine, id, id, (int64_t)id) == ERR_SUCCESS);
  CHECK(bitmap_engine_get_memory_stats(engine, &stats) == ERR_SUCCESS);
  CHECK(stats.current_mb > 0 && stats.current_mb <= stats.peak_mb && stats.peak_mb < 64);
  CHECK(bitmap_engine_check_memory_usage(engine, &percent, &warning) == ERR_SUCCESS);
  CHECK(percent > 0 && percent < 80 && !warning);
  bitmap_engine_cleanup_memory(engine, 1);
  CHECK(bitmap_engine_set_memory_limit(engine, 128) == ERR_SUCCESS);
  CHECK(bitmap_engine_get_memory_limit(engine) == 128);
  bitmap_engine_destroy(engine);
  return 0;
}

static int persistence(const char *path) {
  SBitmapEngineConfig config = {64, true, NULL};
  SBitmapEngine      *engine = NULL, *second = NULL;
  EBlockState         state;
  size_t              damaged = 1;

  config.persistence_path = path;
  CHECK(bitmap_engine_open(&config, &engine) == ERR_SUCCESS);
  CHECK(bitmap_engine_open(&config, &second) == ERR_LOCKED && second == NULL);
  CHECK(bitmap_engine_mark_dirty(engine, 42, 1, 2) == ERR_SUCCESS);
  CHECK(bitmap_engine_sync(engine) == ERR_SUCCESS);
  bitmap_engine_destroy(engine);

  CHECK(bitmap_engine_open(&config, &engine) == ERR_SUCCESS);
  CHECK(bitmap_engine_get_block_state(engine, 42, &state) == ERR_SUCCESS && state == BLOCK_STATE_DIRTY);
  CHECK(bitmap_engine_get_damaged_ranges(engine, NULL, 0, &damaged) == ERR_SUCCESS && damaged == 0);
  CHECK(bitmap_engine_acknowledge_damage(engine) == ERR_SUCCESS);
  bitmap_engine_destroy(engine);
  return 0;
}

/* An engine whose files were destroyed: of all blocks there are, it is not known which changed. */
static SBitmapEngine *destroyed_files(const char *path) {
  const char         *names[2] = {"MANIFEST", "MANIFEST.copy"};
  SBitmapEngineConfig config = {64, true, path};
  SBitmapEngine      *engine = NULL;
  char                name[4200];
  for (int n = 0; n < 2; n++) {
    snprintf(name, sizeof name, "%s/%s", path, names[n]);
    FILE *file = fopen(name, "w");
    if (file == NULL || fputs("destroyed", file) < 0 || fclose(file) != 0) return NULL;
  }
  return bitmap_engine_open(&config, &engine) == ERR_SUCCESS ? engine : NULL;
}

/* Only what was listed is acknowledged: by the pair without tokens what its handle listed, else what the token says. */
static int damage(const char *path) {
  SBitmapEngine *engine = destroyed_files(path);
  SDamagedRange  range = {1, 2};
  size_t         count = 0;
  uint64_t       token = 7;

  CHECK(engine != NULL);
  CHECK(bitmap_engine_acknowledge_damage(engine) == ERR_SUCCESS); /* nothing was listed */
  CHECK(bitmap_engine_get_damaged_ranges(engine, NULL, 0, &count) == ERR_SUCCESS && count == 1);
  CHECK(bitmap_engine_acknowledge_damage(engine) == ERR_SUCCESS); /* only counted */
  CHECK(bitmap_engine_get_damaged_ranges_with_token(engine, &range, 1, &count, &token) == ERR_SUCCESS && count == 1);
  CHECK(range.first_block_id == 0 && range.last_block_id == UINT64_MAX && token != 7);
  CHECK(bitmap_engine_acknowledge_damage(engine) == ERR_SUCCESS); /* somebody else's list */
  CHECK(bitmap_engine_get_damaged_ranges(engine, &range, 1, &count) == ERR_SUCCESS && count == 1);
  CHECK(bitmap_engine_acknowledge_damage(engine) == ERR_SUCCESS);
  CHECK(bitmap_engine_get_damaged_ranges(engine, &range, 1, &count) == ERR_SUCCESS && count == 0);
  bitmap_engine_destroy(engine);

  CHECK((engine = destroyed_files(path)) != NULL);
  CHECK(bitmap_engine_get_damaged_ranges_with_token(engine, NULL, 0, &count, &token) == ERR_SUCCESS && count == 1);
  CHECK(bitmap_engine_acknowledge_damage_with_token(engine, token) == ERR_SUCCESS); /* of a list of nothing */
  CHECK(bitmap_engine_get_damaged_ranges_with_token(engine, &range, 1, &count, &token) == ERR_SUCCESS && count == 1);
  CHECK(bitmap_engine_acknowledge_damage_with_token(engine, token + 1) == ERR_INVALID_PARAM);
  CHECK(bitmap_engine_acknowledge_damage_with_token(engine, token) == ERR_SUCCESS);
  CHECK(bitmap_engine_acknowledge_damage_with_token(engine, token) == ERR_SUCCESS);
  CHECK(bitmap_engine_get_damaged_ranges(engine, NULL, 0, &count) == ERR_SUCCESS && count == 0);
  bitmap_engine_destroy(engine);
  return 0;
}

int main(int argc, char **argv) {
  char other[4096];
  if (argc != 2) {
    fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
    return 2;
  }
  snprintf(other, sizeof other, "%s-2", argv[1]);
  return marks_and_lookups() || batches_and_cursors() || deleted() || memory() || persistence(argv[1]) || damage(argv[1]) ||
         given_back(other);
}
