// Marks what libdeploybench.so shows to programs that link it; all else stays inside.
#pragma once

#define DEPLOYBENCH_EXPORT __attribute__((visibility("default")))
