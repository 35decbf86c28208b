/*
 * taosx_plugin_interface.h - the incremental bitmap as a plugin of taosX: libtaosx_incremental_bitmap_plugin.so.
 *
 * taosX loads the library, calls _init, _configure, _start, passes it block events, and ends with _stop and _shutdown.
 * The plugin keeps the state of every block in a bitmap engine of its own; with persistence it survives a restart.
 * Events of one block are taken in in order; none is lost: where a queue is full, _on_block_event waits.
 *
 * Life         _init -> _configure (may be left out: then the defaults count) -> _start <-> _stop -> _shutdown -> _init...
 * Threads      All functions may be called from any number of threads.
 * Codes        Every function that returns int returns a TaosX_PluginCode.
 *
 * C99 and C++. Does not depend on other headers of this project.
 */
#ifndef TAOSX_PLUGIN_INTERFACE_H
#define TAOSX_PLUGIN_INTERFACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
  TAOSX_PLUGIN_OK                  = 0,
  TAOSX_PLUGIN_ERR_INVALID_ARG     = -1,  /* NULL, an unknown key, a value that is not allowed, an unknown event type */
  TAOSX_PLUGIN_ERR_NOT_INITIALIZED = -2,  /* _init was not called, or _shutdown was */
  TAOSX_PLUGIN_ERR_ALREADY_RUNNING = -3,  /* started already; _configure: stop it first */
  TAOSX_PLUGIN_ERR_INTERNAL        = -100 /* not started or not enabled; or persistence or threads can't be had */
} TaosX_PluginCode;

/* One setting. Both texts are UTF-8 and copied. */
typedef struct {
  const char *key;
  const char *value;
} TaosX_KVPair;

/* Settings: those of the table [plugins.incremental_bitmap] of the configuration of taosX.
 *   enable                true/false (true): false makes _start succeed and every event refused
 *   max_blocks            0 to 4294967295 (0, as many as the memory limit allows): blocks beyond it are not held one by
 *                         one; their events count as dropped, and they count as dirty in a range
 *   memory_limit_mb       1 to 1048576 (1024)
 *   enable_persistence    true/false (true): whether persist_path, if it is given, is used
 *   persist_path          a directory, made where missing (none: state is in memory only)
 *   event_buffer_size     1 to 16777216 (10000)
 *   callback_threads      0 to 64 (0: twice the processors, at most 64); IB_CALLBACK_THREADS of the environment counts
 *                         more
 *   lru_cleanup_threshold 1 to 100 (80): percent of the memory limit above which memory goes to disk
 *   enable_memory_monitor true/false (true): whether the threshold is watched
 * A key that is left out has the value in brackets. */
typedef struct {
  const TaosX_KVPair *items; /* may be NULL if count is 0 */
  size_t              count;
} TaosX_Config;

typedef enum {
  TAOSX_EVENT_BLOCK_CREATE = 1,
  TAOSX_EVENT_BLOCK_UPDATE = 2,
  TAOSX_EVENT_BLOCK_FLUSH  = 3
} TaosX_EventType;

typedef struct {
  uint64_t        block_id;
  int64_t         wal_offset; /* not negative */
  int64_t         timestamp_ns;
  TaosX_EventType event_type;
} TaosX_BlockEvent;

typedef struct {
  uint64_t uptime_seconds;            /* since _init */
  uint64_t error_count;               /* calls since _init that returned another code than OK */
  uint64_t events_processed;          /* since _init: in the bitmap */
  uint64_t events_dropped;            /* since _init: not taken in as such; their blocks are dirty all the same */
  size_t   memory_usage_bytes;        /* engine and queues */
  uint32_t ring_buffer_usage_percent; /* how full the queues are */
} TaosX_PluginStats;

/* Static texts, not to be freed: "incremental_bitmap", the version, and what it can, separated by commas. */
const char *taosx_plugin_get_name(void);
const char *taosx_plugin_get_version(void);
const char *taosx_plugin_get_capabilities(void);

/* Gets ready, with the default settings. Called again before _shutdown: ERR_ALREADY_RUNNING. */
int taosx_plugin_init(void);

/* Stops if it runs, writes what is not on disk yet, and forgets everything. ERR_NOT_INITIALIZED. ERR_INTERNAL: not all
 * could be written; it is shut down all the same. */
int taosx_plugin_shutdown(void);

/* Replaces all settings. NULL is ERR_INVALID_ARG. Nothing is changed by a call that fails. taosx_plugin_last_error names
 * the key, its value and what is allowed. ERR_NOT_INITIALIZED, ERR_ALREADY_RUNNING; ERR_INTERNAL: what the bitmap holds
 * is not all on disk. */
int taosx_plugin_configure(const TaosX_Config *config);

/* Takes events from now on. The bitmap is opened at the first start and kept over _stop; it is opened anew after
 * _configure. ERR_NOT_INITIALIZED, ERR_ALREADY_RUNNING, ERR_INTERNAL (the path can't be used; no threads). */
int taosx_plugin_start(void);

/* Takes no more events; returns when all are in the bitmap and, with persistence, on disk. Does nothing if it does not
 * run. ERR_NOT_INITIALIZED; ERR_INTERNAL: not all is on disk, call it again. */
int taosx_plugin_stop(void);

/* Takes an event. ERR_NOT_INITIALIZED, ERR_INVALID_ARG, ERR_INTERNAL: it does not run. */
int taosx_plugin_on_block_event(const TaosX_BlockEvent *event);

/* Stores the statistics. ERR_NOT_INITIALIZED, ERR_INVALID_ARG. */
int taosx_plugin_get_stats(TaosX_PluginStats *out_stats);

/* ---- beside the interface of taosX ---- */

/* Stores up to max_count ids of the blocks that must be backed up, in the order of their WAL offset, and in *count how
 * many there are in all. `ids` may be NULL if max_count is 0. ERR_INTERNAL: never started, or a file can't be read; or, with
 * both stored, there are ranges besides in which any block may have changed (beyond max_blocks, or the memory limit is
 * reached): taosx_plugin_last_error says where; back them up whole. */
int taosx_plugin_get_dirty_blocks(uint64_t *ids, size_t max_count, size_t *count);

/* Why the calling thread's last call failed; empty if it did not. Lives until the thread's next call. */
const char *taosx_plugin_last_error(void);

#ifdef __cplusplus
}
#endif

#endif
