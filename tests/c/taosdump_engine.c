/* The engine of the library is one that a taosdump of this version can call. Also compiled as C++. */
#include "taosdump_engine.h"

#include <stdio.h>
#include <string.h>

static int failures;

static void check(int holds, const char* what) {
  if (!holds) {
    fprintf(stderr, "not so: %s\n", what);
    failures++;
  }
}

int main(void) {
  const STaosdumpEngine* engine = taosdump_engine();
  check(engine != NULL, "there is an engine");
  if (engine == NULL) return 1;
  check(engine->abi_version == TAOSDUMP_ENGINE_ABI, "its interface is the header's");
  check(engine->size == sizeof(STaosdumpEngine), "its size is the header's");
  check(engine->version != NULL && strlen(engine->version) > 0, "it names its version");
  check(engine->run != NULL, "it can run");
  check(engine == taosdump_engine(), "it is always the same");
  check(engine->run(NULL, 3, NULL) == TAOSDUMP_FAILED, "options that are not there are an error, not a crash");
  return failures != 0;
}
