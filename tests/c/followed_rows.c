/*
 * A host that follows a server, reads the rows of what changed, and lets a coordinator archive them.
 *
 *   followed_rows DATA_DIR DATABASE WORK_DIR             follows until now, and keeps the position
 *   followed_rows DATA_DIR DATABASE WORK_DIR OUT KEY     goes on from there; the rows of each block go to
 *                                                        OUT/<id>.rows, and archives of all of them to OUT
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "backup_coordinator.h"
#include "event_interceptor.h"
#include "storage_engine_interface.h"

#define CHECK(condition)                                                                              \
  do {                                                                                                \
    if (!(condition)) {                                                                               \
      fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, storage_engine_last_error()); \
      exit(1);                                                                                        \
    }                                                                                                 \
  } while (0)

static void save(const char *out, uint64_t block) {
  char     path[4200];
  void    *data = NULL;
  uint32_t size = 0;
  CHECK(read_data_block(block, &data, &size) == ERR_SUCCESS && data != NULL && size > 0);
  snprintf(path, sizeof path, "%s/%" PRIu64 ".rows", out, block);
  FILE *file = fopen(path, "w");
  CHECK(file != NULL && fwrite(data, 1, size, file) == size && fclose(file) == 0);
  free(data);
}

int main(int argc, char **argv) {
  char                   position[4200], bitmap[4200];
  uint64_t               ids[10000];
  STdengineStorageConfig follow = {argv[1], argv[2], position, 100};
  if (argc != 4 && argc != 6) return 2;
  snprintf(position, sizeof position, "%s/position", argv[3]);
  snprintf(bitmap, sizeof bitmap, "%s/bitmap", argv[3]);

  SBitmapEngineConfig     engine_config = {64, true, bitmap};
  SEventInterceptorConfig config = {true, NULL, NULL, 0, 2};
  SBitmapEngine          *engine = bitmap_engine_init_with_config(&engine_config);
  SEventInterceptor      *interceptor = event_interceptor_init(&config, engine);
  CHECK(engine != NULL && interceptor != NULL);
  CHECK(tdengine_storage_configure(&follow) == ERR_SUCCESS);
  CHECK(event_interceptor_set_storage_interface(interceptor, get_storage_engine_interface("tdengine")) == ERR_SUCCESS);
  CHECK(event_interceptor_install_storage_interception(interceptor) == ERR_SUCCESS);
  CHECK(tdengine_storage_catch_up(120000) == ERR_SUCCESS);

  if (argc == 6) {
    uint32_t count = bitmap_engine_get_dirty_blocks_by_wal(engine, 0, UINT64_MAX, ids, 10000), gone = 0;
    CHECK(count > 0 && count < 10000);
    for (uint32_t n = 0; n < count; n++) {
      void    *data;
      uint32_t size;
      /* Of a table that was dropped there are no rows. */
      int32_t code = read_data_block(ids[n], &data, &size);
      if (code == ERR_BLOCK_NOT_FOUND) {
        gone++;
        continue;
      }
      CHECK(code == ERR_SUCCESS);
      free(data);
      save(argv[4], ids[n]);
    }
    SBackupConfig backup = {3, 2, 100, 600000, true, true, argv[4], NULL, true};
    SBackupStats  stats;
    SBackupCoordinator *coordinator = backup_coordinator_init(engine, &backup);
    CHECK(coordinator != NULL && backup_coordinator_set_key_file(coordinator, argv[5]) == ERR_SUCCESS);
    CHECK(backup_coordinator_estimate_backup_size(coordinator, 0, UINT64_MAX) > 0);
    int32_t code = backup_coordinator_export(coordinator);
    if (code != ERR_SUCCESS) fprintf(stderr, "export: %d %s\n", (int)code, backup_coordinator_error());
    CHECK(code == ERR_SUCCESS);
    CHECK(backup_coordinator_get_stats(coordinator, &stats) == ERR_SUCCESS && stats.processed_blocks == count);
    backup_coordinator_destroy(coordinator);
    for (uint32_t n = 0; n < count; n++) CHECK(bitmap_engine_clear_block(engine, ids[n]) == ERR_SUCCESS);
    printf("blocks %" PRIu32 " gone %" PRIu32 "\n", count, gone);
  }
  event_interceptor_destroy(interceptor);
  bitmap_engine_destroy(engine);
  return 0;
}
