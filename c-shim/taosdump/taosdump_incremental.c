/* Remembers taosdump's command line and, with --incremental, hands it to the engine. Decides nothing else. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "taosdump_incremental.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A word of the command line: where it stands, and what it was before taosdump touched it. */
typedef struct {
  const char* place;
  char*       original;
} SWord;

static SWord*           words;
static size_t           word_count;
static STaosdumpOption* options;
static size_t           option_count;
static size_t           option_room;
static const char*      first_of_ours; /* name of the first of our options on the command line */
static int              is_incremental;
static int              out_of_memory;

static void record(int32_t key, const char* arg) {
  if (option_count == option_room) {
    size_t           room  = option_room == 0 ? 32 : option_room * 2;
    STaosdumpOption* grown = realloc(options, room * sizeof *grown);
    if (grown == NULL) {
      out_of_memory = 1; /* an option is lost: run refuses; taosdump's own work is not affected */
      return;
    }
    options     = grown;
    option_room = room;
  }
  options[option_count].key = key;
  options[option_count].arg = arg;
  option_count++;
}

void taosdump_incremental_begin(int argc, char* const argv[]) {
  if (argc <= 1) return;
  words = calloc((size_t)argc, sizeof *words);
  if (words == NULL) {
    out_of_memory = 1;
    return;
  }
  for (int i = 1; i < argc; i++) {
    words[word_count].place    = argv[i];
    words[word_count].original = strdup(argv[i]);
    if (words[word_count].original == NULL) {
      out_of_memory = 1;
      return;
    }
    word_count++;
  }
}

/* The options that taosdump handles before argp, and then blanks, so that argp never gives them to us. */
static void record_blanked_words(void) {
  static const struct {
    const char* word;
    int32_t     key;
  } known[] = {
      {"-n", 'n'},           {"-s", 's'}, {"--schemaonly", 's'}, {"-I", 'I'},  {"--inspect", 'I'}, {"-L", 'L'},
      {"--lose-mode", 'L'}, {"-Q", 'Q'}, {"--dot-replace", 'Q'}, {"-gg", 'g'},
  };
  for (size_t i = 0; i < word_count; i++) {
    if (words[i].place[0] != '\0') continue;
    for (size_t k = 0; k < sizeof known / sizeof known[0]; k++) {
      if (strcmp(words[i].original, known[k].word) == 0) record(known[k].key, NULL);
    }
  }
}

int taosdump_incremental_option(int key, const char* arg, const struct argp_state* state) {
  const char* ours = NULL;
  switch (key) {
    case ARGP_KEY_ARG:
      /* taosdump takes all that is left when it sees the first argument, so there is no second call. */
      for (int i = state->next - 1; i < state->argc; i++) {
        if (state->argv[i][0] != '\0') record(TAOSDUMP_POSITIONAL, state->argv[i]);
      }
      return 0;
    case TAOSDUMP_OPTION_INCREMENTAL:
      is_incremental = 1;
      ours           = "--incremental";
      break;
    case TAOSDUMP_OPTION_BASE: ours = "--base"; break;
    case TAOSDUMP_OPTION_BITMAP_PLUGIN: ours = "--bitmap-plugin"; break;
    case TAOSDUMP_OPTION_DATA_DIR: ours = "--data-dir"; break;
    case TAOSDUMP_OPTION_NO_FLUSH: ours = "--no-flush"; break;
    case TAOSDUMP_OPTION_JSON: ours = "--json"; break;
    case TAOSDUMP_OPTION_OPTION: ours = "--option"; break;
    default:
      if (key > 0xffffff) return 0; /* an event of argp's own: ARGP_KEY_END and the like */
      break;
  }
  record((int32_t)key, arg);
  if (first_of_ours == NULL) first_of_ours = ours;
  return ours != NULL;
}

int taosdump_incremental_wanted(void) { return first_of_ours != NULL; }

/* The engine if it is one that we can call; `name` says to people which one it is. */
static const STaosdumpEngine* fit(const STaosdumpEngine* engine, const char* name) {
  if (engine == NULL) {
    fprintf(stderr, "taosdump: %s gives no engine: its taosdump_engine returned NULL\n", name);
    return NULL;
  }
  if (engine->abi_version != TAOSDUMP_ENGINE_ABI) {
    fprintf(stderr,
            "taosdump: %s has interface version %u, this taosdump needs %u: use the plugin that came with this "
            "taosdump, or build taosdump with the plugin's version\n",
            name, (unsigned)engine->abi_version, TAOSDUMP_ENGINE_ABI);
    return NULL;
  }
  if (engine->size < sizeof *engine || engine->run == NULL) {
    fprintf(stderr,
            "taosdump: %s is not whole: its engine has %u bytes, this taosdump needs %u, and a run function: build "
            "it again\n",
            name, (unsigned)engine->size, (unsigned)sizeof *engine);
    return NULL;
  }
  return engine;
}

static const STaosdumpEngine* load(const char* path) {
  /* dlopen looks for a name without a slash in the system's directories; people mean a file. */
  char* file    = realpath(path, NULL);
  void* library = dlopen(file != NULL ? file : path, RTLD_NOW | RTLD_LOCAL);
  free(file);
  if (library == NULL) {
    fprintf(stderr,
            "taosdump: --bitmap-plugin %s can't be loaded: %s: give the path of libincremental_bitmap_plugin.so, or "
            "leave --bitmap-plugin out to use the built-in engine\n",
            path, dlerror());
    return NULL;
  }
  const STaosdumpEngine* (*entry)(void) = NULL;
  void* symbol = dlsym(library, "taosdump_engine");
  if (symbol == NULL) {
    fprintf(stderr,
            "taosdump: --bitmap-plugin %s has no symbol taosdump_engine, so it is no engine for taosdump: give the "
            "path of libincremental_bitmap_plugin.so\n",
            path);
    return NULL;
  }
  memcpy(&entry, &symbol, sizeof entry); /* C has no conversion from an object's to a function's address */
  return fit(entry(), path);
}

int taosdump_incremental_run(const char* password) {
  if (!is_incremental) {
    fprintf(stderr, "taosdump: %s needs --incremental\n", first_of_ours);
    return TAOSDUMP_USAGE;
  }
  record_blanked_words();
  if (out_of_memory || option_count > UINT32_MAX) {
    fprintf(stderr, "taosdump: out of memory while reading the command line\n");
    return TAOSDUMP_FAILED;
  }
  const char* plugin = NULL;
  for (size_t i = 0; i < option_count; i++) {
    if (options[i].key == TAOSDUMP_OPTION_BITMAP_PLUGIN) plugin = options[i].arg;
  }
  const STaosdumpEngine* engine =
      plugin != NULL ? load(plugin) : fit(taosdump_engine(), "the built-in engine");
  if (engine == NULL) return TAOSDUMP_USAGE;

  int32_t code = engine->run(options, (uint32_t)option_count, password);
  if (code < 0 || code > 255) code = TAOSDUMP_FAILED; /* only 8 bits reach the caller; 256 would look like success */

  /* Not exit: libtaos registers a handler that waits for its next heartbeat, about 1.5 s, which is most of the time of
   * a small backup. The engine has closed its files; all that is left is what stdio holds. */
  fflush(stdout);
  fflush(stderr);
  _exit(code);
}
