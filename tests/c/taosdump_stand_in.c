/* Stands in for a patched taosdump: calls the shim in the places where the patch does, and treats its command line as
 * taosdump does, namely: some options are blanked before argp sees them, and the first argument takes all the rest. */
#include "taosdump_incremental.h"

#include <stdio.h>
#include <string.h>

static struct argp_option options[] = {
    {"host", 'h', "HOST", 0, "The server.", 0},
    {"inpath", 'i', "DIR", 0, "Where to read.", 1},
    {"outpath", 'o', "DIR", 0, "Where to write.", 1},
    {"databases", 'D', "LIST", 0, "Which.", 2},
    {"schemaonly", 's', 0, 0, "No rows.", 2},
    {"thread-num", 'T', "N", 0, "How many at once.", 10},
    {"no-escape", 'n', 0, 0, "Plain names.", 10},
    {"retry", 'k', "N", 0, "How often.", 0},
    TAOSDUMP_INCREMENTAL_OPTIONS
    {0, 0, 0, 0, 0, 0}};

static error_t parse_opt(int key, char* arg, struct argp_state* state) {
  if (taosdump_incremental_option(key, arg, state)) return 0;
  switch (key) {
    case ARGP_KEY_ARG: state->next = state->argc; return 0;
    case 'h':
    case 'i':
    case 'o':
    case 'D':
    case 's':
    case 'T':
    case 'n':
    case 'k': return 0;
    default: return ARGP_ERR_UNKNOWN;
  }
}

int main(int argc, char* argv[]) {
  struct argp argp = {options, parse_opt, "[db [table...]]", "", NULL, NULL, NULL};
  taosdump_incremental_begin(argc, argv);
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "-n") == 0 || strcmp(argv[i], "-s") == 0 || strcmp(argv[i], "--schemaonly") == 0) {
      argv[i][0] = '\0';
    }
  }
  argp_parse(&argp, argc, argv, 0, NULL, NULL);
  if (taosdump_incremental_wanted()) return taosdump_incremental_run("secret");
  puts("taosdump's own work");
  return 0;
}
