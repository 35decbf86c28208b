/*
 * storage_engine_interface.h - where block events come from: a registry of storage engines, and the one for TDengine.
 *
 * A storage engine is a table of functions (SStorageEngineInterface). A host registers its own with
 * register_storage_engine_interface; two are always there and tell what changes, block by block: "tdengine" follows the
 * data directories of a TDengine server, "tmq" a subscription to one, for a host that can't read these. Usually an event
 * interceptor drives one (event_interceptor_set_storage_interface); a host may as well call the table itself.
 *
 * Block ids    table number << 32 | window number. The position (below) gives out table numbers and fixes how wide a
 *              window is; it belongs to the bitmap that the events feed.
 * Threads      All functions may be called from any number of threads.
 * NULL         A NULL required pointer is ERR_INVALID_PARAM.
 * Codes        As in bitmap_engine.h.
 *
 * C99 and C++.
 */
#ifndef TDENGINE_STORAGE_ENGINE_INTERFACE_H
#define TDENGINE_STORAGE_ENGINE_INTERFACE_H

#include "bitmap_engine.h"
#include "observability.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
  STORAGE_EVENT_BLOCK_CREATE = 0,
  STORAGE_EVENT_BLOCK_UPDATE = 1,
  STORAGE_EVENT_BLOCK_FLUSH  = 2,
  STORAGE_EVENT_BLOCK_DELETE = 3,
  STORAGE_EVENT_MAX          = 4 /* how many there are */
} EStorageEventType;

typedef struct {
  EStorageEventType event_type;
  uint64_t          block_id;
  uint64_t          wal_offset; /* "tdengine": the WAL version of the request; "tmq": that or a little later */
  int64_t           timestamp;  /* ns; ours: when it was found */
  void             *user_data;  /* whatever the storage engine says; ours: NULL */
} SStorageEvent;

/* Blocks that may all have changed: what can't be told block by block, such as a dropped table or a damaged log. */
typedef struct {
  uint64_t    first_block_id;
  uint64_t    last_block_id; /* inclusive */
  uint64_t    wal_offset;
  int64_t     timestamp; /* ns */
  const char *reason;    /* English; lent for the call */
} SStorageRange;

/* Told of an event; it is lent for the call. */
typedef void (*StorageEventCallback)(const SStorageEvent *event, void *user_data);
/* Told of a range, which must be backed up whole; 0: taken. Otherwise everything since the last sync is told again. */
typedef int32_t (*StorageRangeCallback)(const SStorageRange *range, void *user_data);
/* Asked whether everything told so far is safe; 0: it is, and need not be told again after a restart. */
typedef int32_t (*StorageSyncCallback)(void *user_data);

typedef struct {
  bool                 enable_interception; /* false: install_interception does nothing */
  StorageEventCallback event_callback;      /* required */
  void                *callback_user_data;  /* must live until uninstall_interception returned */
  uint32_t             event_buffer_size;   /* a hint; ours have no buffer of their own */
  uint32_t             callback_threads;    /* a hint; ours call from one thread */
  StorageRangeCallback range_callback;      /* ours require it */
  StorageSyncCallback  sync_callback;       /* NULL: everything told is safe at once */
} SStorageEngineConfig;

/* What get_detailed_stats of "tdengine" and "tmq" stores. */
typedef struct {
  uint64_t events;         /* told since reset_stats */
  uint64_t ranges;         /* told since reset_stats */
  uint64_t scans;          /* times that something was read and all was safe */
  uint64_t failures;       /* times that this did not work and was done again */
  bool     running;        /* the interception is installed */
  bool     notified;       /* changes are told to it; false: it looks now and then */
  char     last_error[256]; /* of the last scan, cut; empty if it went well */
} SStorageEngineStats;

/* A storage engine. Every function must be there. Functions without codes of their own return those of
 * bitmap_engine.h. `engine` is for the implementation's own use; ours ignore it. */
typedef struct SStorageEngineInterface {
  int32_t (*init)(const SStorageEngineConfig *config); /* copies config; ERR_ALREADY_RUNNING between install and uninstall */
  void (*destroy)(void);                               /* uninstalls, forgets the configuration */
  int32_t (*install_interception)(void);               /* from now on events are told */
  int32_t (*uninstall_interception)(void);             /* returns when no more callback runs or will run; called by a
                                                          callback, it does not wait for those that run */
  int32_t (*trigger_event)(const SStorageEvent *event); /* tells this event, as if it had happened; ERR_NOT_RUNNING
                                                           before install and after uninstall */
  int32_t (*get_stats)(uint64_t *events_processed, uint64_t *events_dropped); /* NULL is skipped */
  int32_t (*get_detailed_stats)(void *engine, void *stats);                   /* ours: SStorageEngineStats */
  int32_t (*get_observability_metrics)(void *engine, SObservabilityMetrics *metrics);
  int32_t (*reset_stats)(void *engine);
  bool (*is_supported)(void); /* of ours, storage_engine_last_error says why not */
  const char *(*get_engine_name)(void); /* static */
} SStorageEngineInterface;

/* Returns the table, which must live as long as the process; NULL if there is none. */
typedef SStorageEngineInterface *(*StorageEngineInterfaceFactory)(void);

/* ---- the registry ---- */

/* Makes an engine known by a name, which is copied. ERR_EXISTS: the name is taken; ERR_INVALID_PARAM: NULL, empty or not
 * UTF-8. */
int32_t register_storage_engine_interface(const char *name, StorageEngineInterfaceFactory factory);

/* The table of that name; NULL for an unknown name. */
SStorageEngineInterface *get_storage_engine_interface(const char *name);

/* "tdengine". */
SStorageEngineInterface *get_default_storage_engine_interface(void);

/* Stores up to max_count names, in the order of registration, and in *count how many there are in all. The names live as
 * long as the process. `names` may be NULL if max_count is 0. */
int32_t list_storage_engine_interfaces(char **names, uint32_t max_count, uint32_t *count);

/* ---- "tdengine" ----
 *
 * It tells CREATE for blocks of tables that are new, UPDATE for blocks in which rows were written or deleted, and ranges
 * for what can't be told so. Nothing is told twice unless the process ended, or sync_callback said no, before it was
 * safe. is_supported: the configured directories hold a vnode. get_stats: events told, and 0, as none is dropped. */

typedef struct {
  const char *data_dirs;        /* dataDir of taos.cfg; several are separated by ':' */
  const char *database;         /* NULL: TD_DATABASE of the environment, or the only one there is */
  const char *position_path;    /* a file that says up to where changes were told, made where missing; NULL: every
                                   install begins with what is committed then */
  uint32_t    poll_interval_ms; /* how often to look without being told of a change; 0: 1000 */
} STdengineStorageConfig;

/* What the next install_interception follows. Copied. ERR_INVALID_PARAM: data_dirs is NULL or empty, or a text is not
 * UTF-8. */
int32_t tdengine_storage_configure(const STdengineStorageConfig *config);

/* Returns when everything that the server logged before the call is told and safe; timeout_ms 0: does not wait.
 * ERR_NOT_RUNNING, ERR_TIMEOUT. */
int32_t tdengine_storage_catch_up(uint32_t timeout_ms);

/* ---- "tmq" ----
 *
 * It subscribes to a whole database and tells the same as "tdengine", from another machine: only the client library
 * (libtaos) is needed, and a user with the right to subscribe and SYSINFO 1. docs/c-api.md says what a subscription does
 * not deliver. is_supported: there is a client library with subscriptions. get_stats as above.
 * install_interception returns ERR_SERVER for a client library, login, database or topic that can't be used, ERR_IO for a
 * position that can't be. */

typedef struct {
  const char *config;         /* JSON text or the path of a file with settings (docs/configuration.md); NULL: that of
                                 TDENGINE_CONFIG_PATH. The environment goes over it. It needs source.database and uses
                                 source.*, tmq.*, backup.retry_count, backup.retry_interval_ms and backup.timeout_ms */
  const char *position_path;  /* a file that says up to where changes were told, made where missing; NULL: every
                                 install begins with what is written from then on */
  uint32_t    window_seconds; /* how wide a window is; 0: 3600. A position keeps the one it was made with */
} STmqStorageConfig;

/* What the next install_interception follows. Copied. ERR_INVALID_PARAM: config is NULL or a text is not UTF-8;
 * ERR_CONFIG: a setting can't be used, or there is no source.database. */
int32_t tmq_storage_configure(const STmqStorageConfig *config);

/* Returns when everything that the server logged before the call is told and safe; timeout_ms 0: does not wait. It
 * subscribes anew, which takes the server some seconds. ERR_NOT_RUNNING, ERR_TIMEOUT. */
int32_t tmq_storage_catch_up(uint32_t timeout_ms);

/* ---- the write-ahead log ---- */

/* Called with the WAL's directory, the version of its last complete record and where that ends in the newest segment.
 * Returning other than 0 ends the monitor. */
typedef int32_t (*WALChangeCallback)(const char *wal_path, int64_t version, uint64_t offset);

/* Watches a vnode's wal directory: calls `callback` from a thread of its own, now and whenever the log is further on.
 * ERR_EXISTS: it is watched already; ERR_IO: the directory can't be read. */
int32_t monitor_wal_changes(const char *wal_path, WALChangeCallback callback);

/* Ends that; the callback is not called any more when this returns, unless the callback itself calls it.
 * ERR_NOT_RUNNING. */
int32_t stop_monitoring_wal_changes(const char *wal_path);

/* ---- data ---- */

/* Reads the rows of a block from the server, as they are now, in the binary form that docs/c-api.md describes. *data is
 * the caller's, to be given back with free(). The block is one of the installed "tdengine" or "tmq" interception; for
 * "tdengine" the server is that of TD_CONNECT_IP, TD_CONNECT_PORT, TD_USERNAME and TD_PASSWORD, or the client library's
 * defaults. ERR_NOT_RUNNING: nothing is followed; ERR_NOT_SUPPORTED: both are installed; ERR_BLOCK_NOT_FOUND: no table has the block's number, or it is gone;
 * ERR_SERVER: there is no client library (libtaos), or the server does not answer; *data is then NULL. */
int32_t read_data_block(uint64_t block_id, void **data, uint32_t *size);

/* Why the calling thread's last function of this header failed: what, where, and what to do. Empty if it did not. Lives
 * until the thread calls the next one. */
const char *storage_engine_last_error(void);

#ifdef __cplusplus
}
#endif

#endif
