/* Every function of storage_engine_interface.h. Follows a copy of a recorded server's data directory, which this
 * program makes grow as the server did.
 *   storage_engine DATA_DIR WHAT_IT_BECOMES WORK_DIR */
#include "backup_coordinator.h"
#include "event_interceptor.h"
#include "storage_engine_interface.h"

#include "check.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t  changed = PTHREAD_COND_INITIALIZER;

static int run(const char *format, const char *a, const char *b) {
  char command[4000];
  snprintf(command, sizeof command, format, a, b);
  return system(command);
}

/* ---- a storage engine of this program ---- */

static SStorageEngineInterface own;

static const char              *own_name(void) { return "own"; }
static SStorageEngineInterface *make_own(void) {
  own.get_engine_name = own_name;
  return &own;
}

static int registry(void) {
  char    *names[4] = {NULL, NULL, NULL, NULL};
  uint32_t count = 0;

  CHECK(list_storage_engine_interfaces(NULL, 0, &count) == ERR_SUCCESS && count == 2);
  CHECK(register_storage_engine_interface("own", make_own) == ERR_SUCCESS);
  CHECK(register_storage_engine_interface("own", make_own) == ERR_EXISTS);
  CHECK(strstr(storage_engine_last_error(), "own") != NULL);
  CHECK(register_storage_engine_interface("tdengine", make_own) == ERR_EXISTS);
  CHECK(register_storage_engine_interface(NULL, make_own) == ERR_INVALID_PARAM);
  CHECK(register_storage_engine_interface("", make_own) == ERR_INVALID_PARAM);
  CHECK(register_storage_engine_interface("\xff", make_own) == ERR_INVALID_PARAM);
  CHECK(register_storage_engine_interface("none", NULL) == ERR_INVALID_PARAM);
  CHECK(get_storage_engine_interface("own") == &own && strcmp(own.get_engine_name(), "own") == 0);
  CHECK(get_storage_engine_interface("none") == NULL && get_storage_engine_interface(NULL) == NULL);
  CHECK(get_storage_engine_interface("tdengine") == get_default_storage_engine_interface());
  CHECK(list_storage_engine_interfaces(names, 1, &count) == ERR_SUCCESS && count == 3 && names[1] == NULL);
  CHECK(list_storage_engine_interfaces(names, 4, &count) == ERR_SUCCESS && count == 3);
  CHECK(strcmp(storage_engine_last_error(), "") == 0);
  CHECK(strcmp(names[0], "tdengine") == 0 && strcmp(names[1], "tmq") == 0 && strcmp(names[2], "own") == 0);
  CHECK(list_storage_engine_interfaces(names, 4, NULL) == ERR_INVALID_PARAM);
  CHECK(list_storage_engine_interfaces(NULL, 4, &count) == ERR_INVALID_PARAM);
  return 0;
}

/* ---- the log ---- */

static int64_t  wal_version = -1;
static uint64_t wal_end;
static int      wal_calls;

static int32_t on_wal(const char *wal_path, int64_t version, uint64_t offset) {
  pthread_mutex_lock(&lock);
  if (strstr(wal_path, "wal") != NULL) wal_version = version;
  wal_end = offset;
  wal_calls++;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&lock);
  return 0;
}

static int32_t only_once(const char *wal_path, int64_t version, uint64_t offset) {
  on_wal(wal_path, version, offset);
  return 1;
}

/* Waits until the log is at a version; returns where it is. */
static int64_t wait_for_version(int64_t version) {
  int64_t now;
  pthread_mutex_lock(&lock);
  while (wal_version < version) pthread_cond_wait(&changed, &lock);
  now = wal_version;
  pthread_mutex_unlock(&lock);
  return now;
}

static int log_growth(const char *wal, const char *grown) {
  int64_t first;
  int     calls;

  CHECK(monitor_wal_changes(wal, NULL) == ERR_INVALID_PARAM && monitor_wal_changes(NULL, on_wal) == ERR_INVALID_PARAM);
  CHECK(monitor_wal_changes("/no/such/directory", on_wal) == ERR_IO);
  CHECK(strstr(storage_engine_last_error(), "/no/such/directory") != NULL);
  CHECK(stop_monitoring_wal_changes(wal) == ERR_NOT_RUNNING && stop_monitoring_wal_changes(NULL) == ERR_INVALID_PARAM);
  CHECK(monitor_wal_changes(wal, on_wal) == ERR_SUCCESS);
  CHECK(monitor_wal_changes(wal, on_wal) == ERR_EXISTS);
  first = wait_for_version(1);
  CHECK(run("cp %s/*.log %s", grown, wal) == 0 && run("cp %s/*.idx %s", grown, wal) == 0);
  wait_for_version(first + 1);
  CHECK(stop_monitoring_wal_changes(wal) == ERR_SUCCESS);
  CHECK(wal_end > 56); /* nobody writes it any more */
  calls = wal_calls;
  wal_version = -1;
  CHECK(monitor_wal_changes(wal, only_once) == ERR_SUCCESS);
  wait_for_version(first + 1);
  stop_monitoring_wal_changes(wal);
  CHECK(wal_calls == calls + 1);
  return 0;
}

/* ---- a followed server ---- */

enum { SLOW_BLOCK = 78 };

static int      events, ranges, syncs;
static bool     slow_begins, slow_ends;
static uint64_t last_block;

static void on_event(const SStorageEvent *event, void *user_data) {
  if (event->block_id == SLOW_BLOCK) {
    pthread_mutex_lock(&lock);
    slow_begins = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    struct timespec pause = {0, 200000000};
    nanosleep(&pause, NULL);
    pthread_mutex_lock(&lock);
    slow_ends = true;
    pthread_mutex_unlock(&lock);
  }
  pthread_mutex_lock(&lock);
  ++*(int *)user_data;
  last_block = event->block_id;
  pthread_mutex_unlock(&lock);
}
static int32_t on_range(const SStorageRange *range, void *user_data) {
  (void)user_data;
  if (range->reason == NULL || range->first_block_id > range->last_block_id) return -1;
  ranges++;
  return 0;
}
static int32_t on_sync(void *user_data) {
  (void)user_data;
  syncs++;
  return 0;
}

static void *trigger_slow_event(void *table) {
  SStorageEvent event = {STORAGE_EVENT_BLOCK_UPDATE, SLOW_BLOCK, 1, 1, NULL};
  return ((SStorageEngineInterface *)table)->trigger_event(&event) == ERR_SUCCESS ? table : NULL;
}

/* What a callback needs may go once uninstall has returned, also one of an event that another thread triggers. */
static int uninstall_waits_for_callbacks(SStorageEngineInterface *table) {
  pthread_t thread;
  void     *triggered;

  CHECK(pthread_create(&thread, NULL, trigger_slow_event, table) == 0);
  pthread_mutex_lock(&lock);
  while (!slow_begins) pthread_cond_wait(&changed, &lock);
  pthread_mutex_unlock(&lock);
  CHECK(table->uninstall_interception() == ERR_SUCCESS);
  pthread_mutex_lock(&lock);
  bool ended = slow_ends;
  pthread_mutex_unlock(&lock);
  CHECK(ended);
  CHECK(pthread_join(thread, &triggered) == 0 && triggered == table);
  return 0;
}

static int the_table(const char *data_dir, const char *work_dir) {
  SStorageEngineInterface *table = get_default_storage_engine_interface();
  SStorageEngineConfig     config = {true, on_event, &events, 0, 0, on_range, on_sync};
  STdengineStorageConfig   follow = {NULL, NULL, NULL, 20};
  SStorageEngineStats      stats;
  SObservabilityMetrics    metrics;
  SStorageEvent            event = {STORAGE_EVENT_BLOCK_CREATE, 77, 1, 1, NULL};
  uint64_t                 processed = 9, dropped = 9;
  void                    *data = &event;
  uint32_t                 size = 9;
  char                     position[1000];

  snprintf(position, sizeof position, "%s/position", work_dir);
  CHECK(strcmp(table->get_engine_name(), "tdengine") == 0 && !table->is_supported());
  CHECK(tdengine_storage_configure(NULL) == ERR_INVALID_PARAM);
  CHECK(tdengine_storage_configure(&follow) == ERR_INVALID_PARAM);
  CHECK(table->install_interception() == ERR_INVALID_PARAM && table->trigger_event(&event) == ERR_NOT_RUNNING);
  CHECK(table->init(NULL) == ERR_INVALID_PARAM && table->init(&config) == ERR_SUCCESS);
  config.range_callback = NULL;
  CHECK(table->init(&config) == ERR_INVALID_PARAM);
  config.range_callback = on_range;
  CHECK(table->install_interception() == ERR_INVALID_PARAM);
  CHECK(tdengine_storage_catch_up(1) == ERR_NOT_RUNNING);
  CHECK(read_data_block(1, &data, &size) == ERR_NOT_RUNNING && data == NULL && size == 0);
  CHECK(read_data_block(1, NULL, &size) == ERR_INVALID_PARAM && read_data_block(1, &data, NULL) == ERR_INVALID_PARAM);

  follow.data_dirs = "/no/such/directory";
  CHECK(tdengine_storage_configure(&follow) == ERR_SUCCESS && !table->is_supported());
  CHECK(strstr(storage_engine_last_error(), "/no/such/directory") != NULL);
  CHECK(table->install_interception() == ERR_IO);
  CHECK(strstr(storage_engine_last_error(), "/no/such/directory") != NULL);
  follow.data_dirs = data_dir;
  follow.position_path = position;
  CHECK(tdengine_storage_configure(&follow) == ERR_SUCCESS && table->is_supported());
  CHECK(table->install_interception() == ERR_SUCCESS && table->install_interception() == ERR_ALREADY_RUNNING);
  CHECK(table->init(&config) == ERR_ALREADY_RUNNING);
  CHECK(tdengine_storage_catch_up(60000) == ERR_SUCCESS);
  CHECK(table->trigger_event(NULL) == ERR_INVALID_PARAM);
  events = 0;
  CHECK(table->trigger_event(&event) == ERR_SUCCESS && events == 1 && last_block == 77);
  event.event_type = STORAGE_EVENT_MAX;
  CHECK(table->trigger_event(&event) == ERR_INVALID_PARAM);
  CHECK(table->get_stats(&processed, &dropped) == ERR_SUCCESS && processed >= 1 && dropped == 0);
  CHECK(table->reset_stats(NULL) == ERR_SUCCESS && table->get_stats(&processed, NULL) == ERR_SUCCESS && processed == 0);
  CHECK(table->get_observability_metrics(NULL, &metrics) == ERR_SUCCESS && metrics.last_update_time > 0);
  CHECK(table->get_observability_metrics(NULL, NULL) == ERR_INVALID_PARAM);
  CHECK(table->get_detailed_stats(NULL, NULL) == ERR_INVALID_PARAM);
  CHECK(table->get_detailed_stats(NULL, &stats) == ERR_SUCCESS);
  CHECK(stats.running && stats.scans > 0 && stats.failures == 0 && stats.last_error[0] == '\0' && syncs > 0);
  CHECK(read_data_block(UINT64_MAX, &data, &size) == ERR_BLOCK_NOT_FOUND);
  if (uninstall_waits_for_callbacks(table)) return 1;
  CHECK(table->uninstall_interception() == ERR_SUCCESS);
  CHECK(table->get_detailed_stats(NULL, &stats) == ERR_SUCCESS && !stats.running);
  /* No callback after that: what it needs may be gone. */
  event.event_type = STORAGE_EVENT_BLOCK_CREATE;
  events = 0;
  CHECK(table->trigger_event(&event) == ERR_NOT_RUNNING && events == 0);
  event.event_type = STORAGE_EVENT_MAX;
  table->destroy();
  CHECK(table->trigger_event(&event) == ERR_INVALID_PARAM);
  return 0;
}

/* A subscription needs a server; without one everything says so. */
static int a_subscription(const char *work_dir) {
  SStorageEngineInterface *table = get_storage_engine_interface("tmq");
  SStorageEngineConfig     config = {true, on_event, &events, 0, 0, on_range, on_sync};
  STmqStorageConfig        follow = {"{\"source\": {\"host\": \"127.0.0.1\"}}", NULL, 0};
  SStorageEngineStats      stats;

  CHECK(strcmp(table->get_engine_name(), "tmq") == 0 && !table->is_supported());
  CHECK(tmq_storage_configure(NULL) == ERR_INVALID_PARAM);
  CHECK(tmq_storage_configure(&follow) == ERR_CONFIG);
  CHECK(strstr(storage_engine_last_error(), "source.database") != NULL);
  follow.config = "{\"tmq\": {\"topc\": \"t\"}}";
  CHECK(tmq_storage_configure(&follow) == ERR_CONFIG && strstr(storage_engine_last_error(), "topc") != NULL);
  follow.config = "{\"source\": {\"database\": \"db\"}, \"tmq\": {\"topic\": \"t\"}}";
  follow.position_path = "\xff";
  CHECK(tmq_storage_configure(&follow) == ERR_INVALID_PARAM);
  follow.position_path = work_dir;
  CHECK(table->init(&config) == ERR_SUCCESS && table->install_interception() == ERR_INVALID_PARAM);
  CHECK(strstr(storage_engine_last_error(), "tmq_storage_configure") != NULL);
  CHECK(tmq_storage_configure(&follow) == ERR_SUCCESS);
  CHECK(table->install_interception() == ERR_SERVER && storage_engine_last_error()[0] != '\0');
  CHECK(tmq_storage_catch_up(1) == ERR_NOT_RUNNING);
  CHECK(table->get_detailed_stats(NULL, &stats) == ERR_SUCCESS && !stats.running);
  table->destroy();
  return 0;
}

static uint64_t read_blocks, last_read;

static int32_t count_block(uint64_t block_id, SBackupSink *sink, void *user_data) {
  (void)user_data;
  read_blocks++;
  last_read = block_id;
  return backup_sink_write(sink, &block_id, sizeof block_id);
}

/* A server's positions are in no order, so no cursor may pass a block by. */
static int a_lower_position_is_exported(SBitmapEngine *engine, uint64_t changed_blocks, const char *work_dir) {
  SBackupConfig       config;
  SBackupCoordinator *coordinator;

  memset(&config, 0, sizeof config);
  config.backup_path = work_dir;
  config.batch_size = 100;
  config.timeout_ms = 60000;
  coordinator = backup_coordinator_init(engine, &config);
  CHECK(coordinator != NULL && backup_coordinator_set_reader(coordinator, count_block, NULL) == ERR_SUCCESS);
  CHECK(backup_coordinator_export(coordinator) == ERR_BACKUP_INCOMPLETE && read_blocks == changed_blocks); /* a range is there */
  CHECK(bitmap_engine_mark_dirty(engine, 7, 1, 1) == ERR_SUCCESS);
  CHECK(backup_coordinator_export(coordinator) == ERR_BACKUP_INCOMPLETE && read_blocks == changed_blocks + 1 && last_read == 7);
  backup_coordinator_destroy(coordinator);
  return 0;
}

static int through_an_interceptor(const char *data_dir, const char *grown, const char *work_dir) {
  SStorageEngineInterface *table = get_storage_engine_interface("tdengine");
  SBitmapEngine           *engine = bitmap_engine_init();
  SEventInterceptorConfig  config = {true, NULL, NULL, 0, 2};
  SEventInterceptor       *ic = event_interceptor_init(&config, engine);
  STdengineStorageConfig   follow = {NULL, NULL, NULL, 0};
  SStorageEngineStats      stats;
  SObservabilityMetrics    metrics;
  size_t                   whole = 0;
  uint64_t                 dirty = 0, fresh = 0, ids[1000];
  void                    *data;
  uint32_t                 size;
  char                     position[1000];

  snprintf(position, sizeof position, "%s/position-2", work_dir);
  follow.data_dirs = data_dir;
  follow.position_path = position;
  CHECK(tdengine_storage_configure(&follow) == ERR_SUCCESS);
  CHECK(event_interceptor_set_storage_interface(ic, table) == ERR_SUCCESS);
  CHECK(event_interceptor_install_storage_interception(ic) == ERR_SUCCESS);
  CHECK(tdengine_storage_catch_up(60000) == ERR_SUCCESS);
  CHECK(run("cp -r %s/vnode %s", grown, data_dir) == 0);
  CHECK(tdengine_storage_catch_up(60000) == ERR_SUCCESS);
  bitmap_engine_get_stats(engine, NULL, &dirty, &fresh, NULL);
  CHECK(dirty + fresh > 5);
  CHECK(bitmap_engine_get_dirty_blocks_by_wal(engine, 25, UINT64_MAX, ids, 1000) == dirty + fresh);
  CHECK(bitmap_engine_get_damaged_ranges(engine, NULL, 0, &whole) == ERR_SUCCESS && whole > 0); /* a table was dropped */
  CHECK(table->get_detailed_stats(NULL, &stats) == ERR_SUCCESS && stats.events >= dirty + fresh && stats.ranges == whole);
  CHECK(table->get_observability_metrics(NULL, &metrics) == ERR_SUCCESS);
  CHECK(metrics.messages_per_second > 0 && metrics.bytes_per_second > 0 && metrics.offset_lag == 0);
  CHECK(read_data_block(ids[0], &data, &size) == ERR_SERVER && data == NULL); /* there is none */
  if (a_lower_position_is_exported(engine, dirty + fresh, work_dir)) return 1;
  event_interceptor_destroy(ic);
  bitmap_engine_destroy(engine);
  return 0;
}

int main(int argc, char **argv) {
  char wal[1000], grown[1000], copy[1000];
  if (argc != 4) return 2;
  /* The log grows in a directory of its own. */
  snprintf(copy, sizeof copy, "%s/wal", argv[3]);
  snprintf(wal, sizeof wal, "%s/vnode/vnode2/wal", argv[1]);
  snprintf(grown, sizeof grown, "%s/vnode/vnode2/wal", argv[2]);
  if (run("cp -r %s %s", wal, copy) != 0) return 2;
  setenv("TD_CONNECT_IP", "127.0.0.1", 1);
  setenv("TD_CONNECT_PORT", "1", 1);
  return registry() || log_growth(copy, grown) || the_table(argv[1], argv[3]) || a_subscription(argv[3]) ||
         through_an_interceptor(argv[1], argv[2], argv[3]);
}
