/*
 * A host that loads the plugin and drives a backup through its table.
 *
 *   plugin_host PLUGIN recorded DATA_DIR                             detects in recorded data; there is no server
 *   plugin_host PLUGIN backup CONFIG DATABASE SINCE_NS OUT TARGET    detects, exports and restores on a server
 *   plugin_host PLUGIN full CONFIG DATABASE SINCE_NS OUT TARGET      detects and exports to a disk that is too small
 */
#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "observability.h"
#include "plugin_api.h"

#define CHECK(condition)                                                                             \
  do {                                                                                               \
    if (!(condition)) {                                                                              \
      fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, plugin ? plugin->error() : ""); \
      exit(1);                                                                                       \
    }                                                                                                \
  } while (0)

static const SBackupPluginInterface *plugin;

/* The plugin's metrics, which has them for itself. */
static void (*update_metrics)(void);
static int32_t (*get_metrics)(SObservabilityMetrics *);

static SObservabilityMetrics metrics(void) {
  SObservabilityMetrics found;
  memset(&found, 0, sizeof found);
  update_metrics();
  if (get_metrics(&found) != ERR_SUCCESS) exit(1);
  return found;
}

static const SBackupPluginInterface *load(const char *path) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  SBackupPluginInterface *(*get)(void);
  if (library == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    exit(1);
  }
  *(void **)&get = dlsym(library, "backup_plugin_get_interface");
  CHECK(get != NULL);
  *(void **)&update_metrics = dlsym(library, "update_observability_metrics");
  *(void **)&get_metrics = dlsym(library, "get_observability_metrics");
  const SBackupPluginInterface *table = get();
  CHECK(table != NULL && table->abi_version == BACKUP_PLUGIN_ABI);
  CHECK(table->size >= sizeof(SBackupPluginInterface));
  CHECK(strcmp(table->get_plugin_name(), "incremental_bitmap") == 0);
  CHECK(table->get_plugin_version()[0] >= '0');
  CHECK(table->taosdump()->abi_version == TAOSDUMP_ENGINE_ABI);
  return table;
}

static void before_init(void) {
  SBackupStats       stats;
  SIncrementalBlock *blocks = (SIncrementalBlock *)1;
  uint64_t           id = 0;
  uint32_t           count = 7;
  plugin->destroy();
  CHECK(plugin->get_stats(&stats) == ERR_NOT_STARTED);
  CHECK(plugin->reset_stats() == ERR_NOT_STARTED);
  CHECK(plugin->get_dirty_blocks(0, UINT64_MAX, &id, 1) == 0);
  CHECK(plugin->get_incremental_blocks(0, UINT64_MAX, NULL, 0) == 0);
  CHECK(plugin->estimate_backup_size(0, UINT64_MAX) == 0);
  CHECK(plugin->detect_incremental_blocks("d", 0, &blocks, &count) == ERR_NOT_STARTED);
  CHECK(blocks == NULL && count == 0);
  CHECK(plugin->export_blocks(NULL, 0, "x") == ERR_NOT_STARTED);
  CHECK(plugin->restore_blocks("x", "y") == ERR_NOT_STARTED);
  CHECK(strstr(plugin->error(), "init") != NULL);
  CHECK(plugin->init("{\"backup\": {\"batch_size\": 0}}") == ERR_CONFIG);
  CHECK(strstr(plugin->error(), "backup.batch_size is 0") != NULL);
  CHECK(plugin->init("/nonexistent.json") == ERR_CONFIG);
  CHECK(plugin->init("\xff") == ERR_INVALID_PARAM);
  CHECK(plugin->init("{\"backup\": {\"encryption\": true, \"key_file\": \"k\"}}") == ERR_CONFIG);
  CHECK(strstr(plugin->error(), "backup.encryption") != NULL);
  CHECK(plugin->get_stats(&stats) == ERR_NOT_STARTED);
  CHECK(plugin->init("{\"plugin\": {\"name\": \"of mine\"}}") == ERR_SUCCESS);
  const char *name = plugin->get_plugin_name();
  CHECK(strcmp(name, "of mine") == 0);
  plugin->destroy();
  CHECK(strcmp(plugin->get_plugin_name(), "incremental_bitmap") == 0 && strcmp(name, "of mine") == 0);
  plugin->free_blocks(NULL, 5);
}

static void recorded(const char *data_dir) {
  char               config[4096];
  SIncrementalBlock *blocks = NULL;
  SIncrementalBlock  known[64];
  SBackupStats       stats;
  uint64_t           ids[64];
  uint32_t           count = 0, found, n;
  before_init();
  snprintf(config, sizeof config, "{\"source\": {\"data_dirs\": [\"%s\"], \"database\": \"sdb\"}}", data_dir);
  CHECK(plugin->init(config) == ERR_SUCCESS);
  CHECK(plugin->get_stats(NULL) == ERR_INVALID_PARAM);
  CHECK(plugin->get_stats(&stats) == ERR_SUCCESS && stats.total_blocks == 0 && stats.start_time == 0);
  CHECK(plugin->get_dirty_blocks(0, UINT64_MAX, ids, 64) == 0);
  CHECK(plugin->export_blocks(NULL, 0, "x") == ERR_NOT_DETECTED);

  CHECK(plugin->detect_incremental_blocks(NULL, 0, NULL, &count) == ERR_INVALID_PARAM);
  CHECK(plugin->detect_incremental_blocks("", 0, &blocks, &count) == ERR_INVALID_PARAM);
  CHECK(plugin->detect_incremental_blocks("sdb", -1, &blocks, &count) == ERR_INVALID_PARAM);
  CHECK(plugin->detect_incremental_blocks("other", 0, &blocks, &count) == ERR_INVALID_PARAM);
  CHECK(strstr(plugin->error(), "sdb") != NULL);
  CHECK(plugin->detect_incremental_blocks("sdb", INT64_MAX, &blocks, &count) == ERR_DETECT);
  CHECK(blocks == NULL && count == 0);

  /* Between base and the changes: 1 810 rows in 18 blocks of 18 tables. */
  CHECK(plugin->detect_incremental_blocks(NULL, INT64_C(1795242100000000000), &blocks, &count) == ERR_SUCCESS);
  CHECK(count == 18);
  uint64_t rows = 0, newest = 0;
  for (n = 0; n < count; n++) {
    rows += blocks[n].data_size;
    newest = blocks[n].wal_offset > newest ? blocks[n].wal_offset : newest;
    CHECK(blocks[n].data == NULL && blocks[n].timestamp > INT64_C(1700000000000000000));
    CHECK(n == 0 || blocks[n - 1].block_id < blocks[n].block_id);
  }
  CHECK(rows == 1810 && newest > 25);

  found = plugin->get_dirty_blocks(0, UINT64_MAX, ids, 64);
  CHECK(found == count);
  CHECK(plugin->get_incremental_blocks(0, UINT64_MAX, known, 64) == count);
  for (n = 1; n < found; n++) CHECK(known[n - 1].wal_offset <= known[n].wal_offset && known[n].block_id == ids[n]);
  CHECK(plugin->get_dirty_blocks(newest, newest, ids, 64) >= 1);
  CHECK(plugin->get_dirty_blocks(newest + 1, UINT64_MAX, ids, 64) == 0);
  CHECK(plugin->get_dirty_blocks(UINT64_MAX, 0, ids, 64) == 0);
  ids[3] = 42;
  CHECK(plugin->get_dirty_blocks(0, UINT64_MAX, ids, 3) == 3 && ids[3] == 42);

  /* Rows come from a server, and there is none. */
  CHECK(plugin->estimate_backup_size(0, UINT64_MAX) == 0 && strstr(plugin->error(), "server") != NULL);
  CHECK(plugin->export_blocks(blocks, count, "never-made") == ERR_SERVER);
  CHECK(strstr(plugin->error(), "host") != NULL);
  CHECK(plugin->restore_blocks("never-made", "d2") == ERR_SERVER);
  CHECK(plugin->export_blocks(NULL, 1, "never-made") == ERR_INVALID_PARAM);
  CHECK(plugin->export_blocks(blocks, count, NULL) == ERR_INVALID_PARAM);
  CHECK(plugin->restore_blocks(NULL, "d2") == ERR_INVALID_PARAM);
  blocks[0].block_id ^= 1;
  CHECK(plugin->export_blocks(blocks, count, "never-made") == ERR_NOT_DETECTED);

  CHECK(plugin->get_stats(&stats) == ERR_SUCCESS);
  CHECK(stats.total_blocks == count && stats.processed_blocks == 0 && stats.failed_blocks == count);
  CHECK(stats.start_time > 0 && stats.end_time >= stats.start_time);
  CHECK(plugin->reset_stats() == ERR_SUCCESS && plugin->get_stats(&stats) == ERR_SUCCESS);
  CHECK(stats.total_blocks == 0 && stats.failed_blocks == 0);
  plugin->free_blocks(blocks, count);
  plugin->destroy();
  CHECK(plugin->get_stats(&stats) == ERR_NOT_STARTED);
}

static void write_settings(const char *data_dir, const char *more) {
  FILE *file = fopen("settings.json", "w");
  CHECK(file != NULL && fprintf(file, "{\"source\": {\"data_dirs\": [\"%s\"]}%s", data_dir, more) > 0);
  CHECK(fclose(file) == 0);
}

/* A file that changes: what is live counts at once, the rest later, and one that can't be used not at all. The test
 * reads what is logged. */
static void reloaded(const char *data_dir) {
  SBackupStats stats;
  write_settings(data_dir, ", \"event_interceptor\": {\"buffer_size\": 5}, \"plugin\": {\"version\": \"9.9\"}}");
  CHECK(plugin->init("settings.json") == ERR_SUCCESS);
  write_settings(data_dir, ", \"log\": {\"level\": \"debug\"}, \"backup\": {\"compression\": false}}");
  CHECK(plugin->get_stats(&stats) == ERR_SUCCESS);
  write_settings(data_dir, ", \"backup\": {\"batch_size\": 0}}");
  CHECK(plugin->get_stats(&stats) == ERR_SUCCESS && plugin->get_stats(&stats) == ERR_SUCCESS);
  plugin->destroy();
}

static void full_disk(char **arguments) {
  SIncrementalBlock *blocks = NULL;
  SBackupStats       stats;
  uint32_t           count = 0;
  CHECK(plugin->init(arguments[0]) == ERR_SUCCESS);
  CHECK(plugin->detect_incremental_blocks(arguments[1], strtoll(arguments[2], NULL, 10), &blocks, &count) == ERR_SUCCESS);
  CHECK(plugin->export_blocks(blocks, count, arguments[3]) == ERR_EXPORT && strstr(plugin->error(), "No space") != NULL);
  CHECK(plugin->get_stats(&stats) == ERR_SUCCESS && stats.failed_blocks == count && stats.processed_blocks == 0);
  CHECK(plugin->restore_blocks(arguments[3], arguments[4]) == ERR_RESTORE);
  CHECK(metrics().last_backup_bytes == 0);
  plugin->free_blocks(blocks, count);
  plugin->destroy();
}

static void backup(char **arguments) {
  const char        *database = arguments[1], *out = arguments[3], *target = arguments[4];
  SIncrementalBlock *blocks = NULL;
  SBackupStats       stats;
  uint32_t           count = 0;
  /* As a program that is linked to it has it, before anything else uses it. */
  CHECK(dlopen("libtaos.so", RTLD_NOW | RTLD_GLOBAL) != NULL);
  CHECK(plugin->init(arguments[0]) == ERR_SUCCESS);
  int64_t since = strtoll(arguments[2], NULL, 10);
  CHECK(plugin->detect_incremental_blocks(database, since, &blocks, &count) == ERR_SUCCESS);
  uint64_t estimate = plugin->estimate_backup_size(0, UINT64_MAX);
  CHECK(estimate > 0);
  CHECK(metrics().last_backup_bytes == 0); /* an estimate is no backup */
  CHECK(plugin->export_blocks(blocks, count, out) == ERR_SUCCESS);
  CHECK(metrics().last_backup_bytes > 0 && metrics().last_backup_duration_ms > 0);
  CHECK(plugin->export_blocks(blocks, count, out) == ERR_EXPORT); /* it is not empty */
  CHECK(plugin->get_stats(&stats) == ERR_SUCCESS);
  CHECK(stats.processed_blocks == count && stats.failed_blocks == count && stats.total_size > 0);
  CHECK(plugin->restore_blocks(out, "no_such_database") == ERR_RESTORE);
  CHECK(plugin->restore_blocks(out, target) == ERR_SUCCESS);
  CHECK(plugin->restore_blocks(out, target) == ERR_SUCCESS); /* twice is as good as once */
  plugin->free_blocks(blocks, count);

  /* An export that was cut off, in its rows and in its manifest. */
  for (int n = 0; n < 2; n++) {
    char command[9000];
    snprintf(command, sizeof command,
             "f=$(find '%s' -name '%s' | head -n 1); [ -n \"$f\" ] && cp \"$f\" kept && truncate -s -9 \"$f\"", out,
             n == 0 ? "*.avro" : "manifest.json");
    CHECK(system(command) == 0);
    CHECK(plugin->restore_blocks(out, target) == ERR_RESTORE && plugin->error()[0] != '\0');
    snprintf(command, sizeof command, "mv kept \"$(find '%s' -name '%s' | head -n 1)\"", out,
             n == 0 ? "*.avro" : "manifest.json");
    CHECK(system(command) == 0);
  }
  CHECK(plugin->restore_blocks(out, target) == ERR_SUCCESS);

  /* The same process as taosdump --incremental: another backup, of everything. */
  char port[16], dir[4096];
  snprintf(dir, sizeof dir, "%s-link", out);
  snprintf(port, sizeof port, "%s", getenv("PORT"));
  STaosdumpOption options[] = {
      {TAOSDUMP_OPTION_INCREMENTAL, NULL}, {'h', "localhost"}, {'P', port}, {'D', database}, {'o', dir}};
  uint64_t before = metrics().last_backup_bytes;
  CHECK(plugin->taosdump()->run(options, 5, NULL) == TAOSDUMP_DONE);
  CHECK(metrics().last_backup_bytes > 0 && metrics().last_backup_bytes != before);
  printf("blocks %" PRIu32 " estimate %" PRIu64 "\n", count, estimate);
  plugin->destroy();
}

int main(int argc, char **argv) {
  if (argc < 2) return 2;
  plugin = load(argv[1]);
  if (argc == 4 && strcmp(argv[2], "recorded") == 0) {
    recorded(argv[3]);
    reloaded(argv[3]);
  } else if (argc == 8 && strcmp(argv[2], "backup") == 0) {
    backup(argv + 3);
  } else if (argc == 8 && strcmp(argv[2], "full") == 0) {
    full_disk(argv + 3);
  } else {
    return 2;
  }
  puts("done");
  return 0;
}
