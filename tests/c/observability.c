/* Every function of observability.h: what happens moves its metric, and nothing else does. */
#include "event_interceptor.h"
#include "observability.h"

#include "check.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(void) {
  SBitmapEngine          *engine = bitmap_engine_init();
  SEventInterceptorConfig config = {true, NULL, NULL, 1000, 2};
  SEventInterceptor      *ic = event_interceptor_init(&config, engine);
  SObservabilityMetrics   before, after;
  char                    small[8] = "xxxxxxx", *text;
  int32_t                 needed;
  uint64_t                i;

  update_observability_metrics();
  CHECK(get_observability_metrics(&before) == ERR_SUCCESS);
  CHECK(before.events_per_second == 0 && before.blocks_dirty == 0 && before.events_dropped == 0);
  CHECK(before.ring_buffer_capacity == 1000 && before.event_queue_size == 0 && before.ring_buffer_usage == 0);
  CHECK(before.last_update_time > 1000000000000000000 && before.uptime_seconds < 600);
  CHECK(event_interceptor_start(ic) == ERR_SUCCESS);
  for (i = 0; i < 50000; i++) CHECK(event_interceptor_on_block_update(ic, i, i, (int64_t)i) == ERR_SUCCESS);
  CHECK(event_interceptor_on_block_create(ic, 50000, 1, 1) == ERR_SUCCESS);
  CHECK(event_interceptor_on_block_delete(ic, 50001, 1, 1) == ERR_SUCCESS);
  CHECK(event_interceptor_stop(ic) == ERR_SUCCESS);

  CHECK(get_observability_metrics(&after) == ERR_SUCCESS && after.blocks_dirty == 0); /* as of the last update */
  update_observability_metrics();
  CHECK(get_observability_metrics(&after) == ERR_SUCCESS);
  CHECK(after.blocks_dirty == 50000 && after.blocks_new == 1 && after.blocks_deleted == 1);
  CHECK(after.events_per_second > 0 && after.processing_delay_ms > 0);
  CHECK(after.memory_usage_bytes > before.memory_usage_bytes);
  CHECK(after.memory_usage_bytes >= after.bitmap_memory_bytes + after.metadata_memory_bytes);
  CHECK(after.metadata_memory_bytes > 50000 && after.bitmap_memory_bytes > 0);
  CHECK(after.last_update_time > before.last_update_time);
  CHECK(after.messages_per_second == 0 && after.parse_errors == 0 && after.last_backup_bytes == 0);

  needed = format_observability_metrics_json(NULL, 0);
  CHECK(needed > 500 && format_observability_metrics_json(small, sizeof small) == needed && small[0] == '\0');
  text = (char *)malloc((size_t)needed);
  CHECK(format_observability_metrics_json(text, (size_t)needed - 1) == needed);
  CHECK(format_observability_metrics_json(text, (size_t)needed) == 0 && strlen(text) == (size_t)needed - 1);
  CHECK(strstr(text, "\"blocks_dirty\":50000") != NULL && text[0] == '{');
  free(text);
  needed = format_observability_metrics_prometheus(NULL, 0);
  text = (char *)malloc((size_t)needed);
  CHECK(format_observability_metrics_prometheus(text, (size_t)needed) == 0 && strlen(text) == (size_t)needed - 1);
  CHECK(strstr(text, "\n# TYPE tdengine_blocks_dirty gauge\ntdengine_blocks_dirty 50000\n") != NULL);
  free(text);
  CHECK(format_observability_metrics_json(NULL, 5) == ERR_INVALID_PARAM);
  CHECK(format_observability_metrics_prometheus(NULL, 5) == ERR_INVALID_PARAM);
  CHECK(get_observability_metrics(NULL) == ERR_INVALID_PARAM);

  /* What is printed goes to standard output: into a file, to be read again. */
  {
    char  path[] = "/tmp/metrics-XXXXXX", line[200];
    int   descriptor = mkstemp(path), saved = dup(1), found = 0;
    FILE *file;
    CHECK(descriptor >= 0 && saved >= 0 && dup2(descriptor, 1) == 1);
    print_observability_metrics();
    CHECK(dup2(saved, 1) == 1 && close(saved) == 0 && close(descriptor) == 0);
    file = fopen(path, "r");
    CHECK(file != NULL);
    while (fgets(line, sizeof line, file) != NULL) found += strstr(line, "blocks_dirty") && strstr(line, "50000");
    fclose(file);
    remove(path);
    CHECK(found == 1);
  }

  do {
    update_observability_metrics();
    CHECK(get_observability_metrics(&after) == ERR_SUCCESS);
  } while (after.uptime_seconds == 0);

  event_interceptor_destroy(ic);
  bitmap_engine_destroy(engine);
  update_observability_metrics();
  CHECK(get_observability_metrics(&after) == ERR_SUCCESS);
  CHECK(after.blocks_dirty == 0 && after.ring_buffer_capacity == 0); /* they are gone */
  return 0;
}
