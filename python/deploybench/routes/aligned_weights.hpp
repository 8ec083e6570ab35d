// Comes before the code of an AOTInductor package, which copies its weights into one block of malloc. That starts at a
// multiple of 16: three times in four each 64 bytes of weights lie across two lines of the cache, and ResNet-50 at bf16
// by AMX took 14.6 ms instead of 10.7. valloc gives whole pages, which free() takes like any other block.
#pragma once

#ifdef __cplusplus  // comes before the weights too, which are assembly

#include <stdlib.h>

#include <cstdlib>  // undefines the names that it declares, so it cannot come after

namespace std {
using ::valloc;
}

#define malloc valloc

#endif
