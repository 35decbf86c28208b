/* Ends the function with 1, and says where, if something is not as it should be. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>

#define CHECK(condition)                                              \
  do {                                                                \
    if (!(condition)) {                                               \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      return 1;                                                       \
    }                                                                 \
  } while (0)

#endif
