/*
 * plugin_api.h - the engine as a backup plugin: one table of functions in libincremental_bitmap_plugin.so.
 *
 * A host loads the library, calls backup_plugin_get_interface, checks abi_version and size, and goes on:
 *
 *     init -> detect_incremental_blocks -> export_blocks -> ... -> destroy
 *     init -> restore_blocks -> destroy
 *
 * The functions do what the program incremental_bitmap_tool does with --detect, --export and --verify, and what
 * taosdump --incremental -i does: the same code, the same files (docs/plugins.md, docs/export.md).
 *
 * Ownership    Strings are borrowed for the time of a call. A list of blocks is the caller's until free_blocks.
 * Threads      Every function may be called from any thread. Detection, export and restore run one at a time; the
 *              others wait for them.
 * Versions     abi_version and size stay where they are in every version; members are only ever added behind them. A
 *              host refuses a table with another abi_version or with a smaller size than its own.
 * Errors       Codes of bitmap_engine.h; error has the words.
 *
 * C99 and C++.
 */
#ifndef TDENGINE_PLUGIN_API_H
#define TDENGINE_PLUGIN_API_H

#include <stdint.h>

#include "backup_coordinator.h"
#include "bitmap_engine.h"
#include "taosdump_engine.h"

#ifdef __cplusplus
extern "C" {
#endif

#define BACKUP_PLUGIN_ABI 1u

typedef struct {
  /* Reads settings: JSON text, or the path of a file (docs/configuration.md), or NULL for the environment alone. The
   * environment goes over the file. Nothing is connected to yet. Called again, the settings are replaced, and what
   * was detected is forgotten; if that fails, nothing changes. A file that changes later is read again: what is live in
   * it counts from the next call on. ERR_CONFIG (also for backup.encryption, which exports can't have);
   * ERR_INVALID_PARAM (not UTF-8). */
  int32_t (*init)(const char *config);

  /* Forgets everything. May be called without init. */
  void (*destroy)(void);

  /* Ids of blocks that the last detection found with a version from start_wal to end_wal, both included: ascending by
   * version. Returns how many were stored, at most max_count; 0 without a detection. */
  uint32_t (*get_dirty_blocks)(uint64_t start_wal, uint64_t end_wal, uint64_t *block_ids, uint32_t max_count);

  /* The same blocks with what is known of them. */
  uint32_t (*get_incremental_blocks)(uint64_t start_wal, uint64_t end_wal, SIncrementalBlock *blocks,
                                     uint32_t max_count);

  /* Bytes that an export of these blocks would write for tables' rows and tags, estimated from a few of its tables,
   * which are read from the server. 0 if it can't be told: without a detection, a server, or a place in
   * backup.temp_path (default: the system's); error says why. */
  uint64_t (*estimate_backup_size)(uint64_t start_wal, uint64_t end_wal);

  /* ERR_INVALID_PARAM (NULL), ERR_NOT_STARTED. */
  int32_t (*get_stats)(SBackupStats *stats);

  /* ERR_NOT_STARTED. */
  int32_t (*reset_stats)(void);

  const char *(*get_plugin_name)(void);    /* plugin.name, "incremental_bitmap" by default; never freed */
  const char *(*get_plugin_version)(void); /* such as "0.1.0"; static */

  /* Finds what changed in a database since a time, ns since the epoch; NULL: the database of the settings. Time 0: where
   * the last detection ended whose blocks were all exported, if bitmap_engine.persistence_path is set, else where the
   * settings say (source.since), else the very beginning. Stores the blocks with changed rows, ascending by id, and
   * their number; *blocks is NULL if there are none. Give them back with free_blocks. Tables that were created or
   * dropped and rows that were deleted stand in no block; export_blocks has them in any case.
   * ERR_BACKUP_INCOMPLETE: done, but wider than the changes, or dropped tables may be missing, as the log does not reach
   * back to the start (WAL_RETENTION_PERIOD); the blocks are stored.
   * ERR_INVALID_PARAM, ERR_NOT_STARTED, ERR_SERVER, ERR_DETECT: *blocks is NULL. */
  int32_t (*detect_incremental_blocks)(const char *database, int64_t since_timestamp, SIncrementalBlock **blocks,
                                       uint32_t *count);

  /* Reads the rows of these blocks from the server and writes them to a directory, which must be empty or not there;
   * verifies it. Only block_id is looked at. Blocks must be of the last detection. If all of them are exported, the
   * next detection from time 0 goes on from there, unless it would leave out what changed before the time that the
   * detection was given.
   * ERR_BACKUP_INCOMPLETE: done, but tables could not be read. ERR_INVALID_PARAM, ERR_NOT_STARTED, ERR_NOT_DETECTED,
   * ERR_SERVER, ERR_EXPORT, ERR_VERIFY: nothing that can be taken for an export. */
  int32_t (*export_blocks)(const SIncrementalBlock *blocks, uint32_t count, const char *output_path);

  /* Restores an export, or the first link of a chain, or the one that follows, to a database of this name. An export
   * needs a database that exists. Checked before the first write. May be run again after any failure.
   * ERR_BACKUP_INCOMPLETE: done, but the backup lacks something. ERR_INVALID_PARAM, ERR_NOT_STARTED, ERR_SERVER,
   * ERR_RESTORE. */
  int32_t (*restore_blocks)(const char *backup_path, const char *target_database);

  uint32_t abi_version; /* BACKUP_PLUGIN_ABI */
  uint32_t size;        /* sizeof(SBackupPluginInterface) */

  /* Gives back what detect_incremental_blocks stored. NULL does nothing. */
  void (*free_blocks)(SIncrementalBlock *blocks, uint32_t count);

  /* What was wrong with the last call of this thread that failed, in words; empty if none did. Valid until this
   * thread's next call. Never NULL. */
  const char *(*error)(void);

  /* What a patched taosdump calls: the same as the library's taosdump_engine(). */
  const STaosdumpEngine *(*taosdump)(void);
} SBackupPluginInterface;

/* The table; lives as long as the library is loaded. Never NULL. */
SBackupPluginInterface *backup_plugin_get_interface(void);

/* The same as the table's members. */
uint32_t backup_plugin_get_dirty_blocks(uint64_t start_wal, uint64_t end_wal, uint64_t *block_ids, uint32_t max_count);
uint32_t backup_plugin_get_incremental_blocks(uint64_t start_wal, uint64_t end_wal, SIncrementalBlock *blocks,
                                              uint32_t max_count);
uint64_t backup_plugin_estimate_backup_size(uint64_t start_wal, uint64_t end_wal);
int32_t  backup_plugin_get_stats(SBackupStats *stats);
int32_t  backup_plugin_reset_stats(void);

#ifdef __cplusplus
}
#endif

#endif
