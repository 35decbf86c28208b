/*
 * ring_buffer.h - a bounded queue of pointers between threads.
 *
 * First in, first out. The items belong to the caller: the queue never reads, copies or frees what they point to.
 * NULL is an item like any other.
 *
 * Threads      All functions may be called from any number of threads on the same queue, except that
 *              ring_buffer_destroy must be the last call on it. Threads that wait in a blocking call are let go by
 *              ring_buffer_close; close a queue and let them end before it is destroyed.
 * NULL         A NULL queue or required pointer is reported as ERR_INVALID_PARAM (0, false or EMPTY where a function
 *              returns no code).
 * Codes        As in bitmap_engine.h.
 *
 * C99 and C++.
 */
#ifndef TDENGINE_RING_BUFFER_H
#define TDENGINE_RING_BUFFER_H

#include "bitmap_engine.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How full a queue is. */
typedef enum {
  RING_BUFFER_EMPTY   = 0,
  RING_BUFFER_PARTIAL = 1,
  RING_BUFFER_FULL    = 2
} ERingBufferState;

typedef struct SRingBuffer SRingBuffer;

/* Gives back an item. */
typedef void (*RingBufferFree)(void *item);

/* A queue of at most `capacity` items. NULL if capacity is 0 or there is no memory for it. Give it back with
 * ring_buffer_destroy. */
SRingBuffer *ring_buffer_init(uint32_t capacity);

/* Ends the queue. Items still in it are the caller's to free: ring_buffer_clear before does that. */
void ring_buffer_destroy(SRingBuffer *ring_buffer);

/* ---- without waiting ---- */

/* Appends an item. ERR_QUEUE_FULL (counted as an overflow), ERR_CLOSED. */
int32_t ring_buffer_enqueue(SRingBuffer *ring_buffer, void *item);
/* The same under the name that says so. */
int32_t ring_buffer_try_enqueue(SRingBuffer *ring_buffer, void *item);

/* Takes the oldest item. ERR_QUEUE_EMPTY; ERR_CLOSED if it is empty and closed; *item is then unchanged. */
int32_t ring_buffer_dequeue(SRingBuffer *ring_buffer, void **item);
/* The same under the name that says so. */
int32_t ring_buffer_try_dequeue(SRingBuffer *ring_buffer, void **item);

/* Stores the oldest item and leaves it in the queue: another thread may take it at any time. ERR_QUEUE_EMPTY. */
int32_t ring_buffer_peek(SRingBuffer *ring_buffer, void **item);

/* ---- with waiting: up to timeout_ms milliseconds, 0 waits without end ---- */

/* Appends an item when there is room. ERR_TIMEOUT (counted as an overflow), ERR_CLOSED. */
int32_t ring_buffer_enqueue_blocking(SRingBuffer *ring_buffer, void *item, uint32_t timeout_ms);

/* Takes the oldest item when there is one. ERR_TIMEOUT; ERR_CLOSED if it is empty and closed. */
int32_t ring_buffer_dequeue_blocking(SRingBuffer *ring_buffer, void **item, uint32_t timeout_ms);

/* Lets no more items in. What is in can still be taken; whoever waits for more gets ERR_CLOSED. */
int32_t ring_buffer_close(SRingBuffer *ring_buffer);

/* ---- all at once ---- */

/* Takes all items out; calls free_func, if it is not NULL, with each that is not NULL. free_func may use the queue. */
void ring_buffer_clear(SRingBuffer *ring_buffer, RingBufferFree free_func);

/* ---- how it stands; another thread may change it at any time ---- */

ERingBufferState ring_buffer_get_state(SRingBuffer *ring_buffer);
uint32_t         ring_buffer_get_size(SRingBuffer *ring_buffer);
uint32_t         ring_buffer_get_capacity(SRingBuffer *ring_buffer);
bool             ring_buffer_is_empty(SRingBuffer *ring_buffer);
bool             ring_buffer_is_full(SRingBuffer *ring_buffer);

/* Stores how many items were ever appended, taken (with those that ring_buffer_clear took), and turned away because
 * the queue was full. NULL pointers are skipped; nothing is stored for a NULL queue. */
void ring_buffer_get_stats(SRingBuffer *ring_buffer, uint64_t *enqueue_count, uint64_t *dequeue_count,
                           uint64_t *overflow_count);

#ifdef __cplusplus
}
#endif

#endif
