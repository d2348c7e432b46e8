// What kernels need of a CUDA device: number types, warp exchanges and the tensor core product.
//
// With HOICLIP_ON_HOST the same kernels are built for the CPU, where tests run them thread by thread.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef HOICLIP_ON_HOST
#include "cuda_on_host.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#define HOICLIP_LAUNCH(kernel, grid, block, stream, ...) \
  kernel<<<grid, block, 0, static_cast<cudaStream_t>(stream)>>>(__VA_ARGS__)
#define HOICLIP_LAUNCHED() (cudaGetLastError() == cudaSuccess)
#endif

namespace hoiclip {

constexpr unsigned kAllLanes = 0xffffffffu;

#ifndef HOICLIP_ON_HOST
using Half = __half;
using Bfloat = __nv_bfloat16;

__device__ inline float to_float(Half x) { return __half2float(x); }
__device__ inline float to_float(Bfloat x) { return __bfloat162float(x); }
__device__ inline Half from_float(float x, Half) { return __float2half(x); }
__device__ inline Bfloat from_float(float x, Bfloat) { return __float2bfloat16(x); }

// c += a b of a warp, rows 16, columns 8, inner 16; who holds what is in the PTX manual under mma.m16n8k16.
__device__ inline void multiply_add(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Half) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ inline void multiply_add(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Bfloat) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

// Two numbers in the lower and upper half of a word.
template <typename T>
__device__ inline uint32_t pair(T low, T high) {
  uint16_t bits[2];
  memcpy(&bits[0], &low, 2);
  memcpy(&bits[1], &high, 2);
  return static_cast<uint32_t>(bits[0]) | static_cast<uint32_t>(bits[1]) << 16;
}

template <typename T>
__device__ inline uint32_t pair_of_floats(float low, float high) {
  return pair(from_float(low, T{}), from_float(high, T{}));
}

}  // namespace hoiclip
