/*
 * Has the engine do one job, as taosdump does.
 *
 *   taosdump_options KEY ARGUMENT      KEY: the letter of an option, or "plugin"
 */
#include <string.h>

#include "taosdump_engine.h"

int main(int argc, char **argv) {
  STaosdumpOption option;
  if (argc != 3) return 1;
  option.key = strcmp(argv[1], "plugin") == 0 ? TAOSDUMP_OPTION_BITMAP_PLUGIN : argv[1][0];
  option.arg = argv[2];
  return taosdump_engine()->run(&option, 1, "secret");
}
