/* Every function of taosx_plugin_interface.h, in a library that is loaded as taosX does.
 *   taosx_plugin LIBRARY WORK_DIR */
#include "taosx_plugin_interface.h"

#include "check.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

static const char *(*name_of)(void), *(*version_of)(void), *(*capabilities_of)(void), *(*last_error)(void);
static int (*init)(void), (*down)(void), (*start)(void), (*stop)(void);
static int (*configure)(const TaosX_Config *), (*on_event)(const TaosX_BlockEvent *), (*get_stats)(TaosX_PluginStats *);
static int (*dirty_blocks)(uint64_t *, size_t, size_t *);

static int load(const char *path) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) fprintf(stderr, "%s\n", dlerror());
  CHECK(library != NULL);
#define FIND(place, name)                                \
  do {                                                   \
    *(void **)&place = dlsym(library, "taosx_plugin_" name); \
    CHECK(place != NULL);                                \
  } while (0)
  FIND(name_of, "get_name");
  FIND(version_of, "get_version");
  FIND(capabilities_of, "get_capabilities");
  FIND(last_error, "last_error");
  FIND(init, "init");
  FIND(down, "shutdown");
  FIND(start, "start");
  FIND(stop, "stop");
  FIND(configure, "configure");
  FIND(on_event, "on_block_event");
  FIND(get_stats, "get_stats");
  FIND(dirty_blocks, "get_dirty_blocks");
  return 0;
}

static int raise_event(TaosX_EventType type, uint64_t block, int64_t wal) {
  TaosX_BlockEvent event;
  event.block_id = block;
  event.wal_offset = wal;
  event.timestamp_ns = wal;
  event.event_type = type;
  return on_event(&event);
}

static int set(const char *key, const char *value) {
  TaosX_KVPair pair;
  TaosX_Config config = {NULL, 1};
  pair.key = key;
  pair.value = value;
  config.items = &pair;
  return configure(&config);
}

static int life(void) {
  TaosX_PluginStats stats;
  uint64_t          ids[8];
  size_t            count = 0;

  CHECK(strcmp(name_of(), "incremental_bitmap") == 0 && strlen(version_of()) >= 5);
  CHECK(strstr(capabilities_of(), "bitmap-index") != NULL);
  CHECK(start() == TAOSX_PLUGIN_ERR_NOT_INITIALIZED && stop() == TAOSX_PLUGIN_ERR_NOT_INITIALIZED);
  CHECK(down() == TAOSX_PLUGIN_ERR_NOT_INITIALIZED && configure(NULL) == TAOSX_PLUGIN_ERR_NOT_INITIALIZED);
  CHECK(on_event(NULL) == TAOSX_PLUGIN_ERR_NOT_INITIALIZED && get_stats(&stats) == TAOSX_PLUGIN_ERR_NOT_INITIALIZED);
  CHECK(dirty_blocks(ids, 8, &count) == TAOSX_PLUGIN_ERR_NOT_INITIALIZED);

  CHECK(init() == TAOSX_PLUGIN_OK && init() == TAOSX_PLUGIN_ERR_ALREADY_RUNNING);
  CHECK(on_event(NULL) == TAOSX_PLUGIN_ERR_INVALID_ARG && get_stats(NULL) == TAOSX_PLUGIN_ERR_INVALID_ARG);
  CHECK(raise_event(TAOSX_EVENT_BLOCK_CREATE, 1, 1) == TAOSX_PLUGIN_ERR_INTERNAL); /* not started */
  CHECK(dirty_blocks(ids, 8, &count) == TAOSX_PLUGIN_ERR_INTERNAL);
  CHECK(start() == TAOSX_PLUGIN_OK && start() == TAOSX_PLUGIN_ERR_ALREADY_RUNNING);
  CHECK(set("enable", "true") == TAOSX_PLUGIN_ERR_ALREADY_RUNNING);
  CHECK(raise_event(TAOSX_EVENT_BLOCK_CREATE, 1, 10) == TAOSX_PLUGIN_OK);
  CHECK(raise_event(TAOSX_EVENT_BLOCK_UPDATE, 2, 20) == TAOSX_PLUGIN_OK);
  CHECK(raise_event(TAOSX_EVENT_BLOCK_UPDATE, 3, 30) == TAOSX_PLUGIN_OK);
  CHECK(raise_event(TAOSX_EVENT_BLOCK_FLUSH, 3, 31) == TAOSX_PLUGIN_OK);
  CHECK(raise_event((TaosX_EventType)0, 4, 1) == TAOSX_PLUGIN_ERR_INVALID_ARG);
  CHECK(raise_event((TaosX_EventType)4, 4, 1) == TAOSX_PLUGIN_ERR_INVALID_ARG);
  CHECK(raise_event(TAOSX_EVENT_BLOCK_UPDATE, 4, -1) == TAOSX_PLUGIN_ERR_INVALID_ARG);
  CHECK(stop() == TAOSX_PLUGIN_OK && stop() == TAOSX_PLUGIN_OK);
  CHECK(raise_event(TAOSX_EVENT_BLOCK_UPDATE, 4, 1) == TAOSX_PLUGIN_ERR_INTERNAL);
  CHECK(strlen(last_error()) > 0);
  CHECK(dirty_blocks(ids, 8, &count) == TAOSX_PLUGIN_OK && count == 2 && ids[0] == 1 && ids[1] == 2);
  CHECK(dirty_blocks(NULL, 0, &count) == TAOSX_PLUGIN_OK && count == 2);
  CHECK(dirty_blocks(NULL, 1, &count) == TAOSX_PLUGIN_ERR_INVALID_ARG);
  CHECK(dirty_blocks(ids, 1, NULL) == TAOSX_PLUGIN_ERR_INVALID_ARG);
  CHECK(get_stats(&stats) == TAOSX_PLUGIN_OK);
  CHECK(stats.events_processed == 4 && stats.events_dropped == 0 && stats.memory_usage_bytes > 0);
  CHECK(stats.error_count == 13 && stats.ring_buffer_usage_percent == 0 && stats.uptime_seconds < 3600);
  CHECK(strcmp(last_error(), "") == 0);
  CHECK(start() == TAOSX_PLUGIN_OK && raise_event(TAOSX_EVENT_BLOCK_UPDATE, 4, 40) == TAOSX_PLUGIN_OK);
  CHECK(down() == TAOSX_PLUGIN_OK); /* while it runs */
  CHECK(init() == TAOSX_PLUGIN_OK && get_stats(&stats) == TAOSX_PLUGIN_OK && stats.events_processed == 0);
  CHECK(down() == TAOSX_PLUGIN_OK);
  return 0;
}

static int settings(const char *work_dir) {
  TaosX_KVPair      pairs[4] = {{"enable_persistence", "true"}, {"persist_path", NULL}, {"memory_limit_mb", "32"},
                                {"callback_threads", "2"}};
  TaosX_Config      config = {NULL, 4};
  TaosX_PluginStats stats;
  uint64_t          ids[100], i;
  size_t            count = 0;
  char              path[1000], command[1100];

  snprintf(path, sizeof path, "%s/bitmap", work_dir);
  pairs[1].value = path;
  CHECK(init() == TAOSX_PLUGIN_OK);
  CHECK(configure(NULL) == TAOSX_PLUGIN_ERR_INVALID_ARG && configure(&config) == TAOSX_PLUGIN_ERR_INVALID_ARG);
  CHECK(set("colour", "red") == TAOSX_PLUGIN_ERR_INVALID_ARG && strstr(last_error(), "colour") != NULL);
  CHECK(set("memory_limit_mb", "0") == TAOSX_PLUGIN_ERR_INVALID_ARG && strstr(last_error(), "memory_limit_mb") != NULL);
  CHECK(set("callback_threads", "many") == TAOSX_PLUGIN_ERR_INVALID_ARG);
  CHECK(set("enable", NULL) == TAOSX_PLUGIN_ERR_INVALID_ARG && set("enable", "\xff") == TAOSX_PLUGIN_ERR_INVALID_ARG);
  CHECK(set("enable", "false") == TAOSX_PLUGIN_OK && start() == TAOSX_PLUGIN_OK);
  CHECK(raise_event(TAOSX_EVENT_BLOCK_UPDATE, 1, 1) == TAOSX_PLUGIN_ERR_INTERNAL && stop() == TAOSX_PLUGIN_OK);

  config.items = pairs;
  CHECK(configure(&config) == TAOSX_PLUGIN_OK && start() == TAOSX_PLUGIN_OK);
  CHECK(raise_event(TAOSX_EVENT_BLOCK_UPDATE, 42, 7) == TAOSX_PLUGIN_OK && down() == TAOSX_PLUGIN_OK);
  CHECK(init() == TAOSX_PLUGIN_OK && configure(&config) == TAOSX_PLUGIN_OK && start() == TAOSX_PLUGIN_OK);
  CHECK(dirty_blocks(ids, 100, &count) == TAOSX_PLUGIN_OK && count == 1 && ids[0] == 42); /* it was kept */
  CHECK(stop() == TAOSX_PLUGIN_OK);

  /* Beyond max_blocks: dropped as events, but not forgotten. */
  CHECK(set("max_blocks", "10") == TAOSX_PLUGIN_OK && start() == TAOSX_PLUGIN_OK);
  for (i = 0; i < 15; i++) CHECK(raise_event(TAOSX_EVENT_BLOCK_UPDATE, i, (int64_t)i) == TAOSX_PLUGIN_OK);
  CHECK(raise_event(TAOSX_EVENT_BLOCK_FLUSH, 99, 1) == TAOSX_PLUGIN_OK); /* was never marked: clean, and needs no room */
  CHECK(stop() == TAOSX_PLUGIN_OK && get_stats(&stats) == TAOSX_PLUGIN_OK);
  CHECK(stats.events_processed == 11 && stats.events_dropped == 5);
  /* The others are in a range, which nobody must miss. */
  CHECK(dirty_blocks(ids, 100, &count) == TAOSX_PLUGIN_ERR_INTERNAL && count == 10 && ids[9] == 9);
  CHECK(strstr(last_error(), "from block 10 to 14") != NULL);
  CHECK(down() == TAOSX_PLUGIN_OK);

  /* What can't be written is not given up for other settings. */
  snprintf(path, sizeof path, "%s/lost", work_dir);
  CHECK(init() == TAOSX_PLUGIN_OK && configure(&config) == TAOSX_PLUGIN_OK && start() == TAOSX_PLUGIN_OK);
  CHECK(raise_event(TAOSX_EVENT_BLOCK_UPDATE, 42, 7) == TAOSX_PLUGIN_OK);
  snprintf(command, sizeof command, "rm -r '%s'", path);
  CHECK(system(command) == 0 && stop() == TAOSX_PLUGIN_ERR_INTERNAL);
  CHECK(set("max_blocks", "10") == TAOSX_PLUGIN_ERR_INTERNAL);
  CHECK(dirty_blocks(ids, 100, &count) == TAOSX_PLUGIN_OK && count == 1 && ids[0] == 42);
  CHECK(down() == TAOSX_PLUGIN_ERR_INTERNAL);
  return 0;
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  return load(argv[1]) || life() || settings(argv[2]);
}
