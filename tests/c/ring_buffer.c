/* Every function of ring_buffer.h: order, limits, waiting, statistics, many threads, misuse. */
#include "ring_buffer.h"

#include "check.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define ITEMS 20000

static int one_thread(void) {
  SRingBuffer *ring = ring_buffer_init(3);
  int          items[4], i;
  void        *item = NULL;
  uint64_t     in = 0, out = 0, over = 0;

  CHECK(ring != NULL && ring_buffer_get_capacity(ring) == 3);
  CHECK(ring_buffer_is_empty(ring) && !ring_buffer_is_full(ring));
  CHECK(ring_buffer_get_state(ring) == RING_BUFFER_EMPTY && ring_buffer_get_size(ring) == 0);
  CHECK(ring_buffer_dequeue(ring, &item) == ERR_QUEUE_EMPTY && ring_buffer_try_dequeue(ring, &item) == ERR_QUEUE_EMPTY);
  CHECK(ring_buffer_peek(ring, &item) == ERR_QUEUE_EMPTY && item == NULL);
  CHECK(ring_buffer_dequeue_blocking(ring, &item, 1) == ERR_TIMEOUT);

  CHECK(ring_buffer_enqueue(ring, &items[0]) == ERR_SUCCESS);
  CHECK(ring_buffer_get_state(ring) == RING_BUFFER_PARTIAL);
  CHECK(ring_buffer_try_enqueue(ring, &items[1]) == ERR_SUCCESS);
  CHECK(ring_buffer_enqueue_blocking(ring, NULL, 1) == ERR_SUCCESS);
  CHECK(ring_buffer_get_state(ring) == RING_BUFFER_FULL && ring_buffer_is_full(ring) && ring_buffer_get_size(ring) == 3);
  CHECK(ring_buffer_enqueue(ring, &items[3]) == ERR_QUEUE_FULL && ring_buffer_try_enqueue(ring, NULL) == ERR_QUEUE_FULL);
  CHECK(ring_buffer_enqueue_blocking(ring, &items[3], 1) == ERR_TIMEOUT);
  CHECK(ring_buffer_peek(ring, &item) == ERR_SUCCESS && item == &items[0] && ring_buffer_get_size(ring) == 3);
  CHECK(ring_buffer_dequeue(ring, &item) == ERR_SUCCESS && item == &items[0]);
  CHECK(ring_buffer_try_dequeue(ring, &item) == ERR_SUCCESS && item == &items[1]);
  CHECK(ring_buffer_dequeue_blocking(ring, &item, 1) == ERR_SUCCESS && item == NULL);
  ring_buffer_get_stats(ring, &in, &out, &over);
  CHECK(in == 3 && out == 3 && over == 3);

  for (i = 0; i < 2; i++) CHECK(ring_buffer_enqueue(ring, malloc(8)) == ERR_SUCCESS);
  CHECK(ring_buffer_enqueue(ring, NULL) == ERR_SUCCESS);
  ring_buffer_clear(ring, free);
  ring_buffer_get_stats(ring, NULL, &out, NULL);
  CHECK(ring_buffer_is_empty(ring) && out == 6);

  CHECK(ring_buffer_enqueue(ring, &items[0]) == ERR_SUCCESS && ring_buffer_close(ring) == ERR_SUCCESS);
  CHECK(ring_buffer_enqueue(ring, &items[0]) == ERR_CLOSED && ring_buffer_enqueue_blocking(ring, NULL, 0) == ERR_CLOSED);
  CHECK(ring_buffer_dequeue_blocking(ring, &item, 0) == ERR_SUCCESS && item == &items[0]);
  CHECK(ring_buffer_dequeue_blocking(ring, &item, 0) == ERR_CLOSED && ring_buffer_dequeue(ring, &item) == ERR_CLOSED);
  ring_buffer_clear(ring, NULL);
  ring_buffer_destroy(ring);
  return 0;
}

static SRingBuffer *shared;
static char         things[ITEMS];

static void *give(void *argument) {
  int half = *(const int *)argument, i;
  for (i = half; i < ITEMS; i += 2) {
    if (ring_buffer_enqueue_blocking(shared, &things[i], 0) != ERR_SUCCESS) return argument;
  }
  return NULL;
}

static void *take(void *argument) {
  void *item;
  while (ring_buffer_dequeue_blocking(shared, &item, 0) == ERR_SUCCESS) *(char *)item += 1;
  (void)argument;
  return NULL;
}

static int many_threads(void) {
  pthread_t threads[4];
  int       halves[2] = {0, 1}, i;

  shared = ring_buffer_init(16);
  for (i = 0; i < 2; i++) CHECK(pthread_create(&threads[i], NULL, give, &halves[i]) == 0);
  for (i = 2; i < 4; i++) CHECK(pthread_create(&threads[i], NULL, take, NULL) == 0);
  for (i = 0; i < 2; i++) {
    void *result = NULL;
    pthread_join(threads[i], &result);
    CHECK(result == NULL);
  }
  ring_buffer_close(shared);
  for (i = 2; i < 4; i++) pthread_join(threads[i], NULL);
  ring_buffer_destroy(shared);
  for (i = 0; i < ITEMS; i++) CHECK(things[i] == 1);
  return 0;
}

static int misuse(void) {
  SRingBuffer *ring = ring_buffer_init(1);
  void        *item = NULL;
  uint64_t     count = 7;

  CHECK(ring_buffer_init(0) == NULL);
  CHECK(ring_buffer_enqueue(NULL, NULL) == ERR_INVALID_PARAM && ring_buffer_try_enqueue(NULL, NULL) == ERR_INVALID_PARAM);
  CHECK(ring_buffer_enqueue_blocking(NULL, NULL, 0) == ERR_INVALID_PARAM);
  CHECK(ring_buffer_dequeue(NULL, &item) == ERR_INVALID_PARAM && ring_buffer_dequeue(ring, NULL) == ERR_INVALID_PARAM);
  CHECK(ring_buffer_try_dequeue(ring, NULL) == ERR_INVALID_PARAM);
  CHECK(ring_buffer_dequeue_blocking(ring, NULL, 0) == ERR_INVALID_PARAM);
  CHECK(ring_buffer_peek(ring, NULL) == ERR_INVALID_PARAM && ring_buffer_peek(NULL, &item) == ERR_INVALID_PARAM);
  CHECK(ring_buffer_close(NULL) == ERR_INVALID_PARAM);
  CHECK(ring_buffer_get_size(NULL) == 0 && ring_buffer_get_capacity(NULL) == 0);
  CHECK(!ring_buffer_is_empty(NULL) && !ring_buffer_is_full(NULL));
  CHECK(ring_buffer_get_state(NULL) == RING_BUFFER_EMPTY);
  ring_buffer_get_stats(NULL, &count, &count, &count);
  CHECK(count == 7);
  ring_buffer_clear(NULL, free);
  ring_buffer_destroy(NULL);
  ring_buffer_destroy(ring);
  CHECK(strcmp(bitmap_strerror(ERR_QUEUE_FULL), bitmap_strerror(-12345)) != 0);
  return 0;
}

int main(void) { return one_thread() || many_threads() || misuse(); }
