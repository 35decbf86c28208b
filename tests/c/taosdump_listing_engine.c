/* An engine that lists what it was given. The macros make it one that does not fit. */
#include "taosdump_engine.h"

#include <stdio.h>

#ifndef ABI
#define ABI TAOSDUMP_ENGINE_ABI
#endif
#ifndef SIZE
#define SIZE sizeof(STaosdumpEngine)
#endif
#ifndef NAME
#define NAME taosdump_engine
#endif
#ifndef RESULT
#define RESULT &engine
#endif
#ifndef RUN
#define RUN run
#endif
#ifndef CODE
#define CODE TAOSDUMP_INCOMPLETE
#endif

static int32_t run(const STaosdumpOption* options, uint32_t count, const char* password) {
  for (uint32_t i = 0; i < count; i++) {
    if (options[i].key > 0 && options[i].key < 256) {
      printf("%c", (char)options[i].key);
    } else {
      printf("%#x", (unsigned)options[i].key);
    }
    printf("=%s\n", options[i].arg == NULL ? "(none)" : options[i].arg);
  }
#ifdef SHOW_WORDS
  FILE* words = fopen("/proc/self/cmdline", "r");
  for (int c; words != NULL && (c = getc(words)) != EOF;) putchar(c == 0 ? ' ' : c);
#endif
  printf("password=%s", password == NULL ? "(none)" : password); /* no newline: what is buffered must come out */
  return CODE;
}

const STaosdumpEngine* NAME(void);

const STaosdumpEngine* NAME(void) {
  static const STaosdumpEngine engine = {ABI, SIZE, "listing", RUN};
  (void)engine;
  (void)run;
  return RESULT;
}
