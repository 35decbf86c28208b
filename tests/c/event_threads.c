/* Four threads raise events while another starts and stops the interceptor and the callback raises more: everything that
 * was accepted is in the bitmap, and every block's events came in order. */
#include "event_interceptor.h"

#include "check.h"

#include <pthread.h>

#define PRODUCERS 4
#define BLOCKS 64
#define EVENTS 4000

static SBitmapEngine     *engine;
static SEventInterceptor *ic;
static uint64_t           latest[PRODUCERS][BLOCKS];
static int                out_of_order, stopped;
static pthread_mutex_t    lock = PTHREAD_MUTEX_INITIALIZER;

static void on_event(const SBlockEvent *event, void *user_data) {
  uint64_t producer = event->block_id >> 32, block = event->block_id & 0xffffffff;
  (void)user_data;
  if (producer >= PRODUCERS) return; /* one that this callback raised */
  pthread_mutex_lock(&lock);
  if (event->wal_offset <= latest[producer][block]) out_of_order++;
  latest[producer][block] = event->wal_offset;
  pthread_mutex_unlock(&lock);
  if (event->wal_offset % 16 == 0) {
    event_interceptor_on_block_update(ic, event->block_id + ((uint64_t)PRODUCERS << 32), event->wal_offset, 0);
  }
}

static void *produce(void *argument) {
  uint64_t producer = *(const uint64_t *)argument, wal = 1, accepted = 0;
  while (accepted < EVENTS) {
    uint64_t id = producer << 32 | wal % BLOCKS;
    if (event_interceptor_on_block_update(ic, id, wal, (int64_t)wal) == ERR_SUCCESS) accepted++;
    wal++;
  }
  return NULL;
}

static void *start_and_stop(void *argument) {
  int done = 0;
  (void)argument;
  while (!done) {
    event_interceptor_start(ic);
    event_interceptor_settle(ic, 2);
    event_interceptor_stop(ic);
    pthread_mutex_lock(&lock);
    done = stopped;
    pthread_mutex_unlock(&lock);
  }
  return NULL;
}

int main(void) {
  SEventInterceptorConfig config = {true, on_event, NULL, 256, 3};
  pthread_t               producers[PRODUCERS], controller;
  uint64_t                numbers[PRODUCERS], processed = 0, dropped = 0, total = 0, i;

  engine = bitmap_engine_init();
  ic = event_interceptor_init(&config, engine);
  CHECK(ic != NULL);
  CHECK(pthread_create(&controller, NULL, start_and_stop, NULL) == 0);
  for (i = 0; i < PRODUCERS; i++) {
    numbers[i] = i;
    CHECK(pthread_create(&producers[i], NULL, produce, &numbers[i]) == 0);
  }
  for (i = 0; i < PRODUCERS; i++) pthread_join(producers[i], NULL);
  pthread_mutex_lock(&lock);
  stopped = 1;
  pthread_mutex_unlock(&lock);
  pthread_join(controller, NULL);
  event_interceptor_get_stats(ic, &processed, &dropped);
  event_interceptor_destroy(ic);
  bitmap_engine_get_stats(engine, &total, NULL, NULL, NULL);
  bitmap_engine_destroy(engine);
  CHECK(out_of_order == 0 && processed >= PRODUCERS * EVENTS && total >= PRODUCERS * BLOCKS);
  return 0;
}
