/* What a careless caller gets from bitmap_engine.h: documented codes, no crash, no write past the end. */
#include "bitmap_engine.h"
#include "check.h"

#include <stdio.h>
#include <string.h>

static int null_everywhere(void) {
  SBitmapEngine      *engine = bitmap_engine_init();
  SBitmapEngine      *opened = engine;
  SBitmapCursor      *cursor = NULL;
  SBitmapEngineConfig config = {0, false, NULL};
  SBlockMetadata      metadata;
  EBlockState         state;
  SMemoryStats        stats;
  double              percent;
  bool                warning;
  uint64_t            id = 0;
  size_t              count = 7;

  bitmap_engine_destroy(NULL);
  bitmap_cursor_close(NULL);
  bitmap_engine_get_stats(NULL, &id, &id, &id, &id);
  bitmap_engine_get_stats(engine, NULL, NULL, NULL, NULL);
  CHECK(bitmap_engine_init_with_config(NULL) == NULL);
  CHECK(bitmap_engine_init_with_config(&config) == NULL); /* limit 0 */
  CHECK(bitmap_engine_open(&config, &opened) == ERR_INVALID_PARAM && opened == NULL);
  CHECK(bitmap_engine_open(&config, NULL) == ERR_INVALID_PARAM);
  config.max_memory_mb = 16;
  config.persistence_enabled = true;
  CHECK(bitmap_engine_open(&config, &opened) == ERR_INVALID_PARAM); /* path NULL */
  config.persistence_path = "";
  CHECK(bitmap_engine_open(&config, &opened) == ERR_INVALID_PARAM);
  config.persistence_path = "\xff\xfe";
  CHECK(bitmap_engine_open(&config, &opened) == ERR_INVALID_PARAM);
  config.persistence_path = "/dev/null/engine";
  CHECK(bitmap_engine_open(&config, &opened) == ERR_IO);

  CHECK(bitmap_engine_sync(NULL) == ERR_INVALID_PARAM);
  CHECK(bitmap_engine_mark_dirty(NULL, 1, 1, 1) == ERR_INVALID_PARAM);
  CHECK(bitmap_engine_mark_new(NULL, 1, 1, 1) == ERR_INVALID_PARAM);
  CHECK(bitmap_engine_mark_deleted(NULL, 1, 1, 1) == ERR_INVALID_PARAM);
  CHECK(bitmap_engine_clear_block(NULL, 1) == ERR_INVALID_PARAM);
  CHECK(bitmap_engine_mark_dirty_batch(NULL, NULL, 0, NULL) == ERR_INVALID_PARAM);
  CHECK(bitmap_engine_mark_dirty_batch(NULL, NULL, 0, &count) == ERR_INVALID_PARAM && count == 0);
  count = 7;
  CHECK(bitmap_engine_mark_dirty_batch(engine, NULL, 3, NULL) == ERR_INVALID_PARAM);
  CHECK(bitmap_engine_mark_new_batch(engine, NULL, SIZE_MAX, NULL) == ERR_INVALID_PARAM);
  CHECK(bitmap_engine_mark_deleted_batch(engine, NULL, 0, NULL) == ERR_SUCCESS);
  CHECK(bitmap_engine_clear_batch(engine, NULL, 1, &count) == ERR_INVALID_PARAM && count == 0);
  CHECK(bitmap_engine_clear_batch(engine, &id, SIZE_MAX, &count) == ERR_INVALID_PARAM);
  CHECK(bitmap_engine_get_block_state(engine, 1, NULL) == ERR_INVALID_PARAM);
  CHECK(bitmap_engine_get_block_state(NULL, 1, &state) == ERR_INVALID_PARAM);
  CHECK(bitmap_engine_get_block_metadata(engine, 1, NULL) == ERR_INVALID_PARAM);
  CHECK(bitmap_engine_get_block_metadata(NULL, 1, &metadata) == ERR_INVALID_PARAM);
  CHECK(bitmap_engine_get_dirty_blocks_by_time(NULL, 0, 1, &id, 1) == 0);
  CHECK(bitmap_engine_last_query_error() == ERR_INVALID_PARAM);
  CHECK(bitmap_engine_get_dirty_blocks_by_wal(engine, 0, 1, NULL, 1) == 0);
  CHECK(bitmap_engine_last_query_error() == ERR_INVALID_PARAM);
  CHECK(bitmap_engine_open_cursor_by_time(NULL, 0, 1, &cursor) == ERR_INVALID_PARAM && cursor == NULL);
  CHECK(bitmap_engine_open_cursor_by_wal(engine, 0, 1, NULL) == ERR_INVALID_PARAM);
  CHECK(bitmap_cursor_next(NULL, &id, 1, &count) == ERR_INVALID_PARAM && count == 0);
  CHECK(bitmap_engine_open_cursor_by_wal(engine, 0, 1, &cursor) == ERR_SUCCESS);
  CHECK(bitmap_cursor_next(cursor, NULL, 1, &count) == ERR_INVALID_PARAM);
  CHECK(bitmap_cursor_next(cursor, &id, 0, &count) == ERR_INVALID_PARAM);
  CHECK(bitmap_cursor_next(cursor, &id, 1, NULL) == ERR_INVALID_PARAM);
  bitmap_cursor_close(cursor);
  CHECK(bitmap_engine_get_memory_stats(engine, NULL) == ERR_INVALID_PARAM);
  CHECK(bitmap_engine_get_memory_stats(NULL, &stats) == ERR_INVALID_PARAM);
  CHECK(bitmap_engine_cleanup_memory(NULL, 0) == 0);
  CHECK(bitmap_engine_check_memory_usage(engine, NULL, &warning) == ERR_INVALID_PARAM);
  CHECK(bitmap_engine_check_memory_usage(engine, &percent, NULL) == ERR_INVALID_PARAM);
  CHECK(bitmap_engine_set_memory_limit(NULL, 1) == ERR_INVALID_PARAM);
  CHECK(bitmap_engine_set_memory_limit(engine, 0) == ERR_INVALID_PARAM);
  CHECK(bitmap_engine_get_memory_limit(NULL) == 0);
  CHECK(bitmap_engine_get_damaged_ranges(engine, NULL, 1, &count) == ERR_INVALID_PARAM);
  CHECK(bitmap_engine_get_damaged_ranges(engine, NULL, 0, NULL) == ERR_INVALID_PARAM);
  CHECK(bitmap_engine_acknowledge_damage(NULL) == ERR_INVALID_PARAM);
  CHECK(bitmap_engine_get_damaged_ranges_with_token(NULL, NULL, 0, &count, &id) == ERR_INVALID_PARAM);
  CHECK(bitmap_engine_get_damaged_ranges_with_token(engine, NULL, 0, &count, NULL) == ERR_INVALID_PARAM);
  CHECK(bitmap_engine_acknowledge_damage_with_token(NULL, 0) == ERR_INVALID_PARAM);
  CHECK(bitmap_engine_acknowledge_damage_with_token(engine, 1) == ERR_INVALID_PARAM); /* no list came with it */
  bitmap_engine_destroy(engine);
  return 0;
}

static int extreme_ranges(void) {
  SBitmapEngine *engine = bitmap_engine_init();
  uint64_t       ids[3] = {77, 77, 77};

  CHECK(bitmap_engine_mark_dirty(engine, UINT64_MAX, UINT64_MAX, INT64_MIN) == ERR_SUCCESS);
  CHECK(bitmap_engine_mark_dirty(engine, 0, 0, INT64_MAX) == ERR_SUCCESS);
  CHECK(bitmap_engine_get_dirty_blocks_by_time(engine, INT64_MIN, INT64_MAX, ids, 3) == 2);
  CHECK(ids[0] == UINT64_MAX && ids[1] == 0 && ids[2] == 77);
  CHECK(bitmap_engine_get_dirty_blocks_by_wal(engine, 0, UINT64_MAX, ids, 1) == 1); /* never past max_count */
  CHECK(ids[0] == 0 && ids[1] == 0 && ids[2] == 77);
  CHECK(bitmap_engine_get_dirty_blocks_by_time(engine, INT64_MIN, INT64_MIN, ids, 3) == 1 && ids[0] == UINT64_MAX);
  CHECK(bitmap_engine_get_dirty_blocks_by_time(engine, INT64_MAX, INT64_MIN, ids, 3) == 0);
  CHECK(bitmap_engine_get_dirty_blocks_by_wal(engine, UINT64_MAX, 0, ids, 3) == 0);
  CHECK(bitmap_engine_get_dirty_blocks_by_wal(engine, 0, UINT64_MAX, ids, 0) == 0);
  CHECK(bitmap_engine_get_dirty_blocks_by_wal(engine, 0, UINT64_MAX, NULL, 0) == 0);
  CHECK(bitmap_engine_last_query_error() == ERR_SUCCESS);
  bitmap_engine_destroy(engine);
  return 0;
}

static int bad_enums(void) {
  /* Every pair of states, in the order CLEAN, DIRTY, NEW, DELETED. */
  static const int allowed[4][4] = {{1, 1, 1, 1}, {1, 1, 0, 1}, {1, 0, 1, 1}, {1, 0, 0, 1}};
  int from, to;

  for (from = 0; from < 4; from++) {
    for (to = 0; to < 4; to++) {
      int32_t expected = allowed[from][to] ? ERR_SUCCESS : ERR_INVALID_STATE_TRANS;
      CHECK(bitmap_engine_validate_state_transition((EBlockState)from, (EBlockState)to) == expected);
      CHECK(strlen(bitmap_engine_get_state_transition_error((EBlockState)from, (EBlockState)to)) > 0);
    }
  }
  CHECK(bitmap_engine_validate_state_transition((EBlockState)4, BLOCK_STATE_CLEAN) == ERR_INVALID_PARAM);
  CHECK(bitmap_engine_validate_state_transition(BLOCK_STATE_CLEAN, (EBlockState)-1) == ERR_INVALID_PARAM);
  CHECK(strlen(bitmap_engine_get_state_transition_error((EBlockState)99, BLOCK_STATE_NEW)) > 0);
  CHECK(strcmp(bitmap_strerror(ERR_SUCCESS), "success") == 0);
  CHECK(strcmp(bitmap_strerror(12345), "unknown code") == 0);
  CHECK(strcmp(bitmap_strerror(ERR_MEMORY_FULL), bitmap_strerror(ERR_IO)) != 0);
  return 0;
}

int main(void) { return null_everywhere() || extreme_ranges() || bad_enums(); }
