/* Every function of event_interceptor.h, alone and with a storage engine of the program's own. */
#include "event_interceptor.h"
#include "observability.h"

#include "check.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const SEventInterceptorConfig plain = {true, NULL, NULL, 100, 2};

static EBlockState state_of(SBitmapEngine *engine, uint64_t block) {
  EBlockState state = (EBlockState)99;
  bitmap_engine_get_block_state(engine, block, &state);
  return state;
}

static int events_become_marks(void) {
  SBitmapEngine     *engine = bitmap_engine_init();
  SEventInterceptor *ic = event_interceptor_init(&plain, engine);
  SBlockMetadata     metadata;
  uint64_t           processed = 7, dropped = 7;

  CHECK(ic != NULL);
  CHECK(event_interceptor_on_block_update(ic, 1, 1, 1) == ERR_NOT_RUNNING);
  CHECK(event_interceptor_start(ic) == ERR_SUCCESS && event_interceptor_start(ic) == ERR_SUCCESS);
  CHECK(event_interceptor_on_block_create(ic, 1, 10, -1) == ERR_SUCCESS);
  CHECK(event_interceptor_on_block_update(ic, 2, 20, -2) == ERR_SUCCESS);
  CHECK(event_interceptor_on_block_delete(ic, 3, 30, -3) == ERR_SUCCESS);
  CHECK(event_interceptor_on_block_update(ic, 4, 40, -4) == ERR_SUCCESS);
  CHECK(event_interceptor_on_block_flush(ic, 4, 41, -3) == ERR_SUCCESS);
  CHECK(event_interceptor_settle(ic, 60000) == ERR_SUCCESS);
  CHECK(state_of(engine, 1) == BLOCK_STATE_NEW && state_of(engine, 2) == BLOCK_STATE_DIRTY);
  CHECK(state_of(engine, 3) == BLOCK_STATE_DELETED && state_of(engine, 4) == BLOCK_STATE_CLEAN);
  CHECK(bitmap_engine_get_block_metadata(engine, 2, &metadata) == ERR_SUCCESS);
  CHECK(metadata.wal_offset == 20 && metadata.timestamp == -2);
  event_interceptor_get_stats(ic, &processed, &dropped);
  CHECK(processed == 5 && dropped == 0);

  CHECK(event_interceptor_trigger_test_event(ic, EVENT_BLOCK_CREATE, 5, 50, 5) == ERR_SUCCESS);
  CHECK(event_interceptor_trigger_test_event(ic, EVENT_MAX, 5, 50, 5) == ERR_INVALID_PARAM);
  CHECK(event_interceptor_stop(ic) == ERR_SUCCESS && event_interceptor_stop(ic) == ERR_SUCCESS);
  CHECK(state_of(engine, 5) == BLOCK_STATE_NEW);
  CHECK(event_interceptor_on_block_update(ic, 6, 60, 6) == ERR_NOT_RUNNING);
  CHECK(event_interceptor_start(ic) == ERR_SUCCESS);
  CHECK(event_interceptor_on_block_update(ic, 6, 60, 6) == ERR_SUCCESS);
  event_interceptor_destroy(ic); /* while it runs */
  CHECK(state_of(engine, 6) == BLOCK_STATE_DIRTY);
  bitmap_engine_destroy(engine);
  return 0;
}

/* A callback that counts, and does what a test asks for. */
typedef struct {
  pthread_mutex_t    lock;
  pthread_cond_t     changed;
  int                calls, stuck, stop_codes[3];
  uint64_t           last_wal;
  SEventInterceptor *ic;
} Told;

static void on_event(const SBlockEvent *event, void *user_data) {
  Told *told = (Told *)user_data;
  pthread_mutex_lock(&told->lock);
  told->calls++;
  told->last_wal = event->wal_offset;
  pthread_cond_broadcast(&told->changed);
  while (told->stuck) pthread_cond_wait(&told->changed, &told->lock);
  pthread_mutex_unlock(&told->lock);
  if (event->wal_offset == 1000) {
    /* Callbacks may call back in, but not stop what they are called by. */
    told->stop_codes[0] = event_interceptor_stop(told->ic);
    told->stop_codes[1] = event_interceptor_settle(told->ic, 1);
    told->stop_codes[2] = event_interceptor_on_block_update(told->ic, event->block_id + 1, 1001, 0);
  }
}

static void wait_for_calls(Told *told, int calls) {
  pthread_mutex_lock(&told->lock);
  while (told->calls < calls) pthread_cond_wait(&told->changed, &told->lock);
  pthread_mutex_unlock(&told->lock);
}

static int callbacks(void) {
  SBitmapEngine          *engine = bitmap_engine_init();
  Told                    told;
  SEventInterceptorConfig config = {true, on_event, NULL, 4, 1};
  SEventInterceptor      *ic;
  SCoverageGap            gap;
  SObservabilityMetrics   metrics;
  uint64_t                processed, dropped, block;

  memset(&told, 0, sizeof told);
  pthread_mutex_init(&told.lock, NULL);
  pthread_cond_init(&told.changed, NULL);
  config.callback_user_data = &told;
  ic = told.ic = event_interceptor_init(&config, engine);
  CHECK(event_interceptor_start(ic) == ERR_SUCCESS);
  CHECK(event_interceptor_on_block_update(ic, 1, 1000, 0) == ERR_SUCCESS);
  wait_for_calls(&told, 2);
  CHECK(told.stop_codes[0] == ERR_IN_CALLBACK && told.stop_codes[1] == ERR_IN_CALLBACK);
  CHECK(told.stop_codes[2] == ERR_SUCCESS && told.last_wal == 1001 && state_of(engine, 2) == BLOCK_STATE_DIRTY);
  CHECK(event_interceptor_settle(ic, 60000) == ERR_SUCCESS);

  /* A full queue: events are dropped, counted, and their blocks come from the gap. */
  CHECK(event_interceptor_set_overflow(ic, (EEventOverflow)7) == ERR_INVALID_PARAM);
  CHECK(event_interceptor_set_overflow(ic, EVENT_OVERFLOW_DROP) == ERR_SUCCESS);
  CHECK(event_interceptor_get_coverage_gap(ic, &gap) == ERR_SUCCESS && gap.events == 0);
  told.stuck = 1;
  CHECK(event_interceptor_on_block_update(ic, 100, 1, 0) == ERR_SUCCESS);
  wait_for_calls(&told, 3);
  for (block = 101; block < 125; block++) CHECK(event_interceptor_on_block_update(ic, block, block, 9) == ERR_SUCCESS);
  event_interceptor_get_stats(ic, &processed, &dropped);
  CHECK(processed == 3 && dropped == 20);
  CHECK(event_interceptor_get_coverage_gap(ic, &gap) == ERR_SUCCESS);
  CHECK(gap.events == 20 && gap.blocks == 20 && !gap.is_range && gap.wal_offset == 124 && gap.timestamp == 9);
  CHECK(gap.first_block_id == 105 && gap.last_block_id == 124);
  CHECK(event_interceptor_settle(ic, 5) == ERR_TIMEOUT);
  update_observability_metrics();
  CHECK(get_observability_metrics(&metrics) == ERR_SUCCESS && metrics.events_dropped == 20);
  CHECK(metrics.ring_buffer_capacity == 4 && metrics.event_queue_size == 4 && metrics.ring_buffer_usage == 100);

  /* The callback hangs: stopping gives up on it, not on the blocks. */
  CHECK(event_interceptor_stop_timeout(ic, 5) == ERR_TIMEOUT);
  for (block = 100; block < 125; block++) CHECK(state_of(engine, block) == BLOCK_STATE_DIRTY);
  CHECK(event_interceptor_get_coverage_gap(ic, &gap) == ERR_SUCCESS && gap.events == 0);
  pthread_mutex_lock(&told.lock);
  told.stuck = 0;
  pthread_cond_broadcast(&told.changed);
  pthread_mutex_unlock(&told.lock);
  CHECK(event_interceptor_set_overflow(ic, EVENT_OVERFLOW_BLOCK) == ERR_SUCCESS);
  CHECK(event_interceptor_start(ic) == ERR_SUCCESS);
  for (block = 200; block < 300; block++) CHECK(event_interceptor_on_block_update(ic, block, 1, 0) == ERR_SUCCESS);
  CHECK(event_interceptor_stop_timeout(ic, 60000) == ERR_SUCCESS);
  CHECK(state_of(engine, 299) == BLOCK_STATE_DIRTY);
  event_interceptor_destroy(ic);
  bitmap_engine_destroy(engine);
  return 0;
}

static int settings(void) {
  SBitmapEngine          *engine = bitmap_engine_init();
  SEventInterceptorConfig config = {false, NULL, NULL, 0, 0};
  SEventInterceptor      *ic;
  SCoverageGap            gap;
  uint64_t                count = 7;

  ic = event_interceptor_init(&config, engine);
  CHECK(ic != NULL && event_interceptor_start(ic) == ERR_SUCCESS);
  CHECK(event_interceptor_on_block_update(ic, 1, 1, 1) == ERR_NOT_RUNNING); /* not enabled */
  event_interceptor_destroy(ic);

  config.enable_interception = true;
  setenv("IB_CALLBACK_THREADS", "many", 1);
  CHECK(event_interceptor_init(&config, engine) == NULL);
  setenv("IB_CALLBACK_THREADS", "65", 1);
  CHECK(event_interceptor_init(&config, engine) == NULL);
  setenv("IB_CALLBACK_THREADS", "3", 1);
  ic = event_interceptor_init(&config, engine);
  CHECK(ic != NULL);
  event_interceptor_destroy(ic); /* never started */
  unsetenv("IB_CALLBACK_THREADS");
  config.callback_threads = 65;
  CHECK(event_interceptor_init(&config, engine) == NULL);
  config.callback_threads = 1;
  config.event_buffer_size = UINT32_MAX;
  CHECK(event_interceptor_init(&config, engine) == NULL); /* hundreds of gigabytes */
  CHECK(event_interceptor_init(NULL, engine) == NULL && event_interceptor_init(&plain, NULL) == NULL);

  CHECK(event_interceptor_start(NULL) == ERR_INVALID_PARAM && event_interceptor_stop(NULL) == ERR_INVALID_PARAM);
  CHECK(event_interceptor_stop_timeout(NULL, 1) == ERR_INVALID_PARAM);
  CHECK(event_interceptor_on_block_create(NULL, 1, 1, 1) == ERR_INVALID_PARAM);
  CHECK(event_interceptor_on_block_update(NULL, 1, 1, 1) == ERR_INVALID_PARAM);
  CHECK(event_interceptor_on_block_flush(NULL, 1, 1, 1) == ERR_INVALID_PARAM);
  CHECK(event_interceptor_on_block_delete(NULL, 1, 1, 1) == ERR_INVALID_PARAM);
  CHECK(event_interceptor_settle(NULL, 1) == ERR_INVALID_PARAM);
  CHECK(event_interceptor_set_overflow(NULL, EVENT_OVERFLOW_DROP) == ERR_INVALID_PARAM);
  CHECK(event_interceptor_get_coverage_gap(NULL, &gap) == ERR_INVALID_PARAM);
  CHECK(event_interceptor_set_storage_interface(NULL, NULL) == ERR_INVALID_PARAM);
  CHECK(event_interceptor_install_storage_interception(NULL) == ERR_INVALID_PARAM);
  CHECK(event_interceptor_uninstall_storage_interception(NULL) == ERR_INVALID_PARAM);
  CHECK(event_interceptor_trigger_test_event(NULL, EVENT_BLOCK_CREATE, 1, 1, 1) == ERR_INVALID_PARAM);
  event_interceptor_get_stats(NULL, &count, NULL);
  CHECK(count == 7);
  event_interceptor_destroy(NULL);
  ic = event_interceptor_init(&plain, engine);
  CHECK(event_interceptor_get_coverage_gap(ic, NULL) == ERR_INVALID_PARAM);
  CHECK(event_interceptor_install_storage_interception(ic) == ERR_INVALID_PARAM);
  bitmap_engine_destroy(engine); /* the interceptor keeps the engine alive */
  CHECK(event_interceptor_start(ic) == ERR_SUCCESS && event_interceptor_on_block_update(ic, 1, 1, 1) == ERR_SUCCESS);
  event_interceptor_destroy(ic);
  return 0;
}

/* What a host leaves open, the settings of the process say. */
static int settings_of_the_process(void) {
  static const char *const files[] = {
      "{\"bitmap_engine\": {\"memory_limit_mb\": 7}, \"event_interceptor\": {\"buffer_size\": 33, \"callback_threads\": 1}}",
      "{\"event_interceptor\": {\"enable\": false}}",
      "{\"bitmap_engine\": {\"memory_limit_mb\": 0}}",
  };
  SEventInterceptorConfig config = {true, NULL, NULL, 0, 0};
  int                     i;

  for (i = 0; i < 3; i++) {
    char                  path[] = "/tmp/settings-XXXXXX";
    int                   descriptor = mkstemp(path);
    SBitmapEngine        *engine;
    SEventInterceptor    *ic;
    SObservabilityMetrics metrics;
    CHECK(descriptor >= 0 && write(descriptor, files[i], strlen(files[i])) == (ssize_t)strlen(files[i]));
    close(descriptor);
    setenv("TDENGINE_CONFIG_PATH", path, 1);
    engine = bitmap_engine_init();
    CHECK((engine == NULL) == (i == 2)); /* a setting that is wrong is refused */
    if (engine != NULL) {
      CHECK(bitmap_engine_get_memory_limit(engine) == (i == 0 ? 7 : 1024));
      CHECK((ic = event_interceptor_init(&config, engine)) != NULL);
      update_observability_metrics();
      CHECK(get_observability_metrics(&metrics) == ERR_SUCCESS && metrics.ring_buffer_capacity == (i == 0 ? 33u : 10000u));
      CHECK(event_interceptor_start(ic) == ERR_SUCCESS);
      CHECK(event_interceptor_on_block_update(ic, 1, 1, 1) == (i == 1 ? ERR_NOT_RUNNING : ERR_SUCCESS));
      event_interceptor_destroy(ic);
      bitmap_engine_destroy(engine);
    }
    remove(path);
  }
  unsetenv("TDENGINE_CONFIG_PATH");
  return 0;
}

/* A storage engine of this program. */
static SStorageEngineConfig host_config;
static int                  host_installed, host_destroyed, host_supported = 1, host_install_code, host_uninstall_code;

static int32_t host_init(const SStorageEngineConfig *config) {
  host_config = *config;
  return ERR_SUCCESS;
}
static void    host_destroy(void) { host_destroyed++; host_installed = 0; }
static int32_t host_install(void) {
  host_installed = host_install_code == ERR_SUCCESS;
  return host_install_code;
}
static int32_t host_uninstall(void) {
  if (host_uninstall_code != ERR_SUCCESS) return host_uninstall_code;
  host_installed = 0;
  return ERR_SUCCESS;
}
static int32_t host_trigger(const SStorageEvent *event) {
  SStorageEvent shifted = *event;
  shifted.wal_offset += 7; /* to be seen */
  host_config.event_callback(&shifted, host_config.callback_user_data);
  return ERR_SUCCESS;
}
static bool host_is_supported(void) { return host_supported != 0; }

static int storage(void) {
  SBitmapEngine          *engine = bitmap_engine_init();
  SEventInterceptor      *ic = event_interceptor_init(&plain, engine);
  SStorageEngineInterface table;
  SStorageEvent           bad = {STORAGE_EVENT_MAX, 1, 1, 1, NULL};
  SStorageRange           range = {50, 60, 9, 9, "the test says so"};
  SBlockMetadata          metadata;

  memset(&table, 0, sizeof table);
  table.init = host_init;
  table.destroy = host_destroy;
  table.install_interception = host_install;
  table.uninstall_interception = host_uninstall;
  table.trigger_event = host_trigger;
  table.is_supported = host_is_supported;
  CHECK(event_interceptor_set_storage_interface(ic, &table) == ERR_SUCCESS);
  host_supported = 0;
  CHECK(event_interceptor_install_storage_interception(ic) == ERR_NOT_SUPPORTED);
  host_supported = 1;
  host_install_code = -77;
  CHECK(event_interceptor_install_storage_interception(ic) == -77 && host_destroyed == 1);
  host_install_code = ERR_SUCCESS;
  CHECK(event_interceptor_install_storage_interception(ic) == ERR_SUCCESS && host_installed);
  CHECK(event_interceptor_install_storage_interception(ic) == ERR_ALREADY_RUNNING);
  CHECK(event_interceptor_set_storage_interface(ic, NULL) == ERR_ALREADY_RUNNING);

  CHECK(event_interceptor_trigger_test_event(ic, EVENT_BLOCK_UPDATE, 3, 10, 4) == ERR_SUCCESS);
  CHECK(host_config.sync_callback(host_config.callback_user_data) == ERR_SUCCESS);
  CHECK(bitmap_engine_get_block_metadata(engine, 3, &metadata) == ERR_SUCCESS && metadata.wal_offset == 17);
  /* What is stopped takes no test event either, and says so. */
  CHECK(event_interceptor_stop(ic) == ERR_SUCCESS);
  CHECK(event_interceptor_trigger_test_event(ic, EVENT_BLOCK_UPDATE, 3, 11, 4) == ERR_NOT_RUNNING);
  CHECK(event_interceptor_start(ic) == ERR_SUCCESS);
  CHECK(host_config.range_callback(&range, host_config.callback_user_data) == ERR_SUCCESS);
  CHECK(state_of(engine, 55) == BLOCK_STATE_DIRTY);

  /* What is not taken must be told again: the sync says so, once. */
  host_config.event_callback(&bad, host_config.callback_user_data);
  CHECK(host_config.sync_callback(host_config.callback_user_data) != ERR_SUCCESS);
  CHECK(host_config.sync_callback(host_config.callback_user_data) == ERR_SUCCESS);

  CHECK(event_interceptor_uninstall_storage_interception(ic) == ERR_SUCCESS && !host_installed && host_destroyed == 2);
  CHECK(event_interceptor_uninstall_storage_interception(ic) == ERR_SUCCESS && host_destroyed == 2);
  CHECK(event_interceptor_install_storage_interception(ic) == ERR_SUCCESS && host_installed);
  event_interceptor_destroy(ic);
  CHECK(!host_installed && host_destroyed == 3);

  /* One that can't be uninstalled must not call what is gone: it is destroyed in any case. */
  ic = event_interceptor_init(&plain, engine);
  CHECK(event_interceptor_set_storage_interface(ic, &table) == ERR_SUCCESS);
  CHECK(event_interceptor_install_storage_interception(ic) == ERR_SUCCESS && host_installed);
  host_uninstall_code = -78;
  CHECK(event_interceptor_uninstall_storage_interception(ic) == -78 && host_installed && host_destroyed == 3);
  event_interceptor_destroy(ic);
  CHECK(!host_installed && host_destroyed == 4);
  bitmap_engine_destroy(engine);
  return 0;
}

/* A storage engine that raises events without pause, and waits for that to end when it is uninstalled. */
static pthread_t       raiser;
static pthread_mutex_t raiser_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t  raiser_changed = PTHREAD_COND_INITIALIZER;
static int             raised, raiser_ends, install_returned, destroyed, codes_in_callback[3];

static void *raise_on_and_on(void *unused) {
  SStorageEvent event = {STORAGE_EVENT_BLOCK_UPDATE, 1, 1, 1, NULL};
  int           ends;
  (void)unused;
  do {
    pthread_mutex_lock(&raiser_lock);
    raised++;
    pthread_cond_broadcast(&raiser_changed);
    ends = raiser_ends;
    pthread_mutex_unlock(&raiser_lock);
    if (!ends) host_config.event_callback(&event, host_config.callback_user_data);
  } while (!ends);
  return NULL;
}

static int32_t raiser_install(void) { return pthread_create(&raiser, NULL, raise_on_and_on, NULL) == 0 ? ERR_SUCCESS : ERR_IO; }
static int32_t raiser_uninstall(void) {
  pthread_mutex_lock(&raiser_lock);
  raiser_ends = 1;
  pthread_mutex_unlock(&raiser_lock);
  return pthread_join(raiser, NULL) == 0 ? ERR_SUCCESS : ERR_IO;
}

static void destroy_from_within(const SBlockEvent *event, void *user_data) {
  SEventInterceptor *ic = *(SEventInterceptor **)user_data;
  (void)event;
  /* One event is here, one in the queue, and one waits for room there. Nobody else is in a call with the handle. */
  pthread_mutex_lock(&raiser_lock);
  while (raised < 3 || !install_returned) pthread_cond_wait(&raiser_changed, &raiser_lock);
  pthread_mutex_unlock(&raiser_lock);
  codes_in_callback[0] = event_interceptor_uninstall_storage_interception(ic);
  codes_in_callback[1] = event_interceptor_install_storage_interception(ic);
  codes_in_callback[2] = event_interceptor_set_storage_interface(ic, NULL);
  event_interceptor_destroy(ic);
  pthread_mutex_lock(&raiser_lock);
  destroyed++;
  pthread_cond_broadcast(&raiser_changed);
  pthread_mutex_unlock(&raiser_lock);
}

static int destroyed_by_its_callback(void) {
  SBitmapEngine          *engine = bitmap_engine_init();
  SEventInterceptor      *ic;
  SEventInterceptorConfig config = {true, destroy_from_within, NULL, 1, 1};
  SStorageEngineInterface table;
  int                     i;

  memset(&table, 0, sizeof table);
  table.init = host_init;
  table.destroy = host_destroy;
  table.install_interception = raiser_install;
  table.uninstall_interception = raiser_uninstall;
  table.is_supported = host_is_supported;
  config.callback_user_data = &ic;
  ic = event_interceptor_init(&config, engine);
  CHECK(event_interceptor_set_storage_interface(ic, &table) == ERR_SUCCESS);
  CHECK(event_interceptor_install_storage_interception(ic) == ERR_SUCCESS);
  pthread_mutex_lock(&raiser_lock);
  install_returned = 1;
  pthread_cond_broadcast(&raiser_changed);
  while (!destroyed) pthread_cond_wait(&raiser_changed, &raiser_lock);
  pthread_mutex_unlock(&raiser_lock);
  CHECK(raiser_ends && destroyed == 1);
  for (i = 0; i < 3; i++) CHECK(codes_in_callback[i] == ERR_IN_CALLBACK);
  CHECK(state_of(engine, 1) == BLOCK_STATE_DIRTY);
  bitmap_engine_destroy(engine);
  return 0;
}

/* The bitmap is full: what it can't take block by block is in a range when the interceptor has stopped. A few blocks
   may find room again while their events wait; so many do not. */
static int nothing_is_lost_to_a_full_bitmap(void) {
  SBitmapEngineConfig limits = {1, false, NULL};
  SBitmapEngine      *engine = bitmap_engine_init_with_config(&limits);
  SEventInterceptor  *ic = event_interceptor_init(&plain, engine);
  SCoverageGap        gap;
  uint64_t            dropped = 0, block = 0, i;
  size_t              ranges = 0;

  CHECK(event_interceptor_start(ic) == ERR_SUCCESS);
  while (dropped < 10000) {
    for (i = 0; i < 1000; i++, block++)
      CHECK(event_interceptor_on_block_update(ic, block << 32, block, (int64_t)block) == ERR_SUCCESS);
    event_interceptor_get_stats(ic, NULL, &dropped);
  }
  CHECK(event_interceptor_stop(ic) == ERR_SUCCESS);
  CHECK(event_interceptor_get_coverage_gap(ic, &gap) == ERR_SUCCESS && gap.events == 0);
  CHECK(bitmap_engine_get_damaged_ranges(engine, NULL, 0, &ranges) == ERR_SUCCESS && ranges > 0);
  for (i = 0; i < block; i++) CHECK(state_of(engine, i << 32) == BLOCK_STATE_DIRTY);
  event_interceptor_destroy(ic);
  bitmap_engine_destroy(engine);
  return 0;
}

int main(void) {
  return events_become_marks() || callbacks() || settings() || settings_of_the_process() || storage() ||
         destroyed_by_its_callback() || nothing_is_lost_to_a_full_bitmap();
}
