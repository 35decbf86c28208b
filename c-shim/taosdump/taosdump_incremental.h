/*
 * taosdump_incremental.h - the places where patches/ makes taosdump call us, in the order in which they are reached.
 *
 * Without one of the options below they do nothing.
 */
#ifndef TAOSDUMP_INCREMENTAL_H
#define TAOSDUMP_INCREMENTAL_H

#include <argp.h>

#include "taosdump_engine.h"

/* Rows for taosdump's table of options. They go to its end: a row without a group takes the group of the row before
 * it, so rows of ours further up would move taosdump's own in --help. */
#define TAOSDUMP_INCREMENTAL_OPTIONS                                                                                  \
  {0, 0, 0, 0, "Incremental backup:", 20},                                                                            \
  {"incremental", TAOSDUMP_OPTION_INCREMENTAL, 0, 0,                                                                  \
   "With -o: back up what changed since --base, or everything if there is no --base. "                                \
   "With -i: restore such backups; repeat -i for each, oldest first. "                                                \
   "Exit code: 0 done, 1 failed, 2 wrong usage, 3 done but incomplete, 4 busy.", 20},                                  \
  {"base", TAOSDUMP_OPTION_BASE, "DIR", 0,                                                                            \
   "The backup before this one: a directory written with --incremental.", 20},                                        \
  {"check-base", TAOSDUMP_OPTION_CHECK_BASE, 0, 0,                                                                    \
   "Read every file of the backup before this one and check its checksum; otherwise only its size is checked.", 20},  \
  {"data-dir", TAOSDUMP_OPTION_DATA_DIR, "DIR", 0,                                                                    \
   "The server's data directory (dataDir in taos.cfg), which must be readable here. Repeat it for each tier.", 20},   \
  {"no-flush", TAOSDUMP_OPTION_NO_FLUSH, 0, 0,                                                                        \
   "Do not ask the server to flush the database first; read its log instead.", 20},                                   \
  {"bitmap-plugin", TAOSDUMP_OPTION_BITMAP_PLUGIN, "PATH", 0,                                                         \
   "Use the engine in this library (libincremental_bitmap_plugin.so) instead of the built-in one.", 20},              \
  {"offline", TAOSDUMP_OPTION_OFFLINE, 0, 0,                                                                          \
   "With -o and --data-dir: ask no server; read the directories of one that is stopped or does not start.", 20},      \
  {"option", TAOSDUMP_OPTION_OPTION, "NAME=VALUE", 0,                                                                  \
   "With -i: create databases with this BUFFER, DNODES, KEEP, REPLICA or VGROUPS instead of their own.", 20},            \
  {"format", TAOSDUMP_OPTION_FORMAT, "avro|parquet", 0,                                                                \
   "With -o: keep rows in Parquet files with many tables each (default), or in an Avro file for each table.", 20},     \
  {"dry-run", TAOSDUMP_OPTION_DRY_RUN, 0, 0,                                                                           \
   "With -i: check everything and say what would be done, without writing anything.", 20},                             \
  {"json", TAOSDUMP_OPTION_JSON, 0, 0, "Print the result as JSON.", 20},

/* First thing in main. With --incremental it does the whole job and ends the process; else it returns. */
void taosdump_incremental_begin(int argc, char* const argv[]);

/* For each key that argp gives. Not 0: the option is ours, taosdump has nothing to do with it. */
int taosdump_incremental_option(int key, const char* arg, const struct argp_state* state);

/* After the command line was read. Not 0: one of our options was given, without --incremental. */
int taosdump_incremental_wanted(void);

/* Says that they need it; gives the exit code. The password is not used: taosdump's text for it is in the patches. */
int taosdump_incremental_run(const char* password);

#endif
