/* Four writers and two readers on one engine: no mark is lost, readers see whole marks. */
#include "bitmap_engine.h"

#include <pthread.h>
#include <stdio.h>

#define WRITERS 4
#define BLOCKS 20000

static SBitmapEngine *engine;

static void *writer(void *argument) {
  uint64_t first = *(const uint64_t *)argument, id;
  for (id = first; id < BLOCKS; id += WRITERS) {
    if (bitmap_engine_mark_dirty(engine, id << 14, id, -(int64_t)id) != ERR_SUCCESS) return argument;
  }
  return NULL;
}

static void *reader(void *argument) {
  uint64_t       ids[100], total, dirty, fresh, deleted;
  SBlockMetadata metadata;
  int            round;
  for (round = 0; round < 300; round++) {
    uint32_t found = bitmap_engine_get_dirty_blocks_by_wal(engine, 0, BLOCKS, ids, 100), i;
    for (i = 0; i < found; i++) {
      if (bitmap_engine_get_block_metadata(engine, ids[i], &metadata) != ERR_SUCCESS) return argument;
      if (metadata.timestamp != -(int64_t)metadata.wal_offset) return argument;
      if (i > 0 && ids[i] <= ids[i - 1]) return argument;
    }
    bitmap_engine_get_stats(engine, &total, &dirty, &fresh, &deleted);
    if (total != dirty || fresh != 0 || deleted != 0) return argument;
  }
  return NULL;
}

int main(void) {
  pthread_t threads[WRITERS + 2];
  uint64_t  numbers[WRITERS + 2], total = 0;
  int       i, failed = 0;

  engine = bitmap_engine_init();
  for (i = 0; i < WRITERS + 2; i++) {
    numbers[i] = (uint64_t)i;
    if (pthread_create(&threads[i], NULL, i < WRITERS ? writer : reader, &numbers[i]) != 0) return 2;
  }
  for (i = 0; i < WRITERS + 2; i++) {
    void *result = NULL;
    pthread_join(threads[i], &result);
    if (result != NULL) failed = 1;
  }
  bitmap_engine_get_stats(engine, &total, NULL, NULL, NULL);
  bitmap_engine_destroy(engine);
  if (failed || total != BLOCKS) {
    fprintf(stderr, "failed %d, %llu blocks\n", failed, (unsigned long long)total);
    return 1;
  }
  return 0;
}
