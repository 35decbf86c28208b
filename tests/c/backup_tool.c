/*
 * The tool of incremental_backup_tool.h, and the shorthands of plugin_api.h.
 *
 *   backup_tool misuse SCRIPT                             without a server
 *   backup_tool backup HOST PORT DATABASE OUT CACHE       one backup; prints the statistics
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "incremental_backup_tool.h"
#include "observability.h"
#include "plugin_api.h"

#define CHECK(condition)                                                                              \
  do {                                                                                                \
    if (!(condition)) {                                                                               \
      fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, incremental_backup_tool_error()); \
      exit(1);                                                                                        \
    }                                                                                                 \
  } while (0)

static SIncrementalBackupConfig good(void) {
  SIncrementalBackupConfig config;
  memset(&config, 0, sizeof config);
  config.source_host = "$(touch x)";
  config.source_port = 6030;
  config.database = "db";
  config.backup_path = "backups";
  config.bitmap_cache_path = "cache";
  return config;
}

static void refused(SIncrementalBackupConfig config, const char *word) {
  CHECK(incremental_backup_tool_create(&config) == NULL);
  CHECK(strstr(incremental_backup_tool_error(), word) != NULL);
}

static void misuse(const char *script) {
  SIncrementalBackupConfig config = good();
  uint64_t                 total = 9, failed = 9;
  CHECK(incremental_backup_tool_create(NULL) == NULL);
  config.source_host = NULL;
  refused(config, "source_host");
  config = good(), config.database = "";
  refused(config, "database is empty");
  config = good(), config.backup_path = "\xff";
  refused(config, "UTF-8");
  config = good(), config.bitmap_cache_path = NULL;
  refused(config, "bitmap_cache_path");
  config = good(), config.source_port = 65536;
  refused(config, "65536");
  config = good(), config.since_timestamp = -1;
  refused(config, "since_timestamp");
  config = good(), config.batch_size = 1025;
  refused(config, "batch_size");
  config = good(), config.enable_encryption = true;
  refused(config, "enable_encryption");

  incremental_backup_tool_destroy(NULL);
  CHECK(incremental_backup_tool_start(NULL) == ERR_INVALID_PARAM);
  CHECK(incremental_backup_tool_backup(NULL, 0) == ERR_INVALID_PARAM);
  CHECK(incremental_backup_tool_stop(NULL) == ERR_INVALID_PARAM);
  CHECK(incremental_backup_tool_get_stats(NULL, &total, NULL, NULL) == ERR_INVALID_PARAM && total == 9);
  CHECK(incremental_backup_tool_generate_taosdump_script(NULL, script) == ERR_INVALID_PARAM);

  config = good();
  SIncrementalBackupTool *tool = incremental_backup_tool_create(&config);
  CHECK(tool != NULL && incremental_backup_tool_error()[0] == '\0');
  CHECK(incremental_backup_tool_backup(tool, 0) == ERR_NOT_STARTED);
  CHECK(strstr(incremental_backup_tool_error(), "start") != NULL);
  setenv("TDENGINE_CONFIG_PATH", "/nonexistent.json", 1);
  CHECK(incremental_backup_tool_start(tool) == ERR_CONFIG);
  CHECK(strstr(incremental_backup_tool_error(), "/nonexistent.json") != NULL);
  setenv("TDENGINE_CONFIG_PATH", getenv("ENCRYPTED"), 1);
  CHECK(incremental_backup_tool_start(tool) == ERR_CONFIG);
  CHECK(incremental_backup_tool_generate_taosdump_script(tool, script) == ERR_CONFIG);
  CHECK(strstr(incremental_backup_tool_error(), "backup.encryption is true") != NULL);
  CHECK(fopen(script, "r") == NULL);
  unsetenv("TDENGINE_CONFIG_PATH");
  CHECK(incremental_backup_tool_start(tool) == ERR_SERVER); /* no library, or no such host */
  CHECK(incremental_backup_tool_error()[0] != '\0');
  CHECK(incremental_backup_tool_get_stats(tool, &total, NULL, &failed) == ERR_SUCCESS && total == 0 && failed == 0);
  CHECK(incremental_backup_tool_stop(tool) == ERR_SUCCESS && incremental_backup_tool_stop(tool) == ERR_SUCCESS);
  CHECK(incremental_backup_tool_generate_taosdump_script(tool, NULL) == ERR_INVALID_PARAM);
  CHECK(incremental_backup_tool_generate_taosdump_script(tool, "/nonexistent/x.sh") == ERR_IO);
  CHECK(incremental_backup_tool_generate_taosdump_script(tool, script) == ERR_SUCCESS);
  incremental_backup_tool_destroy(tool);

  /* The shorthands are the members of the table. */
  SBackupPluginInterface *plugin = backup_plugin_get_interface();
  SBackupStats            stats;
  uint64_t                id;
  SIncrementalBlock       block;
  CHECK(plugin->get_dirty_blocks == backup_plugin_get_dirty_blocks);
  CHECK(backup_plugin_get_stats(&stats) == ERR_NOT_STARTED && backup_plugin_reset_stats() == ERR_NOT_STARTED);
  CHECK(plugin->init("{}") == ERR_SUCCESS && backup_plugin_get_stats(&stats) == ERR_SUCCESS);
  CHECK(backup_plugin_reset_stats() == ERR_SUCCESS);
  CHECK(backup_plugin_get_dirty_blocks(0, UINT64_MAX, &id, 1) == 0);
  CHECK(backup_plugin_get_incremental_blocks(0, UINT64_MAX, &block, 1) == 0);
  CHECK(backup_plugin_estimate_backup_size(0, UINT64_MAX) == 0);
  if (getenv("RECORDED") != NULL) {
    char               settings[4096];
    SIncrementalBlock *blocks;
    uint32_t           count = 0;
    snprintf(settings, sizeof settings, "{\"source\": {\"data_dirs\": [\"%s\"], \"database\": \"sdb\"}}", getenv("RECORDED"));
    CHECK(plugin->init(settings) == ERR_SUCCESS);
    int32_t code = plugin->detect_incremental_blocks(NULL, 0, &blocks, &count);
    CHECK((code == ERR_SUCCESS || code == ERR_BACKUP_INCOMPLETE) && count > 0);
    CHECK(backup_plugin_get_dirty_blocks(0, UINT64_MAX, &id, 1) == 1);
    CHECK(backup_plugin_get_incremental_blocks(0, UINT64_MAX, &block, 1) == 1 && block.block_id == id);
    CHECK(plugin->get_stats(&stats) == ERR_SUCCESS && plugin->error()[0] == '\0');
    CHECK(backup_plugin_estimate_backup_size(0, UINT64_MAX) == 0 && strstr(plugin->error(), "server") != NULL);
    plugin->free_blocks(blocks, count);
  }
  plugin->destroy();
  for (int code = -1201; code >= -1209; code--) CHECK(strcmp(bitmap_strerror(code), "unknown code") != 0);
}

static void backup(char **arguments) {
  SIncrementalBackupConfig config = good();
  uint64_t                 total, processed, failed;
  config.source_host = arguments[0];
  config.source_port = atoi(arguments[1]);
  config.database = arguments[2];
  config.backup_path = arguments[3];
  config.bitmap_cache_path = arguments[4];
  config.enable_compression = true;
  SIncrementalBackupTool *tool = incremental_backup_tool_create(&config);
  CHECK(tool != NULL);
  CHECK(incremental_backup_tool_start(tool) == ERR_SUCCESS);
  CHECK(incremental_backup_tool_start(tool) == ERR_SUCCESS);
  CHECK(incremental_backup_tool_backup(tool, -1) == ERR_INVALID_PARAM);
  CHECK(incremental_backup_tool_backup(tool, INT64_MAX) == ERR_DETECT); /* in the future */
  SObservabilityMetrics metrics;
  update_observability_metrics();
  CHECK(get_observability_metrics(&metrics) == ERR_SUCCESS && metrics.last_backup_bytes == 0);
  CHECK(incremental_backup_tool_backup(tool, 0) == ERR_SUCCESS);
  update_observability_metrics();
  CHECK(get_observability_metrics(&metrics) == ERR_SUCCESS);
  CHECK(metrics.last_backup_bytes > 0 && metrics.last_backup_duration_ms > 0);
  CHECK(incremental_backup_tool_get_stats(tool, &total, &processed, &failed) == ERR_SUCCESS);
  CHECK(total == processed && failed == 0);
  CHECK(incremental_backup_tool_stop(tool) == ERR_SUCCESS);
  CHECK(incremental_backup_tool_backup(tool, 0) == ERR_NOT_STARTED);
  CHECK(incremental_backup_tool_start(tool) == ERR_SUCCESS);
  incremental_backup_tool_destroy(tool);
  printf("blocks %" PRIu64 "\n", total);
}

int main(int argc, char **argv) {
  if (argc == 3 && strcmp(argv[1], "misuse") == 0) {
    misuse(argv[2]);
  } else if (argc == 7 && strcmp(argv[1], "backup") == 0) {
    backup(argv + 2);
  } else {
    return 2;
  }
  return 0;
}
