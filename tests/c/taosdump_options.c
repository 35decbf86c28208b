/*
 * Has the engine do one job, as taosdump does.
 *
 *   taosdump_options {KEY ARGUMENT}    KEY: the letter of an option, or "plugin"
 */
#include <string.h>

#include "taosdump_engine.h"

int main(int argc, char **argv) {
  STaosdumpOption options[8];
  uint32_t        count = 0;
  if (argc > 16 || argc % 2 == 0) return 1;
  for (char **arg = argv + 1; *arg != NULL; arg += 2) {
    options[count].key = strcmp(arg[0], "plugin") == 0 ? TAOSDUMP_OPTION_BITMAP_PLUGIN : arg[0][0];
    options[count++].arg = arg[1];
  }
  return taosdump_engine()->run(options, count, "secret");
}
