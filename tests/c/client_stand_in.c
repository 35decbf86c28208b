/*
 * Stands in for TDengine's client library, to be preloaded: it knows no server, and says which taos.cfg it goes by.
 * As the real one, it reads that file with the first option that is not the file's directory, or when it connects; a
 * directory that is given later counts no more.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static char directory[256] = "the usual place";
static int  is_read;

const char *taos_get_client_info(void);
int         taos_options(int option, const void *value, ...);
void       *taos_connect(const char *host, const char *user, const char *password, const char *database, uint16_t port);
int         taos_errno(void *result);
const char *taos_errstr(void *result);

const char *taos_get_client_info(void) { return "3.3"; }

int taos_options(int option, const void *value, ...) {
  if (option != 3) {
    is_read = 1;
  } else if (!is_read) {
    snprintf(directory, sizeof directory, "%s", (const char *)value);
  }
  return 0;
}

void *taos_connect(const char *host, const char *user, const char *password, const char *database, uint16_t port) {
  (void)user, (void)password, (void)database;
  printf("host %s, port %u, taos.cfg in %s\n", host == NULL ? "not given" : host, (unsigned)port, directory);
  fflush(stdout);
  return NULL;
}

int         taos_errno(void *result) { return result == NULL ? 11 : 0; }
const char *taos_errstr(void *result) { return result == NULL ? "no server" : ""; }

/* Looked up and never called. */
#define UNUSED(name) \
  void name(void);   \
  void name(void) {}
UNUSED(taos_close)
UNUSED(taos_get_server_info)
UNUSED(taos_query)
UNUSED(taos_query_a)
UNUSED(taos_load_table_info)
UNUSED(taos_free_result)
UNUSED(taos_affected_rows)
UNUSED(taos_num_fields)
UNUSED(taos_fetch_fields)
UNUSED(taos_fetch_row)
UNUSED(taos_fetch_lengths)
UNUSED(taos_stmt_init)
UNUSED(taos_stmt_prepare)
UNUSED(taos_stmt_set_tbname)
UNUSED(taos_stmt_bind_param_batch)
UNUSED(taos_stmt_add_batch)
UNUSED(taos_stmt_execute)
UNUSED(taos_stmt_affected_rows_once)
UNUSED(taos_stmt_errstr)
UNUSED(taos_stmt_close)
