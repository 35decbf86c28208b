/*
 * taosdump_engine.h - what a patched taosdump calls for --incremental.
 *
 * taosdump collects its command line and hands the whole job over. The engine is libincremental_bitmap.a, which is
 * linked in, or a plugin (--bitmap-plugin) with the same symbol, taosdump_engine.
 *
 * Strings      are borrowed for the time of a call, never kept and never freed by the callee.
 * Threads      run is called once, from the main thread.
 * Versions     abi_version and size come first and stay there in every version. A caller refuses an engine with
 *              another abi_version or with a smaller size; members are only ever added at the end.
 *
 * C99 and C++.
 */
#ifndef TDENGINE_TAOSDUMP_ENGINE_H
#define TDENGINE_TAOSDUMP_ENGINE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TAOSDUMP_ENGINE_ABI 1u

/* Keys of the options that only the patched taosdump has. Every other key is taosdump's own letter. */
typedef enum {
  TAOSDUMP_POSITIONAL           = 0, /* an argument without an option: a database, then tables */
  TAOSDUMP_OPTION_INCREMENTAL   = 0x101,
  TAOSDUMP_OPTION_BASE          = 0x102,
  TAOSDUMP_OPTION_BITMAP_PLUGIN = 0x103,
  TAOSDUMP_OPTION_DATA_DIR      = 0x104,
  TAOSDUMP_OPTION_NO_FLUSH      = 0x105,
  TAOSDUMP_OPTION_JSON          = 0x106,
  TAOSDUMP_OPTION_OPTION        = 0x107,
  TAOSDUMP_OPTION_CHECK_BASE    = 0x108,
  TAOSDUMP_OPTION_FORMAT        = 0x109,
  TAOSDUMP_OPTION_OFFLINE       = 0x10a,
  TAOSDUMP_OPTION_DRY_RUN       = 0x10b
} EIncrementalOption;

/* One option of the command line, in the order given; an option given twice comes twice. */
typedef struct {
  int32_t     key; /* EIncrementalOption or the letter of an option of taosdump's own */
  const char* arg; /* NULL if the option takes none */
} STaosdumpOption;

/* What run returns, and what the program ends with. */
typedef enum {
  TAOSDUMP_DONE       = 0,
  TAOSDUMP_FAILED     = 1,
  TAOSDUMP_USAGE      = 2, /* the command line makes no sense; nothing was tried */
  TAOSDUMP_INCOMPLETE = 3, /* done, but something is missing or wider than it should be, as the output says */
  TAOSDUMP_BUSY       = 4  /* another restore writes to the same database; nothing was written */
} ETaosdumpExit;

typedef struct {
  uint32_t    abi_version; /* TAOSDUMP_ENGINE_ABI */
  uint32_t    size;        /* sizeof(STaosdumpEngine) */
  const char* version;     /* of the engine, for people */
  /* Does the job: options[0..count) is the command line. password is what the user gave on the command line or at
   * the prompt, or NULL. Returns one of the codes above. */
  int32_t (*run)(const STaosdumpOption* options, uint32_t count, const char* password);
} STaosdumpEngine;

/* The engine; lives as long as the library is loaded. */
const STaosdumpEngine* taosdump_engine(void);

#ifdef __cplusplus
}
#endif

#endif
