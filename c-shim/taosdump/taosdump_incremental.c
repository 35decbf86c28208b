/* With --incremental, reads the command line and hands it to the engine, before taosdump itself looks at it: what
 * taosdump does to its words (it has a shell expand paths, and leaves passwords where they are) does not happen then.
 * Without --incremental it does nothing but to refuse the options that need it. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "taosdump_incremental.h"

#include <dlfcn.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

static STaosdumpOption* options;
static size_t           option_count;
static char*            password;      /* what the user gave; NULL if nothing */
static const char*      first_of_ours; /* name of the first of our options that taosdump itself came across */

/* Every option of every release that is patched, and ours. Keys are taosdump's own letters where it has one. */
static const char          letters[] = ":h:u:p::P:o:i:r:c:AD:easNd:S:E:B:T:LInRC:t:gQW:k:z:X:Z:V";
static const struct option names[]   = {
    {"host", required_argument, NULL, 'h'},
    {"user", required_argument, NULL, 'u'},
    {"password", optional_argument, NULL, 'p'},
    {"port", required_argument, NULL, 'P'},
    {"outpath", required_argument, NULL, 'o'},
    {"inpath", required_argument, NULL, 'i'},
    {"resultFile", required_argument, NULL, 'r'},
    {"config-dir", required_argument, NULL, 'c'},
    {"all-databases", no_argument, NULL, 'A'},
    {"databases", required_argument, NULL, 'D'},
    {"escape-character", no_argument, NULL, 'e'},
    {"allow-sys", no_argument, NULL, 'a'},
    {"schemaonly", no_argument, NULL, 's'},
    {"without-property", no_argument, NULL, 'N'},
    {"avro-codec", required_argument, NULL, 'd'},
    {"start-time", required_argument, NULL, 'S'},
    {"end-time", required_argument, NULL, 'E'},
    {"data-batch", required_argument, NULL, 'B'},
    {"thread-num", required_argument, NULL, 'T'},
    {"loose-mode", no_argument, NULL, 'L'},
    {"lose-mode", no_argument, NULL, 'L'},
    {"inspect", no_argument, NULL, 'I'},
    {"no-escape", no_argument, NULL, 'n'},
    {"restful", no_argument, NULL, 'R'},
    {"cloud", required_argument, NULL, 'C'},
    {"timeout", required_argument, NULL, 't'},
    {"debug", no_argument, NULL, 'g'},
    {"dot-replace", no_argument, NULL, 'Q'},
    {"rename", required_argument, NULL, 'W'},
    {"retry-count", required_argument, NULL, 'k'},
    {"retry-sleep-ms", required_argument, NULL, 'z'},
    {"dsn", required_argument, NULL, 'X'},
    {"driver", required_argument, NULL, 'Z'},
    {"version", no_argument, NULL, 'V'},
    {"help", no_argument, NULL, 'V'},
    {"usage", no_argument, NULL, 'V'},
    {"incremental", no_argument, NULL, TAOSDUMP_OPTION_INCREMENTAL},
    {"base", required_argument, NULL, TAOSDUMP_OPTION_BASE},
    {"check-base", no_argument, NULL, TAOSDUMP_OPTION_CHECK_BASE},
    {"bitmap-plugin", required_argument, NULL, TAOSDUMP_OPTION_BITMAP_PLUGIN},
    {"data-dir", required_argument, NULL, TAOSDUMP_OPTION_DATA_DIR},
    {"no-flush", no_argument, NULL, TAOSDUMP_OPTION_NO_FLUSH},
    {"option", required_argument, NULL, TAOSDUMP_OPTION_OPTION},
    {"format", required_argument, NULL, TAOSDUMP_OPTION_FORMAT},
    {"offline", no_argument, NULL, TAOSDUMP_OPTION_OFFLINE},
    {"dry-run", no_argument, NULL, TAOSDUMP_OPTION_DRY_RUN},
    {"json", no_argument, NULL, TAOSDUMP_OPTION_JSON},
    {NULL, 0, NULL, 0},
};

/* What is found on a command line: `options`, and what is to be done with them. */
typedef struct {
  int         is_incremental;
  int         is_question; /* --help, --version: taosdump's own to answer */
  int         asks_password;
  char*       password; /* in the word that holds it */
  const char* problem;  /* what is wrong with a word, and which */
  const char* word;
} SCommandLine;

static void record(int32_t key, const char* arg) {
  options[option_count].key = key;
  options[option_count].arg = arg;
  option_count++;
}

static void note_problem(SCommandLine* line, const char* problem, const char* word) {
  if (line->problem != NULL) return;
  line->problem = problem;
  line->word    = word;
}

/* Reads a command line without saying anything. `argv` is put into another order, and has room for an option each. */
static SCommandLine parse(int argc, char* argv[]) {
  SCommandLine line = {0};
  optind            = 0; /* from the beginning, and as if for the first time */
  opterr            = 0;
  for (;;) {
    int place = optind > 0 ? optind : 1; /* the word that comes next, in case it makes no sense */
    int key   = getopt_long(argc, argv, letters, names, NULL);
    if (key == -1) break;
    switch (key) {
      case '?':
        line.is_question |= optopt == '?';
        note_problem(&line, "is no option that taosdump has, or it takes no value",
                     place < argc && optind > place ? argv[optind - 1] : argv[place]);
        continue;
      case ':': note_problem(&line, "needs a value", argv[optind - 1]); continue;
      case 'V': line.is_question = 1; break;
      case 'p':
        line.password      = optarg;
        line.asks_password = optarg == NULL;
        break;
      case TAOSDUMP_OPTION_INCREMENTAL: line.is_incremental = 1; break;
      default: break;
    }
    record(key, key == 'p' ? NULL : optarg);
  }
  for (int i = optind; i < argc; i++) {
    if (argv[i][0] != '\0') record(TAOSDUMP_POSITIONAL, argv[i]);
  }
  opterr = 1;
  return line;
}

/* A line of standard input, without showing it on a terminal. */
static char* ask_password(void) {
  struct termios shown;
  int            is_terminal = tcgetattr(STDIN_FILENO, &shown) == 0;
  fputs("Enter password: ", stdout);
  fflush(stdout);
  if (is_terminal) {
    struct termios hidden = shown;
    hidden.c_lflag &= ~(tcflag_t)ECHO;
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden);
  }
  char*   line   = NULL;
  size_t  room   = 0;
  ssize_t length = getline(&line, &room, stdin);
  if (is_terminal) {
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown);
    fputc('\n', stdout);
  }
  if (length < 0) {
    free(line);
    return NULL;
  }
  line[strcspn(line, "\r\n")] = '\0';
  return line;
}

static int take_password(const SCommandLine* line) {
  if (line->password != NULL) {
    password = strdup(line->password);
    memset(line->password, '\0', strlen(line->password)); /* other users see the words in lists of processes */
    return password != NULL;
  }
  if (line->asks_password) {
    password = ask_password();
    return password != NULL;
  }
  return 1;
}

static int run(void);

void taosdump_incremental_begin(int argc, char* const argv[]) {
  if (argc <= 1) return;
  char** words = calloc((size_t)argc + 1, sizeof *words);
  /* At most two options a word: getopt finds one for each letter of `-eg`. */
  size_t room = 0;
  for (int i = 1; i < argc; i++) room += strlen(argv[i]) + 1;
  options = calloc(room, sizeof *options);
  if (words == NULL || options == NULL) {
    fprintf(stderr, "taosdump: out of memory while reading the command line\n");
    exit(TAOSDUMP_FAILED);
  }
  memcpy(words, argv, (size_t)argc * sizeof *words);
  SCommandLine line = parse(argc, words);
  free(words); /* the words themselves are main's */
  if (!line.is_incremental || line.is_question) {
    free(options);
    options = NULL;
    return;
  }
  if (line.problem != NULL) {
    fprintf(stderr, "taosdump: %s: it %s; see taosdump --help\n", line.word, line.problem);
    exit(TAOSDUMP_USAGE);
  }
  if (!take_password(&line)) {
    fprintf(stderr, "taosdump: -p: no password could be read; give it after -p, or in TD_PASSWORD\n");
    exit(TAOSDUMP_USAGE);
  }
  exit(run());
}

int taosdump_incremental_option(int key, const char* arg, const struct argp_state* state) {
  (void)arg;
  (void)state;
  for (const struct option* known = names; known->name != NULL; known++) {
    if (known->val != key || key < TAOSDUMP_OPTION_INCREMENTAL) continue;
    if (first_of_ours == NULL) first_of_ours = known->name;
    return 1;
  }
  return 0;
}

int taosdump_incremental_wanted(void) { return first_of_ours != NULL; }

int taosdump_incremental_run(const char* unused) {
  (void)unused;
  fprintf(stderr, "taosdump: --%s needs --incremental\n", first_of_ours);
  return TAOSDUMP_USAGE;
}

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

/* Has the engine do the job. Ends the process with its code; returns only if there is no engine, with an exit code. */
static int run(void) {
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
