/*
 * observability.h - 25 metrics of the engines, event interceptors and followed servers of this process.
 *
 * There is one set of metrics per process. update_observability_metrics takes the values; the other functions say
 * what they were then (the first call of any takes them itself). docs/metrics.md says what each metric means and
 * what moves it.
 *
 * Threads      All functions may be called from any number of threads.
 * Cost         Taking a snapshot costs a few microseconds per engine and interceptor.
 * Codes        As in bitmap_engine.h.
 *
 * C99 and C++.
 */
#ifndef TDENGINE_OBSERVABILITY_H
#define TDENGINE_OBSERVABILITY_H

#include "bitmap_engine.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The values of all metrics at last_update_time. Rates are per second over the last 10 seconds. */
typedef struct {
  uint64_t events_per_second;       /* block events taken into the bitmap */
  uint64_t messages_per_second;     /* changes read from a followed server */
  uint64_t bytes_per_second;        /* bytes read from a followed server */
  uint64_t consumer_lag_ms;         /* age of the oldest change of a followed server that is not taken in yet */
  uint64_t offset_lag;              /* WAL versions of followed servers that are not taken in yet */
  double   processing_delay_ms;     /* mean time from raising an event to its being in the bitmap */
  uint64_t events_dropped;          /* events not taken in as such; their blocks are dirty as a whole */
  uint64_t messages_dropped;        /* changes that could not be told block by block; their range is dirty */
  uint64_t parse_errors;            /* files, records and messages that could not be understood */
  uint64_t connection_retries;      /* attempts to reach a followed server or its directories again */
  uint64_t subscription_retries;    /* attempts to be told of changes again */
  uint64_t commit_retries;          /* attempts to save again how far changes were taken in */
  uint32_t ring_buffer_usage;       /* how full the event queues are, percent */
  uint32_t ring_buffer_capacity;    /* events that the queues hold at most */
  uint32_t event_queue_size;        /* events that wait */
  size_t   memory_usage_bytes;      /* engines and event queues */
  size_t   bitmap_memory_bytes;     /* block states */
  size_t   metadata_memory_bytes;   /* block records and indexes */
  int64_t  last_update_time;        /* when the values were taken, ns since 1970-01-01 UTC */
  uint64_t uptime_seconds;          /* since the process used the engine first */
  uint64_t blocks_dirty;            /* blocks in that state, over all engines */
  uint64_t blocks_new;
  uint64_t blocks_deleted;
  uint64_t last_backup_duration_ms; /* of the last successful backup of this process; 0 before the first */
  uint64_t last_backup_bytes;
} SObservabilityMetrics;

/* Takes the values of all metrics. */
void update_observability_metrics(void);

/* Prints the values on standard output, one metric a line. */
void print_observability_metrics(void);

/* Stores the values. ERR_INVALID_PARAM. */
int32_t get_observability_metrics(SObservabilityMetrics *metrics);

/* Writes the values as one JSON object, {"rate":{"events_per_second":0,...},"lag":{...},...}, or in the text format of
 * Prometheus, each metric as tdengine_<name> with HELP and TYPE; both end with a NUL.
 * Returns 0, or, if buffer_size is too small, the size that is needed, with the NUL: then nothing but an empty string
 * is written (nothing at all if buffer_size is 0; then buffer may be NULL). Values, and with them the size, change with
 * the next update only. ERR_INVALID_PARAM: buffer is NULL and buffer_size is not 0. */
int32_t format_observability_metrics_json(char *buffer, size_t buffer_size);
int32_t format_observability_metrics_prometheus(char *buffer, size_t buffer_size);

#ifdef __cplusplus
}
#endif

#endif
