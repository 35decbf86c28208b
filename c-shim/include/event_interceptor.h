/*
 * event_interceptor.h - block events of a storage engine, from its own threads into a bitmap engine.
 *
 * Events wait in bounded queues for worker threads, which mark the bitmap and then call the host's callback. Events of
 * one block are taken in in the order in which they were raised, by one thread at a time. None is lost: a full queue
 * makes the raising thread wait. Where that must not be, the host chooses EVENT_OVERFLOW_DROP; then an event that finds
 * its queue full is counted as dropped, and its block is in the coverage gap until the worker has marked it DIRTY, which
 * it does when everything queued before is in. So the next backup copies at worst more than it had to.
 *
 *   EVENT_BLOCK_CREATE marks NEW, _UPDATE marks DIRTY, _FLUSH clears, _DELETE marks DELETED.
 *
 * A mark that the block's state does not allow is widened to one that makes the backup copy the block: CREATE of a DIRTY
 * block refreshes it, CREATE or UPDATE of a DELETED one makes it DIRTY. FLUSH of an unknown block does nothing.
 *
 * Handles      event_interceptor_init gives one, event_interceptor_destroy takes it back. The interceptor keeps the
 *              engine alive, also after bitmap_engine_destroy.
 * Threads      All functions may be called from any number of threads, also by the callback, except that
 *              event_interceptor_destroy must be the last call.
 * Callback     Called by up to callback_threads threads at once, for one block by one at a time, after the event is in
 *              the bitmap. The event is lent for the call. It may raise events: those never wait (as many as a queue
 *              holds are kept beside it, more are dropped as above). It may not start or stop its interceptor, nor install
 *              or uninstall its storage engine (ERR_IN_CALLBACK); it may destroy it. While it blocks, later events of the same queue wait; see
 *              event_interceptor_stop_timeout. It must not let a C++ exception out.
 * NULL         A NULL interceptor is ERR_INVALID_PARAM.
 * Codes        As in bitmap_engine.h.
 *
 * C99 and C++.
 */
#ifndef TDENGINE_EVENT_INTERCEPTOR_H
#define TDENGINE_EVENT_INTERCEPTOR_H

#include "bitmap_engine.h"
#include "storage_engine_interface.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
  EVENT_BLOCK_CREATE = 0,
  EVENT_BLOCK_UPDATE = 1,
  EVENT_BLOCK_FLUSH  = 2,
  EVENT_BLOCK_DELETE = 3,
  EVENT_MAX          = 4 /* how many there are */
} EBlockEventType;

typedef struct {
  EBlockEventType event_type;
  uint64_t        block_id;
  uint64_t        wal_offset;
  int64_t         timestamp; /* ns */
  void           *user_data; /* of the storage event it comes from; otherwise NULL */
} SBlockEvent;

typedef void (*BlockEventCallback)(const SBlockEvent *event, void *user_data);

typedef struct {
  bool               enable_interception; /* false, or event_interceptor.enable of the settings is: it starts,
                                             but takes no event (ERR_NOT_RUNNING) */
  BlockEventCallback callback;            /* may be NULL */
  void              *callback_user_data;  /* passed to the callback; must live until destroy returns, and the callbacks
                                             that a stop_timeout gave up on, or that run when one of them destroys */
  uint32_t           event_buffer_size;   /* events that all queues together hold, 1 to 16777216; 0: what the settings
                                             say, 10000 by default (docs/configuration.md) */
  uint32_t           callback_threads;    /* worker threads, 1 to 64; 0: IB_CALLBACK_THREADS, the settings, or twice
                                             the processors, at most 64 */
} SEventInterceptorConfig;

/* What to do with an event whose queue is full. */
typedef enum {
  EVENT_OVERFLOW_BLOCK = 0, /* wait for room; so it is at first */
  EVENT_OVERFLOW_DROP  = 1  /* drop the event, count it, and mark its block from the coverage gap */
} EEventOverflow;

/* Events that were dropped and whose blocks are not in the bitmap yet. */
typedef struct {
  uint64_t events;         /* how many; 0: there is no gap */
  uint64_t blocks;         /* of so many blocks, if `is_range` is false */
  uint64_t first_block_id; /* all blocks lie between these two, both inclusive */
  uint64_t last_block_id;
  uint64_t wal_offset;     /* the newest among the events */
  int64_t  timestamp;      /* the newest among the events, ns */
  bool     is_range;       /* there are too many to name: any block in between may be one */
} SCoverageGap;

typedef struct SEventInterceptor SEventInterceptor;

/* An interceptor for `engine` that does not run yet. NULL if a pointer is NULL, event_buffer_size is above 16777216,
 * callback_threads is above 64, or the settings are wrong, such as an IB_CALLBACK_THREADS that is no number from 0 to 64; the log says what. */
SEventInterceptor *event_interceptor_init(const SEventInterceptorConfig *config, SBitmapEngine *engine);

/* Uninstalls the storage interception if it is installed, stops the interceptor if it runs, and ends it. By the
 * callback: does not wait for the workers; they end when what is queued is in, of which the callback is told no more. */
void event_interceptor_destroy(SEventInterceptor *interceptor);

/* Starts the workers; does nothing if they run. ERR_IN_CALLBACK; ERR_IO: no thread can be started. */
int32_t event_interceptor_start(SEventInterceptor *interceptor);

/* Takes no more events and returns when all that were raised are in the bitmap and all callbacks returned. Blocks of the
 * coverage gap that the bitmap can't take one by one (its memory limit is reached) are in a range of
 * bitmap_engine_get_damaged_ranges then. Does nothing if it does not run. It can be started again. ERR_IN_CALLBACK;
 * ERR_IO: the bitmap's files took not even that, and the blocks are in the coverage gap only; call it again. */
int32_t event_interceptor_stop(SEventInterceptor *interceptor);

/* The same, but does not wait longer than timeout_ms for callbacks. ERR_TIMEOUT: one did not return; everything is in the
 * bitmap all the same, but the events behind it are not told to the callback any more. */
int32_t event_interceptor_stop_timeout(SEventInterceptor *interceptor, uint32_t timeout_ms);

/* Raises an event. ERR_SUCCESS: it is queued, or its block is in the coverage gap. ERR_NOT_RUNNING. */
int32_t event_interceptor_on_block_create(SEventInterceptor *interceptor, uint64_t block_id, uint64_t wal_offset,
                                          int64_t timestamp);
int32_t event_interceptor_on_block_update(SEventInterceptor *interceptor, uint64_t block_id, uint64_t wal_offset,
                                          int64_t timestamp);
int32_t event_interceptor_on_block_flush(SEventInterceptor *interceptor, uint64_t block_id, uint64_t wal_offset,
                                         int64_t timestamp);
int32_t event_interceptor_on_block_delete(SEventInterceptor *interceptor, uint64_t block_id, uint64_t wal_offset,
                                          int64_t timestamp);

/* Waits until everything that was raised before is in the bitmap, the coverage gap too. timeout_ms 0: does not wait.
 * ERR_TIMEOUT; ERR_IN_CALLBACK. */
int32_t event_interceptor_settle(SEventInterceptor *interceptor, uint32_t timeout_ms);

/* Stores how many events were taken in as such, and how many were dropped, since init. NULL pointers are skipped. */
void event_interceptor_get_stats(SEventInterceptor *interceptor, uint64_t *processed, uint64_t *dropped);

/* Chooses what happens to events whose queue is full, from now on. ERR_INVALID_PARAM. */
int32_t event_interceptor_set_overflow(SEventInterceptor *interceptor, EEventOverflow overflow);

/* Stores the coverage gap. It closes by itself, normally within a batch of events; while it is open a backup must treat
 * the blocks in it as DIRTY. */
int32_t event_interceptor_get_coverage_gap(SEventInterceptor *interceptor, SCoverageGap *gap);

/* ---- events of a storage engine; see storage_engine_interface.h ---- */

/* Chooses where events come from; NULL: from on_block_* only. The table must live until it is replaced or the
 * interceptor is destroyed. ERR_ALREADY_RUNNING: one is installed; ERR_IN_CALLBACK. */
int32_t event_interceptor_set_storage_interface(SEventInterceptor *interceptor, SStorageEngineInterface *storage_interface);

/* Calls the table's init, with callbacks that raise this interceptor's events, then its install_interception. Starts
 * the interceptor if it does not run. ERR_INVALID_PARAM: none was chosen; ERR_ALREADY_RUNNING; ERR_NOT_SUPPORTED: its
 * is_supported says no; ERR_IN_CALLBACK; otherwise the code of the function that failed. */
int32_t event_interceptor_install_storage_interception(SEventInterceptor *interceptor);

/* Calls the table's uninstall_interception, then its destroy. Does nothing if nothing is installed. ERR_IN_CALLBACK. */
int32_t event_interceptor_uninstall_storage_interception(SEventInterceptor *interceptor);

/* Raises an event as the storage engine would: through the table's trigger_event where one is installed, otherwise
 * directly. ERR_INVALID_PARAM: no such type; ERR_NOT_RUNNING. */
int32_t event_interceptor_trigger_test_event(SEventInterceptor *interceptor, EBlockEventType event_type, uint64_t block_id,
                                             uint64_t wal_offset, int64_t timestamp);

#ifdef __cplusplus
}
#endif

#endif
