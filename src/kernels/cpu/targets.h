// SPDX-License-Identifier: Apache-2.0
// The instruction sets that kernels are built for. Included before foreach_target.h and highway.h in every file that uses them:
// all files must agree, and each target is one more build of the file, so the list is short:
//   x86-64: SSE4 (the floor: every processor since 2010), AVX2 with FMA, AVX-512 of Ice Lake and Zen 4 and later ("AVX3_DL")
//   Arm:    NEON. SVE is left out: its vectors have no size at compile time, so they cannot stand in the arrays of accumulators
//   that
//           the register-blocked products use.
// On x86-64 the floor is raised from the compiler's SSE2, for which Highway 1.0.3 has scalar code only. A processor below the floor
// is refused by instruction_set().
#pragma once

#if defined(__x86_64__)
#define HWY_WANT_AVX3_DL
#define HWY_BASELINE_TARGETS HWY_SSE4
#define HWY_DISABLED_TARGETS (HWY_SSE2 | HWY_SSSE3 | HWY_AVX3 | HWY_AVX3_ZEN4 | HWY_AVX3_SPR)
#elif defined(__aarch64__)
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#endif

#include <hwy/detect_targets.h>

// Targets that this release of Highway does not know yet.
#if !defined(HWY_SSE2)
#define HWY_SSE2 0
#endif
#if !defined(HWY_AVX3_ZEN4)
#define HWY_AVX3_ZEN4 0
#endif
#if !defined(HWY_AVX3_SPR)
#define HWY_AVX3_SPR 0
#endif
