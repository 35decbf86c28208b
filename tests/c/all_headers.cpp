// Every header can be used from C++, all together, and its functions are linked as C.
#include "backup_coordinator.h"
#include "bitmap_engine.h"
#include "event_interceptor.h"
#include "incremental_backup_tool.h"
#include "observability.h"
#include "plugin_api.h"
#include "ring_buffer.h"
#include "storage_engine_interface.h"
#include "taosdump_engine.h"
#include "taosx_plugin_interface.h"

int main() {
  SBitmapEngine *engine = bitmap_engine_init();
  SEventInterceptorConfig config = SEventInterceptorConfig();
  config.enable_interception = true;
  SEventInterceptor *interceptor = event_interceptor_init(&config, engine);
  if (interceptor == NULL || event_interceptor_start(interceptor) != ERR_SUCCESS) return 1;
  if (event_interceptor_on_block_create(interceptor, 1, 2, 3) != ERR_SUCCESS) return 2;
  event_interceptor_destroy(interceptor);
  EBlockState state = BLOCK_STATE_CLEAN;
  if (bitmap_engine_get_block_state(engine, 1, &state) != ERR_SUCCESS || state != BLOCK_STATE_NEW) return 3;
  bitmap_engine_destroy(engine);
  SRingBuffer *ring = ring_buffer_init(1);
  if (ring_buffer_enqueue(ring, &state) != ERR_SUCCESS) return 4;
  ring_buffer_destroy(ring);
  update_observability_metrics();
  if (backup_plugin_get_interface()->abi_version != BACKUP_PLUGIN_ABI) return 6;
  return get_storage_engine_interface("tdengine") == get_default_storage_engine_interface() ? 0 : 5;
}
