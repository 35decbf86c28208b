/*
 * bitmap_engine.h - which blocks of a TDengine database changed, and when.
 *
 * A block is the rows of one table in one time window. The engine holds the state of up to 10^9 blocks and the
 * WAL offset and time of each block's latest mark, answers range queries over both, keeps a memory limit, and, with
 * persistence, survives a crash.
 *
 * Handles      SBitmapEngine and SBitmapCursor are opaque. Whoever gets one from _init/_open gives it back with
 *              _destroy/_close, once. Everything else belongs to the caller; strings and arrays are copied or
 *              filled during the call and never kept.
 * Threads      All functions may be called from any number of threads on the same engine, except that
 *              bitmap_engine_destroy must be the last call on it. A cursor is used by one thread at a time.
 * Atomicity    A mark changes the block's state, metadata and place in both range queries together.
 * NULL         A NULL engine, cursor or required pointer is reported as ERR_INVALID_PARAM (or 0 where a function
 *              returns a count) and changes nothing. Destroying or closing NULL does nothing.
 * Units        Timestamps are nanoseconds since 1970-01-01 UTC and may be negative. MB is 2^20 bytes.
 * Complexity   n is the number of marked blocks, k the number of results.
 *
 * C99 and C++. Link with -lincremental_bitmap (static) or -lincremental_bitmap_plugin (shared).
 */
#ifndef TDENGINE_BITMAP_ENGINE_H
#define TDENGINE_BITMAP_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Result codes. Every function that returns int32_t returns one of these. */
enum {
  ERR_SUCCESS             = 0,     /* done */
  ERR_INVALID_PARAM       = -1,    /* NULL, a value that is no member of its enum, or a setting out of range */
  ERR_INVALID_STATE_TRANS = -1001, /* the block's state does not allow the mark; nothing was changed */
  ERR_BLOCK_NOT_FOUND     = -1002, /* the block was never marked */
  ERR_MEMORY_FULL         = -1003, /* the memory limit is reached and nothing can go to disk; nothing was changed */
  ERR_LOCKED              = -1004, /* another engine has the persistence path open */
  ERR_IO                  = -1005, /* the operating system refused to read or write a file */
  ERR_DAMAGED             = -1006, /* a file changed under the running engine: reopen it */
  ERR_UNKNOWN_FORMAT      = -1007, /* the files were written by a version of the engine this one does not know */
  ERR_BLOCK_DAMAGED       = -1008, /* the block's record was damaged on disk: it is DIRTY, no more is known */
  ERR_NOT_RUNNING         = -1020, /* what is needed is not running; the event was not taken */
  ERR_ALREADY_RUNNING     = -1021, /* it is running: stop or uninstall it first */
  ERR_IN_CALLBACK         = -1022, /* a callback can't do this to its own interceptor */
  ERR_TIMEOUT             = -1023, /* the time is over; what happened is said at the function */
  ERR_QUEUE_FULL          = -1024, /* there is no room in the queue */
  ERR_QUEUE_EMPTY         = -1025, /* there is nothing in the queue */
  ERR_CLOSED              = -1026, /* the queue was closed */
  ERR_NOT_SUPPORTED       = -1027, /* the storage engine says that it can't work here */
  ERR_EXISTS              = -1028, /* the name or directory is taken */
  ERR_INTERNAL            = -1100, /* a bug in the engine; the call may have done part of its work */

  /* Only backups return these (backup_coordinator.h, incremental_backup_tool.h, plugin_api.h). */
  ERR_NOT_STARTED         = -1201, /* the tool or plugin is not started */
  ERR_CONFIG              = -1202, /* the environment or the file of settings holds a wrong setting */
  ERR_SERVER              = -1203, /* the server, or its client library, can't be reached, refused, or is not named */
  ERR_DETECT              = -1204, /* what changed could not be told; nothing was exported */
  ERR_EXPORT              = -1205, /* the rows could not be exported; what is there can't be taken for a backup */
  ERR_RESTORE             = -1206, /* the restore failed: the target is not what was backed up; run it again */
  ERR_VERIFY              = -1207, /* what was written is not intact; it does not count */
  ERR_BACKUP_INCOMPLETE   = -1208, /* done, but something is missing or wider than it should be */
  ERR_NOT_DETECTED        = -1209, /* a block that the last detection did not find */
  ERR_READ                = -1210, /* a block's data could not be read */
  ERR_CANCELLED           = -1212, /* somebody cancelled it */
  ERR_KEY                 = -1213, /* the key file can't be used, or does not fit the archive */
  ERR_ARCHIVE             = -1214  /* an archive is damaged or cut off */
};

/* The state of a block. */
typedef enum {
  BLOCK_STATE_CLEAN   = 0, /* nothing changed since the last backup */
  BLOCK_STATE_DIRTY   = 1, /* rows were written, overwritten or deleted */
  BLOCK_STATE_NEW     = 2, /* created since the last backup */
  BLOCK_STATE_DELETED = 3  /* deleted, and the deletion is not confirmed yet */
} EBlockState;

/* What is known of a block: its latest mark and its state. */
typedef struct {
  uint64_t    block_id;
  uint64_t    wal_offset;
  int64_t     timestamp; /* ns */
  EBlockState state;
} SBlockMetadata;

/* One mark of a batch. */
typedef struct {
  uint64_t block_id;
  uint64_t wal_offset;
  int64_t  timestamp; /* ns */
} SBlockMark;

/* Settings of an engine. The string is copied. */
typedef struct {
  uint32_t    max_memory_mb;       /* the memory limit, at least 1 */
  bool        persistence_enabled; /* keep state in persistence_path */
  const char *persistence_path;    /* UTF-8, a directory, created where missing; ignored without persistence */
} SBitmapEngineConfig;

/* Memory held by one engine. */
typedef struct {
  double   current_mb;         /* held now */
  double   peak_mb;            /* the most ever held */
  double   total_allocated_mb; /* everything ever taken */
  double   total_freed_mb;     /* everything given back */
  double   usage_percent;      /* current_mb in percent of the limit */
  uint64_t allocation_count;   /* how often memory was taken */
  uint64_t free_count;         /* how often memory was given back */
} SMemoryStats;

/* A range of blocks whose records were damaged on disk. All of its blocks count as DIRTY. */
typedef struct {
  uint64_t first_block_id;
  uint64_t last_block_id; /* inclusive */
} SDamagedRange;

typedef struct SBitmapEngine SBitmapEngine;
typedef struct SBitmapCursor SBitmapCursor;

/* What `code` means, in English, for any value. Never NULL; static, not to be freed. */
const char *bitmap_strerror(int32_t code);

/* ---- life ---- */

/* A new engine as the process's settings say (docs/configuration.md: memory_limit_mb, persistence_path); without any, in
 * memory with a limit of 1024 MB. NULL if they are wrong or it can't be made; the log says why. Give back with
 * bitmap_engine_destroy. */
SBitmapEngine *bitmap_engine_init(void);

/* A new engine as `config` says, with the state found in the path if persistence is enabled.
 * NULL if config is NULL or bad, or the path can't be used; bitmap_engine_open says why. O(n) with persistence. */
SBitmapEngine *bitmap_engine_init_with_config(const SBitmapEngineConfig *config);

/* As bitmap_engine_init_with_config, and says why it fails: stores the engine, or NULL, in *engine.
 * ERR_INVALID_PARAM (NULL, limit 0, path NULL, empty or not UTF-8), ERR_LOCKED, ERR_IO, ERR_UNKNOWN_FORMAT.
 * Damaged files are not an error: see bitmap_engine_get_damaged_ranges. */
int32_t bitmap_engine_open(const SBitmapEngineConfig *config, SBitmapEngine **engine);

/* Ends the engine; with persistence writes what is not on disk yet (call bitmap_engine_sync before to learn of
 * errors). The handle is invalid afterwards. Cursors opened on it stay valid until they are closed; until then its
 * path stays locked. */
void bitmap_engine_destroy(SBitmapEngine *engine);

/* Returns when everything marked before the call is on disk and survives a crash. Without persistence: ERR_SUCCESS.
 * ERR_IO: nothing is lost in memory; call again. */
int32_t bitmap_engine_sync(SBitmapEngine *engine);

/* ---- marks: O(1) amortised, O(log n) merging in the background ----
 * Codes: ERR_SUCCESS, ERR_INVALID_PARAM, ERR_INVALID_STATE_TRANS, ERR_MEMORY_FULL, ERR_INTERNAL. With persistence
 * also ERR_IO and ERR_DAMAGED: the block's state lies on disk, because memory is short, and can't be read back.
 * Whatever the error, nothing was changed.
 * Marking a block with the state it has refreshes its WAL offset and time. */

/* The block was modified: CLEAN or DIRTY becomes DIRTY, NEW stays NEW. */
int32_t bitmap_engine_mark_dirty(SBitmapEngine *engine, uint64_t block_id, uint64_t wal_offset, int64_t timestamp);
/* The block was created: CLEAN or NEW becomes NEW. */
int32_t bitmap_engine_mark_new(SBitmapEngine *engine, uint64_t block_id, uint64_t wal_offset, int64_t timestamp);
/* The block was deleted: any state becomes DELETED. */
int32_t bitmap_engine_mark_deleted(SBitmapEngine *engine, uint64_t block_id, uint64_t wal_offset, int64_t timestamp);
/* The block was flushed, backed up, or its deletion confirmed: any state becomes CLEAN. The latest mark's WAL offset
 * and time stay known. Also ERR_BLOCK_NOT_FOUND: it was never marked. */
int32_t bitmap_engine_clear_block(SBitmapEngine *engine, uint64_t block_id);

/* The same for `count` marks, in order. Stops at the first that fails and returns its code; *applied, if not NULL,
 * says how many were made, whatever the code. Each mark is atomic, the batch is not. `marks` may be NULL if count
 * is 0. */
int32_t bitmap_engine_mark_dirty_batch(SBitmapEngine *engine, const SBlockMark *marks, size_t count, size_t *applied);
int32_t bitmap_engine_mark_new_batch(SBitmapEngine *engine, const SBlockMark *marks, size_t count, size_t *applied);
int32_t bitmap_engine_mark_deleted_batch(SBitmapEngine *engine, const SBlockMark *marks, size_t count,
                                         size_t *applied);
int32_t bitmap_engine_clear_batch(SBitmapEngine *engine, const uint64_t *block_ids, size_t count, size_t *applied);

/* ---- lookups ---- */

/* Stores the block's state. O(1). ERR_BLOCK_NOT_FOUND if it was never marked; with persistence also ERR_IO and
 * ERR_DAMAGED, as for marks. *state is then unchanged. */
int32_t bitmap_engine_get_block_state(SBitmapEngine *engine, uint64_t block_id, EBlockState *state);

/* Stores all that is known of the block. O(log n). ERR_BLOCK_NOT_FOUND, ERR_BLOCK_DAMAGED, ERR_IO, ERR_DAMAGED;
 * *metadata is then unchanged. */
int32_t bitmap_engine_get_block_metadata(SBitmapEngine *engine, uint64_t block_id, SBlockMetadata *metadata);

/* Stores the ids of the blocks that are DIRTY or NEW and whose latest mark lies in [start, end], both inclusive, in
 * the order of time (WAL offset), then id. Returns how many were stored: never more than max_count, all there are if
 * it is less. O(log n + k). An empty or reversed range, max_count 0 and NULL give 0. If a file can't be read the
 * result is 0 and bitmap_engine_last_query_error says why. */
uint32_t bitmap_engine_get_dirty_blocks_by_time(SBitmapEngine *engine, int64_t start, int64_t end,
                                                uint64_t *block_ids, uint32_t max_count);
uint32_t bitmap_engine_get_dirty_blocks_by_wal(SBitmapEngine *engine, uint64_t start, uint64_t end,
                                               uint64_t *block_ids, uint32_t max_count);

/* The code of the latest of these two queries by the calling thread, on any engine: ERR_SUCCESS, ERR_INVALID_PARAM,
 * ERR_IO, ERR_DAMAGED or ERR_INTERNAL. */
int32_t bitmap_engine_last_query_error(void);

/* The same queries without a limit, page by page: a cursor sees the engine as it was when it was opened. Marks made
 * while it is open cost memory until it is closed. Stores the cursor, or NULL, in *cursor; close it with
 * bitmap_cursor_close. ERR_INVALID_PARAM, ERR_IO, ERR_DAMAGED. */
int32_t bitmap_engine_open_cursor_by_time(SBitmapEngine *engine, int64_t start, int64_t end, SBitmapCursor **cursor);
int32_t bitmap_engine_open_cursor_by_wal(SBitmapEngine *engine, uint64_t start, uint64_t end, SBitmapCursor **cursor);

/* Stores up to max_count further ids and in *count how many; 0 after the last. ERR_INVALID_PARAM (NULL, max_count 0),
 * ERR_IO, ERR_DAMAGED; *count is then 0, and from then on every call gives ERR_IO: open a new cursor. */
int32_t bitmap_cursor_next(SBitmapCursor *cursor, uint64_t *block_ids, size_t max_count, size_t *count);

/* Closes the cursor. */
void bitmap_cursor_close(SBitmapCursor *cursor);

/* Stores numbers of blocks: ever marked, DIRTY, NEW, DELETED. NULL pointers are skipped; nothing is stored for a NULL
 * engine. O(1). */
void bitmap_engine_get_stats(SBitmapEngine *engine, uint64_t *total, uint64_t *dirty, uint64_t *fresh,
                             uint64_t *deleted);

/* ---- memory ---- */

/* Stores what the engine holds in memory. */
int32_t bitmap_engine_get_memory_stats(SBitmapEngine *engine, SMemoryStats *stats);

/* Gives back memory until at most target_memory_mb are held or nothing more can go to disk: the least recently used
 * goes first. Returns the bytes given back, 0 for NULL. No answer changes. */
uint64_t bitmap_engine_cleanup_memory(SBitmapEngine *engine, uint32_t target_memory_mb);

/* Stores memory use in percent of the limit and whether it is above the warning threshold of 80. */
int32_t bitmap_engine_check_memory_usage(SBitmapEngine *engine, double *usage_percent, bool *is_warning);

/* Changes the memory limit, at once. ERR_INVALID_PARAM for 0. */
int32_t bitmap_engine_set_memory_limit(SBitmapEngine *engine, uint32_t memory_limit_mb);

/* The memory limit in MB; 0 for NULL. */
uint32_t bitmap_engine_get_memory_limit(SBitmapEngine *engine);

/* ---- damage ---- */

/* Stores up to max_count ranges of blocks whose records were found damaged on disk when the engine was opened, and
 * in *count how many there are in all. `ranges` may be NULL if max_count is 0. Range queries name the blocks of
 * such a range that the engine knows of; the range itself must be backed up whole. */
int32_t bitmap_engine_get_damaged_ranges(SBitmapEngine *engine, SDamagedRange *ranges, size_t max_count,
                                         size_t *count);

/* The ranges that the handle's last call of bitmap_engine_get_damaged_ranges stored were backed up whole: forgets them. A
 * range that came since, that something came into since, or that was not stored stays; without such a call before,
 * nothing is forgotten. For a handle with one holder; where several back up, each takes a token. ERR_IO. */
int32_t bitmap_engine_acknowledge_damage(SBitmapEngine *engine);

/* As bitmap_engine_get_damaged_ranges and bitmap_engine_acknowledge_damage, with a token that stands for the ranges that
 * were stored, as they were then: acknowledging it forgets these and nothing else, whoever else asks or acknowledges. A
 * token counts for the engine that stored it, until that is destroyed; once acknowledged it may be acknowledged again.
 * ERR_INVALID_PARAM (also a token that was never stored), ERR_IO. */
int32_t bitmap_engine_get_damaged_ranges_with_token(SBitmapEngine *engine, SDamagedRange *ranges, size_t max_count,
                                                    size_t *count, uint64_t *token);
int32_t bitmap_engine_acknowledge_damage_with_token(SBitmapEngine *engine, uint64_t token);

/* ---- rules ---- */

/* Is from -> to a transition? ERR_SUCCESS, ERR_INVALID_STATE_TRANS, or ERR_INVALID_PARAM for no state.
 * A state may always be kept. */
int32_t bitmap_engine_validate_state_transition(EBlockState from, EBlockState to);

/* Why from -> to is no transition, or that it is one. Never NULL; static, not to be freed. */
const char *bitmap_engine_get_state_transition_error(EBlockState from, EBlockState to);

#ifdef __cplusplus
}
#endif

#endif
