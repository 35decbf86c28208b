/*
 * backup_coordinator.h - exports an engine's changed blocks, batch by batch, into archives.
 *
 * The engine knows which blocks changed; a reader that the host sets knows what is in them. Each batch becomes one
 * archive file below backup_path, compressed and encrypted if wanted, written under a temporary name and renamed once
 * it is on disk. A cursor says how far that is. It moves only past blocks that are safe, so whatever fails, the next
 * export has it again; a block that fails holds up no other. Blocks keep their state: clear them with bitmap_engine_clear_block when the backup is safe.
 *
 * Cursors      TIME and WAL go by the time or WAL position of blocks' latest marks, and trust that marks come in this
 *              order: a mark with the cursor's own or a lower one is not seen. So export when all blocks of a position
 *              are marked: with an interceptor, after event_interceptor_settle. HYBRID sees every block that is new by
 *              either of the two.
 * Ownership    _init copies the configuration. The coordinator keeps the engine alive. Give it back with _destroy.
 * Threads      All functions but _destroy may be called from any thread. Exports run one at a time. A reader may call
 *              functions of the engine, and of the coordinator only _cancel, _get_stats and _get_cursor.
 * Errors       Codes of bitmap_engine.h; backup_coordinator_error has the words.
 *
 * C99 and C++.
 */
#ifndef TDENGINE_BACKUP_COORDINATOR_H
#define TDENGINE_BACKUP_COORDINATOR_H

#include <stdbool.h>
#include <stdint.h>

#include "bitmap_engine.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
  BACKUP_CURSOR_TYPE_TIME   = 0,
  BACKUP_CURSOR_TYPE_WAL    = 1,
  BACKUP_CURSOR_TYPE_HYBRID = 2
} EBackupCursorType;

/* How far blocks are exported. A fresh cursor is all zeros but its type. */
typedef struct {
  EBackupCursorType type;
  int64_t           time_cursor;      /* every block marked up to this time is exported, ns since the epoch */
  uint64_t          wal_cursor;       /* every block marked up to this WAL position is exported */
  uint64_t          block_count;      /* blocks exported so far; 0: nothing is, whatever the cursors say */
  int64_t           last_update_time; /* when it moved last, ns since the epoch; 0 for never */
} SBackupCursor;

/* A block that changed. */
typedef struct {
  uint64_t block_id;
  uint64_t wal_offset; /* of its latest mark; the newest version in it */
  int64_t  timestamp;  /* of its latest mark, ns since the epoch */
  uint32_t data_size;  /* from the plugin: rows that changed; from a coordinator: 0 */
  void    *data;       /* NULL: data is read when the block is exported */
} SIncrementalBlock;

typedef struct {
  uint32_t    batch_size;        /* blocks in an archive, at most; at least 1 */
  uint32_t    max_retries;       /* how often a batch that failed is tried again */
  uint32_t    retry_interval_ms; /* how long to wait before that */
  uint32_t    timeout_ms;        /* how long a batch may take with all its tries; at least 1. A reader that does not
                                  * return is not interrupted */
  bool        enable_compression; /* zstd */
  bool        enable_encryption;  /* age; needs backup_coordinator_set_key_file before the first export. The
                                   * settings' backup.encryption (docs/configuration.md) makes it true */
  const char *backup_path;        /* an existing directory */
  const char *temp_path;          /* an existing directory, for the archive that an estimate writes; NULL: backup_path.
                                   * Archives themselves are made where they stay, so that a rename completes them */
  bool        enable_parallel_processing; /* as many batches at a time as there are processors: the reader is called
                                           * by several threads at once. Else by the one that exports */
} SBackupConfig;

/* What was done since init or reset_stats. */
typedef struct {
  uint64_t total_blocks;     /* found by exports, or by the plugin's detections */
  uint64_t processed_blocks; /* exported and safe */
  uint64_t failed_blocks;    /* not exported by exports that failed */
  uint64_t total_size;       /* bytes that exports wrote */
  int64_t  start_time;       /* of the last export, ns since the epoch; 0 if there was none. From the plugin: of the last
                              * detection, export or restore */
  int64_t  end_time;         /* of the same */
  uint32_t retry_count;      /* how often a batch, or the plugin's export, was tried again */
} SBackupStats;

typedef struct SBackupCoordinator SBackupCoordinator;
typedef struct SBackupSink        SBackupSink;

/* Reads what a block holds: calls backup_sink_write with it, in as many parts as it likes, and returns ERR_SUCCESS.
 * Any other value: it can't be read, and is tried again later. Must not let an exception out. */
typedef int32_t (*BackupBlockReader)(uint64_t block_id, SBackupSink *sink, void *user_data);

/* Called with each block of an archive; data lives until it returns. */
typedef void (*BackupBlockVisitor)(const SIncrementalBlock *block, const void *data, uint32_t size, void *user_data);

/* Adds to a block's data, 1 GiB at most. ERR_INVALID_PARAM (NULL, or too much: then the block can't be read, whatever
 * the reader returns). Only within a reader. */
int32_t backup_sink_write(SBackupSink *sink, const void *data, uint32_t size);

/* A coordinator that has exported nothing, with a WAL cursor, started. NULL if engine or config is NULL, or a setting
 * is out of range or missing; backup_coordinator_error names it. */
SBackupCoordinator *backup_coordinator_init(SBitmapEngine *engine, const SBackupConfig *config);

/* Gives it back; no call may be under way. NULL does nothing. */
void backup_coordinator_destroy(SBackupCoordinator *coordinator);

/* Who reads blocks, from the next export on. NULL, as at first: blocks are those of the server that "tdengine" or "tmq"
 * follows (storage_engine_interface.h), and archives hold their rows as read_data_block gives them; a block of a table that was
 * dropped is one without columns. ERR_INVALID_PARAM (coordinator is NULL). */
int32_t backup_coordinator_set_reader(SBackupCoordinator *coordinator, BackupBlockReader reader, void *user_data);

/* What archives are encrypted with: a file with a passphrase of 8 or more characters on its first line, or an age
 * identity, that only its owner may read. It is read now. Without it, the settings' backup.key_file counts.
 * ERR_INVALID_PARAM (also if archives are not encrypted: a key must not pass for encryption), ERR_KEY. */
int32_t backup_coordinator_set_key_file(SBackupCoordinator *coordinator, const char *path);

/* Allows exports, and forbids them: stop ends the one that is under way behind the batches that are safe, and waits
 * for it. Each may be called again. ERR_INVALID_PARAM. */
int32_t backup_coordinator_start(SBackupCoordinator *coordinator);
int32_t backup_coordinator_stop(SBackupCoordinator *coordinator);

/* As stop, without waiting. */
int32_t backup_coordinator_cancel(SBackupCoordinator *coordinator);

/* Exports every block behind the cursor; without a reader, or while "tdengine" or "tmq" follows a server, every changed block
 * whose latest mark it has not exported yet, as the WAL versions of a server with several vgroups are in no order. ERR_SUCCESS: all are safe; also if there are none.
 * ERR_BACKUP_INCOMPLETE: all that are known are safe, but the engine has ranges of which nobody knows the blocks: take
 * them from bitmap_engine_get_damaged_ranges, back them up whole, then call bitmap_engine_acknowledge_damage.
 * ERR_READ, ERR_IO (such as a full disk), ERR_TIMEOUT: blocks are in no archive, backup_coordinator_error names the first 16
 * of them, and the code is that of the first. All others are safe and do not come again while the coordinator lives; the cursor stands before the
 * first that is not.
 * ERR_NOT_STARTED (stopped, or no reader and no followed server), ERR_KEY (encryption without a key), ERR_READ and ERR_TIMEOUT
 * with a server that does not answer, ERR_CANCELLED, and the engine's: the export ended behind the batches that are safe. */
int32_t backup_coordinator_export(SBackupCoordinator *coordinator);

/* DIRTY and NEW blocks by their latest mark, as bitmap_engine_get_dirty_blocks_by_wal and _by_time: closed ranges, at
 * most max_count. Returns how many were stored; 0 also for an error. */
uint32_t backup_coordinator_get_dirty_blocks(SBackupCoordinator *coordinator, uint64_t start_wal, uint64_t end_wal,
                                             uint64_t *block_ids, uint32_t max_count);
uint32_t backup_coordinator_get_dirty_blocks_by_time(SBackupCoordinator *coordinator, int64_t start_time,
                                                     int64_t end_time, uint64_t *block_ids, uint32_t max_count);

/* The same blocks with their marks. */
uint32_t backup_coordinator_get_incremental_blocks(SBackupCoordinator *coordinator, uint64_t start_wal,
                                                   uint64_t end_wal, SIncrementalBlock *blocks, uint32_t max_count);

/* Bytes that archives of these blocks would have, from an archive of up to 256 of them, which are read now. 0 if it
 * can't be told: an error, no reader, or no blocks. */
uint64_t backup_coordinator_estimate_backup_size(SBackupCoordinator *coordinator, uint64_t start_wal,
                                                 uint64_t end_wal);

/* ERR_INVALID_PARAM (NULL). */
int32_t backup_coordinator_get_stats(SBackupCoordinator *coordinator, SBackupStats *stats);
int32_t backup_coordinator_reset_stats(SBackupCoordinator *coordinator);
int32_t backup_coordinator_get_cursor(SBackupCoordinator *coordinator, SBackupCursor *cursor);

/* Goes on from a cursor that the host kept. Waits for an export that is under way. ERR_INVALID_PARAM (NULL, type). */
int32_t backup_coordinator_set_cursor(SBackupCoordinator *coordinator, const SBackupCursor *cursor);

/* The host exported this block itself, and every block before it in the cursor's order: moves the cursor up to it,
 * never back. ERR_INVALID_PARAM (NULL), ERR_BLOCK_NOT_FOUND. */
int32_t backup_coordinator_update_cursor(SBackupCoordinator *coordinator, uint64_t block_id, uint64_t wal_offset,
                                         int64_t timestamp);

/* Checks a whole archive, then calls visitor with each block, or with none if anything is wrong. Rows of a block that take
 * more than 1 GiB come in several calls, each with the window that it stands for. key_file and visitor may be NULL.
 * ERR_INVALID_PARAM, ERR_IO, ERR_KEY, ERR_ARCHIVE, ERR_UNKNOWN_FORMAT (a later version wrote it). */
int32_t backup_archive_read(const char *path, const char *key_file, BackupBlockVisitor visitor, void *user_data);

/* As incremental_backup_tool_error, for this header. */
const char *backup_coordinator_error(void);

#ifdef __cplusplus
}
#endif

#endif
