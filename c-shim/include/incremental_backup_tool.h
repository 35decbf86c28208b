/*
 * incremental_backup_tool.h - whole incremental backups of one database, driven by a host process.
 *
 * A backup finds what changed since the last one, reads those rows from the server, checks what it wrote, and only
 * then moves the checkpoint that the next one starts from. It is what the program incremental_bitmap_tool does with
 * --detect, --export and --verify; files and restore are described in docs/export.md.
 *
 * The process needs TDengine's client library, linked in or where the system's linker finds it, and must run on the
 * server's host as a user that may read the server's data directories. User, password and data directories are taken
 * from the environment and the file that TDENGINE_CONFIG_PATH names (docs/configuration.md).
 *
 * Ownership    _create copies the configuration and its strings. Give the tool back with _destroy.
 * Threads      All functions but _destroy may be called from any thread at any time; backups run one after the other.
 * Errors       Codes of bitmap_engine.h; incremental_backup_tool_error has the words.
 *
 * C99 and C++.
 */
#ifndef TDENGINE_INCREMENTAL_BACKUP_TOOL_H
#define TDENGINE_INCREMENTAL_BACKUP_TOOL_H

#include <stdbool.h>
#include <stdint.h>

#include "bitmap_engine.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
  const char *source_host;       /* the server */
  int32_t     source_port;       /* 0 for the client library's default */
  const char *database;
  const char *backup_path;       /* a directory, created where missing; each backup makes one below it */
  const char *bitmap_cache_path; /* a directory for the checkpoint, created where missing */
  int64_t     since_timestamp;   /* where the first backup starts: ns since the epoch; 0 for the very beginning */
  uint32_t    batch_size;        /* tables read at a time, each over a connection of its own; 0: one per processor */
  bool        enable_compression;
  bool        enable_encryption; /* must be false: exports can't be encrypted (docs/export.md) */
} SIncrementalBackupConfig;

typedef struct SIncrementalBackupTool SIncrementalBackupTool;

/* A tool, not started; nothing is read or connected to yet. NULL if config is NULL, a string in it is NULL, empty or
 * not UTF-8, the port is no port, since_timestamp is negative, batch_size above 1024, or encryption is asked for. */
SIncrementalBackupTool *incremental_backup_tool_create(const SIncrementalBackupConfig *config);

/* Gives the tool back; no call may be under way: _stop waits for a backup. NULL does nothing. */
void incremental_backup_tool_destroy(SIncrementalBackupTool *tool);

/* Reads settings, connects once and finds the server's data directories, so that a backup can't fail on them later.
 * Again after _stop. Started already: ERR_SUCCESS. ERR_INVALID_PARAM, ERR_CONFIG, ERR_SERVER. */
int32_t incremental_backup_tool_start(SIncrementalBackupTool *tool);

/* Does a backup. since_timestamp, ns since the epoch: start there; 0: where the last backup ended, else as configured.
 * ERR_SUCCESS: done, verified, and the checkpoint moved; it stays if since_timestamp lies behind it, as what changed in
 * between is in no backup yet.
 * ERR_BACKUP_INCOMPLETE: done, but tables could not be read (the checkpoint did not move), or the detection was wider
 * than the changes or may lack dropped tables, as the log does not reach back to the start: let WAL_RETENTION_PERIOD be
 * longer than the time between backups (it moved).
 * ERR_INVALID_PARAM, ERR_NOT_STARTED, ERR_SERVER, ERR_DETECT, ERR_EXPORT, ERR_VERIFY: no backup; the checkpoint did
 * not move, so the next one has these changes. */
int32_t incremental_backup_tool_backup(SIncrementalBackupTool *tool, int64_t since_timestamp);

/* Writes a shell script that does backups with incremental_bitmap_tool and an unpatched taosdump, which are looked for
 * along PATH; see docs/export.md. ERR_INVALID_PARAM (NULL, or a value that no script can hold), ERR_IO. */
int32_t incremental_backup_tool_generate_taosdump_script(SIncrementalBackupTool *tool, const char *script_path);

/* Blocks with changed rows over all backups since _create: found, exported, and of tables that could not be read.
 * Each pointer may be NULL. ERR_INVALID_PARAM. */
int32_t incremental_backup_tool_get_stats(SIncrementalBackupTool *tool, uint64_t *total_blocks,
                                          uint64_t *processed_blocks, uint64_t *failed_blocks);

/* No backup begins any more; waits for one that is running. Stopped already: ERR_SUCCESS. ERR_INVALID_PARAM. */
int32_t incremental_backup_tool_stop(SIncrementalBackupTool *tool);

/* What was wrong with the last call of this thread that returned an error or NULL, in words; empty if none did. Valid
 * until this thread's next call of a function of this header or of plugin_api.h. Never NULL. */
const char *incremental_backup_tool_error(void);

#ifdef __cplusplus
}
#endif

#endif
