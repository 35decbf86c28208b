/*
 * The coordinator, from C: batches, cursors, encryption, and everything that can go wrong on the way.
 *
 *   coordinator DIRECTORY         an empty directory
 *   coordinator DIRECTORY full    an empty directory on a file system of 4 MB
 */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "backup_coordinator.h"
#include "observability.h"

#define CHECK(condition)                                                                         \
  do {                                                                                           \
    if (!(condition)) {                                                                          \
      fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, backup_coordinator_error()); \
      exit(1);                                                                                   \
    }                                                                                            \
  } while (0)

typedef struct {
  SBackupCoordinator *coordinator;
  uint64_t            bad;    /* this block and the next one can't be read */
  uint64_t            cancel; /* at this block the export is cancelled */
} Host;

static int32_t read_block(uint64_t block, SBackupSink *sink, void *user_data) {
  Host        *host = user_data;
  char         text[64];
  SBackupStats stats;
  if (host->bad != UINT64_MAX && block - host->bad < 2) return -1;
  if (block == host->cancel) {
    CHECK(backup_coordinator_cancel(host->coordinator) == ERR_SUCCESS);
    CHECK(backup_coordinator_get_stats(host->coordinator, &stats) == ERR_SUCCESS);
  }
  int size = snprintf(text, sizeof text, "the rows of block %" PRIu64, block);
  CHECK(backup_sink_write(NULL, text, 1) == ERR_INVALID_PARAM);
  CHECK(backup_sink_write(sink, NULL, 1) == ERR_INVALID_PARAM);
  CHECK(backup_sink_write(sink, text, 4) == ERR_SUCCESS);
  return backup_sink_write(sink, text + 4, (uint32_t)size - 4);
}

static void visit(const SIncrementalBlock *block, const void *data, uint32_t size, void *user_data) {
  char  expected[64];
  char *seen = user_data;
  int   length = snprintf(expected, sizeof expected, "the rows of block %" PRIu64, block->block_id);
  CHECK(size == (uint32_t)length && memcmp(data, expected, size) == 0);
  CHECK(block->wal_offset == block->block_id * 2 && block->timestamp == (int64_t)block->block_id - 10);
  CHECK(block->block_id < 20);
  seen[block->block_id]++;
}

/* Reads all archives in a directory; how many blocks there are. The last archive's path is kept. */
static int read_all(const char *directory, const char *key, char *last, size_t size) {
  char           seen[20] = {0};
  int            count = 0;
  struct dirent *entry;
  DIR           *dir = opendir(directory);
  CHECK(dir != NULL);
  while ((entry = readdir(dir)) != NULL) {
    if (strstr(entry->d_name, ".blocks") == NULL) {
      CHECK(entry->d_name[0] == '.' && strstr(entry->d_name, "archive") == NULL);
      continue;
    }
    snprintf(last, size, "%s/%s", directory, entry->d_name);
    CHECK(backup_archive_read(last, key, visit, seen) == ERR_SUCCESS);
  }
  closedir(dir);
  for (size_t n = 0; n < sizeof seen; n++) count += seen[n];
  return count;
}

static void write_file(const char *path, const char *text, mode_t mode) {
  FILE *file = fopen(path, "w");
  CHECK(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0 && chmod(path, mode) == 0);
}

static void misuse(SBitmapEngine *engine, SBackupConfig good) {
  SBackupConfig config = good;
  SBackupCursor cursor;
  SBackupStats  stats;
  CHECK(backup_coordinator_init(NULL, &good) == NULL && strstr(backup_coordinator_error(), "engine") != NULL);
  CHECK(backup_coordinator_init(engine, NULL) == NULL);
  config.batch_size = 0;
  CHECK(backup_coordinator_init(engine, &config) == NULL && strstr(backup_coordinator_error(), "batch_size") != NULL);
  config = good, config.timeout_ms = 0;
  CHECK(backup_coordinator_init(engine, &config) == NULL && strstr(backup_coordinator_error(), "timeout_ms") != NULL);
  config = good, config.backup_path = "/nonexistent";
  CHECK(backup_coordinator_init(engine, &config) == NULL && strstr(backup_coordinator_error(), "/nonexistent") != NULL);
  config.backup_path = NULL;
  CHECK(backup_coordinator_init(engine, &config) == NULL);
  config = good, config.temp_path = "/nonexistent";
  CHECK(backup_coordinator_init(engine, &config) == NULL && strstr(backup_coordinator_error(), "temp_path") != NULL);
  backup_coordinator_destroy(NULL);
  CHECK(backup_coordinator_start(NULL) == ERR_INVALID_PARAM && backup_coordinator_stop(NULL) == ERR_INVALID_PARAM);
  CHECK(backup_coordinator_cancel(NULL) == ERR_INVALID_PARAM && backup_coordinator_export(NULL) == ERR_INVALID_PARAM);
  CHECK(backup_coordinator_get_stats(NULL, &stats) == ERR_INVALID_PARAM);
  CHECK(backup_coordinator_reset_stats(NULL) == ERR_INVALID_PARAM);
  CHECK(backup_coordinator_get_cursor(NULL, &cursor) == ERR_INVALID_PARAM);
  CHECK(backup_coordinator_set_cursor(NULL, NULL) == ERR_INVALID_PARAM);
  CHECK(backup_coordinator_update_cursor(NULL, 0, 0, 0) == ERR_INVALID_PARAM);
  CHECK(backup_coordinator_set_reader(NULL, read_block, NULL) == ERR_INVALID_PARAM);
  CHECK(backup_coordinator_set_key_file(NULL, "x") == ERR_INVALID_PARAM);
  CHECK(backup_coordinator_get_dirty_blocks(NULL, 0, 1, NULL, 0) == 0);
  CHECK(backup_coordinator_get_dirty_blocks_by_time(NULL, 0, 1, NULL, 0) == 0);
  CHECK(backup_coordinator_get_incremental_blocks(NULL, 0, 1, NULL, 0) == 0);
  CHECK(backup_coordinator_estimate_backup_size(NULL, 0, 1) == 0);
  CHECK(backup_archive_read(NULL, NULL, NULL, NULL) == ERR_INVALID_PARAM);
  CHECK(backup_archive_read("/nonexistent", NULL, NULL, NULL) == ERR_IO);
}

/* Does not look at what backup_sink_write says. */
static int32_t read_too_much(uint64_t block, SBackupSink *sink, void *user_data) {
  char *text = user_data;
  (void)block;
  backup_sink_write(sink, text, 4);
  CHECK(backup_sink_write(sink, text, (1u << 30) - 3) == ERR_INVALID_PARAM);
  return ERR_SUCCESS;
}

/* A block of which only a part was taken is in no archive. */
static void never_a_part(SBitmapEngine *engine, SBackupConfig config, const char *directory) {
  SBackupCoordinator *coordinator = backup_coordinator_init(engine, &config);
  char                text[] = "rows", last[512];
  int                 before = read_all(directory, NULL, last, sizeof last);
  CHECK(coordinator != NULL && backup_coordinator_set_reader(coordinator, read_too_much, text) == ERR_SUCCESS);
  CHECK(backup_coordinator_export(coordinator) == ERR_READ && strstr(backup_coordinator_error(), "1 GiB") != NULL);
  CHECK(read_all(directory, NULL, last, sizeof last) == before);
  backup_coordinator_destroy(coordinator);
}

/* A block larger than half the disk, of bytes that can't be compressed. */
static int32_t read_large(uint64_t block, SBackupSink *sink, void *user_data) {
  uint64_t seed = block * 2654435761u + 1, words[512];
  for (int chunk = 0; chunk < *(int *)user_data; chunk++) {
    for (size_t n = 0; n < 512; n++) {
      seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
      words[n] = seed;
    }
    CHECK(backup_sink_write(sink, words, sizeof words) == ERR_SUCCESS);
  }
  return ERR_SUCCESS;
}

static int files_in(const char *directory) {
  int            count = 0;
  struct dirent *entry;
  DIR           *dir = opendir(directory);
  CHECK(dir != NULL);
  while ((entry = readdir(dir)) != NULL) count += entry->d_name[0] != '.' || strlen(entry->d_name) > 2;
  closedir(dir);
  return count;
}

/* The disk is full in the middle of the second archive: the first one is safe, nothing of the second is left, and it
 * comes when there is room. */
static void full_disk(const char *directory) {
  char          path[4096], ballast[4096];
  int           chunks = 512; /* of 4 KB */
  SBackupCursor cursor;
  SBackupStats  stats;
  SBackupConfig config;
  memset(&config, 0, sizeof config);
  config.batch_size = 1;
  config.timeout_ms = 600000;
  config.backup_path = path;
  snprintf(path, sizeof path, "%s/archives", directory);
  snprintf(ballast, sizeof ballast, "%s/ballast", directory);
  CHECK(mkdir(path, 0700) == 0);
  FILE *file = fopen(ballast, "w");
  CHECK(file != NULL);
  for (int n = 0; n < 1024; n++) CHECK(fwrite(path, 1, 1024, file) == 1024);
  CHECK(fclose(file) == 0);
  SBitmapEngine      *engine = bitmap_engine_init();
  SBackupCoordinator *c = backup_coordinator_init(engine, &config);
  CHECK(c != NULL && backup_coordinator_set_reader(c, read_large, &chunks) == ERR_SUCCESS);
  CHECK(bitmap_engine_mark_dirty(engine, 1, 1, 1) == ERR_SUCCESS && bitmap_engine_mark_dirty(engine, 2, 2, 2) == ERR_SUCCESS);
  CHECK(backup_coordinator_export(c) == ERR_IO && strstr(backup_coordinator_error(), "No space") != NULL);
  CHECK(backup_coordinator_get_cursor(c, &cursor) == ERR_SUCCESS && cursor.wal_cursor == 1 && cursor.block_count == 1);
  CHECK(files_in(path) == 1);
  CHECK(backup_coordinator_export(c) == ERR_IO && files_in(path) == 1); /* still full */
  CHECK(backup_coordinator_estimate_backup_size(c, 2, 2) == 0 && files_in(path) == 1);
  CHECK(remove(ballast) == 0);
  chunks = 256;
  CHECK(backup_coordinator_export(c) == ERR_SUCCESS && files_in(path) == 2);
  CHECK(backup_coordinator_get_stats(c, &stats) == ERR_SUCCESS && stats.processed_blocks == 2 && stats.failed_blocks == 2);
  backup_coordinator_destroy(c);
  bitmap_engine_destroy(engine);
}

int main(int argc, char **argv) {
  char              path[4096], key[4096], other[4096], last[4096] = "";
  uint64_t          ids[32], n;
  SIncrementalBlock blocks[32];
  SBackupCursor     cursor;
  SBackupStats      stats;
  Host              host = {NULL, 13, UINT64_MAX};
  SObservabilityMetrics metrics;
  if (argc == 3 && strcmp(argv[2], "full") == 0) {
    full_disk(argv[1]);
    return 0;
  }
  if (argc != 2) return 2;
  snprintf(key, sizeof key, "%s/key", argv[1]);
  snprintf(other, sizeof other, "%s/other", argv[1]);
  snprintf(path, sizeof path, "%s/archives", argv[1]);
  CHECK(mkdir(path, 0700) == 0);

  SBackupConfig config;
  memset(&config, 0, sizeof config);
  config.batch_size = 4;
  config.max_retries = 1;
  config.retry_interval_ms = 1;
  config.timeout_ms = 600000;
  config.enable_compression = true;
  config.enable_encryption = true;
  config.backup_path = path;
  SBitmapEngine *engine = bitmap_engine_init();
  misuse(engine, config);
  SBackupCoordinator *c = backup_coordinator_init(engine, &config);
  CHECK(c != NULL);
  host.coordinator = c;
  for (n = 0; n < 20; n++) CHECK(bitmap_engine_mark_dirty(engine, n, n * 2, (int64_t)n - 10) == ERR_SUCCESS);

  /* What is known without reading. */
  CHECK(backup_coordinator_get_dirty_blocks(c, 4, 10, ids, 32) == 4 && ids[0] == 2 && ids[3] == 5);
  CHECK(backup_coordinator_get_dirty_blocks_by_time(c, -10, -9, ids, 32) == 2 && ids[1] == 1);
  CHECK(backup_coordinator_get_dirty_blocks(c, 0, UINT64_MAX, ids, 3) == 3);
  CHECK(backup_coordinator_get_dirty_blocks(c, 9, 0, ids, 3) == 0);
  CHECK(backup_coordinator_get_incremental_blocks(c, 38, UINT64_MAX, blocks, 32) == 1);
  CHECK(blocks[0].block_id == 19 && blocks[0].wal_offset == 38 && blocks[0].timestamp == 9 && blocks[0].data == NULL);

  /* A reader and a key are needed. */
  CHECK(backup_coordinator_export(c) == ERR_KEY);
  write_file(key, "correct horse battery\n", 0644);
  CHECK(backup_coordinator_set_key_file(c, key) == ERR_KEY && strstr(backup_coordinator_error(), "chmod") != NULL);
  CHECK(chmod(key, 0600) == 0 && backup_coordinator_set_key_file(c, key) == ERR_SUCCESS);
  CHECK(backup_coordinator_export(c) == ERR_NOT_STARTED);
  CHECK(strstr(backup_coordinator_error(), "reader") != NULL);
  CHECK(backup_coordinator_set_reader(c, read_block, &host) == ERR_SUCCESS);

  /* Blocks 13 and 14 can't be read: every other block is safe, and the cursor is before them. */
  CHECK(backup_coordinator_export(c) == ERR_READ && strstr(backup_coordinator_error(), "block 13") != NULL);
  CHECK(strstr(backup_coordinator_error(), "block 14") != NULL && strstr(backup_coordinator_error(), "block 15") == NULL);
  CHECK(backup_coordinator_get_cursor(c, &cursor) == ERR_SUCCESS);
  CHECK(cursor.type == BACKUP_CURSOR_TYPE_WAL && cursor.wal_cursor == 25 && cursor.block_count == 18);
  CHECK(backup_coordinator_get_stats(c, &stats) == ERR_SUCCESS);
  CHECK(stats.total_blocks == 20 && stats.processed_blocks == 18 && stats.failed_blocks == 2);
  CHECK(stats.retry_count == 1 && stats.total_size > 0 && stats.end_time >= stats.start_time && stats.start_time > 0);
  CHECK(read_all(path, key, last, sizeof last) == 18);

  /* They come again, alone. Cancelled between the two; then everything. */
  CHECK(backup_coordinator_export(c) == ERR_READ && backup_coordinator_get_stats(c, &stats) == ERR_SUCCESS);
  CHECK(stats.total_blocks == 22 && stats.processed_blocks == 18 && stats.failed_blocks == 4);
  CHECK(files_in(path) == 5);
  host.bad = UINT64_MAX, host.cancel = 13;
  CHECK(backup_coordinator_export(c) == ERR_CANCELLED);
  CHECK(backup_coordinator_export(c) == ERR_NOT_STARTED);
  host.cancel = UINT64_MAX;
  CHECK(backup_coordinator_start(c) == ERR_SUCCESS && backup_coordinator_start(c) == ERR_SUCCESS);
  update_observability_metrics();
  CHECK(get_observability_metrics(&metrics) == ERR_SUCCESS && metrics.last_backup_bytes == 0); /* none succeeded */
  CHECK(backup_coordinator_export(c) == ERR_SUCCESS);
  CHECK(read_all(path, key, last, sizeof last) == 20);
  update_observability_metrics();
  CHECK(get_observability_metrics(&metrics) == ERR_SUCCESS);
  CHECK(metrics.last_backup_bytes > 0 && metrics.last_backup_duration_ms > 0); /* a passphrase takes its time */
  CHECK(backup_coordinator_export(c) == ERR_SUCCESS && read_all(path, key, last, sizeof last) == 20);

  /* An estimate of all, against what was written. */
  CHECK(backup_coordinator_get_stats(c, &stats) == ERR_SUCCESS);
  double estimate = (double)backup_coordinator_estimate_backup_size(c, 0, UINT64_MAX);
  CHECK(estimate > 0.9 * (double)stats.total_size && estimate < 1.1 * (double)stats.total_size);
  CHECK(backup_coordinator_estimate_backup_size(c, 1000, UINT64_MAX) == 0);

  /* The wrong key, no key, a damaged and a cut archive. */
  write_file(other, "another passphrase\n", 0600);
  CHECK(backup_archive_read(last, other, visit, NULL) == ERR_KEY);
  CHECK(backup_archive_read(last, NULL, visit, NULL) == ERR_KEY);
  CHECK(strstr(backup_coordinator_error(), "passphrase") == NULL);
  struct stat status;
  snprintf(other, sizeof other, "%s/cut", argv[1]);
  CHECK(stat(last, &status) == 0);
  for (long cut = 0; cut < (long)status.st_size; cut += (long)status.st_size / 3) {
    FILE *whole = fopen(last, "r"), *part = fopen(other, "w");
    CHECK(whole != NULL && part != NULL);
    for (long done = 0; done < cut; done++) CHECK(fputc(fgetc(whole), part) != EOF);
    CHECK(fclose(whole) == 0 && fclose(part) == 0);
    CHECK(backup_archive_read(other, key, visit, NULL) == ERR_ARCHIVE); /* the visitor would crash */
  }
  FILE *file = fopen(last, "r+");
  CHECK(file != NULL && fseek(file, -3, SEEK_END) == 0 && fputc('x', file) == 'x' && fclose(file) == 0);
  CHECK(backup_archive_read(last, key, visit, NULL) == ERR_ARCHIVE); /* the visitor would crash */
  CHECK(remove(last) == 0);

  /* Cursors: back to where a host kept it, and on by hand. */
  cursor.wal_cursor = 36;
  CHECK(backup_coordinator_set_cursor(c, &cursor) == ERR_SUCCESS);
  CHECK(backup_coordinator_update_cursor(c, 99, 38, 0) == ERR_BLOCK_NOT_FOUND);
  CHECK(backup_coordinator_update_cursor(c, 19, 38, 9) == ERR_SUCCESS);
  CHECK(backup_coordinator_update_cursor(c, 2, 4, -8) == ERR_SUCCESS);
  CHECK(backup_coordinator_get_cursor(c, &cursor) == ERR_SUCCESS && cursor.wal_cursor == 38);
  memset(&cursor, 0, sizeof cursor);
  cursor.type = (EBackupCursorType)7;
  CHECK(backup_coordinator_set_cursor(c, &cursor) == ERR_INVALID_PARAM);
  cursor.type = BACKUP_CURSOR_TYPE_HYBRID;
  CHECK(backup_coordinator_set_cursor(c, &cursor) == ERR_SUCCESS);
  CHECK(backup_coordinator_reset_stats(c) == ERR_SUCCESS);
  CHECK(backup_coordinator_export(c) == ERR_SUCCESS);
  CHECK(backup_coordinator_get_stats(c, &stats) == ERR_SUCCESS && stats.processed_blocks == 20);
  CHECK(backup_coordinator_get_cursor(c, &cursor) == ERR_SUCCESS);
  CHECK(cursor.type == BACKUP_CURSOR_TYPE_HYBRID && cursor.wal_cursor == 38 && cursor.time_cursor == 9);

  CHECK(backup_coordinator_stop(c) == ERR_SUCCESS && backup_coordinator_export(c) == ERR_NOT_STARTED);
  bitmap_engine_destroy(engine); /* the coordinator keeps it alive */
  CHECK(backup_coordinator_get_dirty_blocks(c, 0, UINT64_MAX, ids, 32) == 20);
  backup_coordinator_destroy(c);

  /* Several batches at a time, without encryption; the estimate is made elsewhere. */
  engine = bitmap_engine_init();
  config.enable_encryption = false;
  config.enable_parallel_processing = true;
  config.temp_path = argv[1];
  snprintf(path, sizeof path, "%s/parallel", argv[1]);
  CHECK(mkdir(path, 0700) == 0 && (c = backup_coordinator_init(engine, &config)) != NULL);
  CHECK(backup_coordinator_set_key_file(c, key) == ERR_INVALID_PARAM);
  CHECK(strstr(backup_coordinator_error(), "enable_encryption") != NULL);
  for (n = 0; n < 20; n++) CHECK(bitmap_engine_mark_new(engine, n, n * 2, (int64_t)n - 10) == ERR_SUCCESS);
  host.coordinator = c;
  CHECK(backup_coordinator_set_reader(c, read_block, &host) == ERR_SUCCESS);
  CHECK(backup_coordinator_estimate_backup_size(c, 0, UINT64_MAX) > 0 && files_in(path) == 0);
  CHECK(backup_coordinator_export(c) == ERR_SUCCESS && files_in(path) == 5);
  CHECK(read_all(path, NULL, last, sizeof last) == 20);
  CHECK(backup_coordinator_set_reader(c, NULL, NULL) == ERR_SUCCESS); /* it is not called any more */
  CHECK(backup_coordinator_export(c) == ERR_NOT_STARTED);
  backup_coordinator_destroy(c);
  never_a_part(engine, config, path);
  bitmap_engine_destroy(engine);

  /* What the operator wants: encryption, with a key file. */
  char settings[5000];
  snprintf(settings, sizeof settings, "{\"backup\": {\"encryption\": true, \"key_file\": \"%s\"}}", key);
  snprintf(last, sizeof last, "%s/settings.json", argv[1]);
  write_file(last, settings, 0600);
  setenv("TDENGINE_CONFIG_PATH", last, 1);
  engine = bitmap_engine_init();
  snprintf(path, sizeof path, "%s/by-settings", argv[1]);
  config.enable_parallel_processing = false;
  CHECK(mkdir(path, 0700) == 0 && (c = backup_coordinator_init(engine, &config)) != NULL);
  CHECK(bitmap_engine_mark_dirty(engine, 1, 2, -9) == ERR_SUCCESS);
  host.coordinator = c;
  CHECK(backup_coordinator_set_reader(c, read_block, &host) == ERR_SUCCESS);
  CHECK(backup_coordinator_export(c) == ERR_SUCCESS && read_all(path, key, last, sizeof last) == 1);
  CHECK(backup_archive_read(last, NULL, visit, NULL) == ERR_KEY);
  backup_coordinator_destroy(c);
  CHECK(remove(key) == 0 && backup_coordinator_init(engine, &config) == NULL);
  CHECK(strstr(backup_coordinator_error(), "key") != NULL);
  bitmap_engine_destroy(engine);
  unsetenv("TDENGINE_CONFIG_PATH");
  for (int code = -1214; code <= -1210; code++) CHECK(code == -1211 || strcmp(bitmap_strerror(code), "unknown code") != 0);
  return 0;
}
