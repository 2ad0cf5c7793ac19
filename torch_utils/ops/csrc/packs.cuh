// What all kernels share: numbers in memory and in registers, and launches.
#pragma once

#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

enum Format { FLOAT32, FLOAT16, BFLOAT16 };

__device__ inline float to_float(float v) { return v; }
__device__ inline float to_float(__half v) { return __half2float(v); }
__device__ inline float to_float(__nv_bfloat16 v) { return __bfloat162float(v); }

template <typename T> __device__ inline T from_float(float v);
template <> __device__ inline float from_float<float>(float v) { return v; }
template <> __device__ inline __half from_float<__half>(float v) { return __float2half_rn(v); }
template <> __device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float v) { return __float2bfloat16_rn(v); }

// Memory is read and written in packs of 16 bytes where that is possible; all sums are made in float.
template <typename T> constexpr int WIDTH = 16 / sizeof(T);

template <typename T, int N> struct alignas(sizeof(T) * N) Pack { T values[N]; };

template <int N, typename T> __device__ inline void load(float (&to)[N], const T* from) {
    const auto pack = *reinterpret_cast<const Pack<T, N>*>(from);
#pragma unroll
    for (int k = 0; k < N; k++) to[k] = to_float(pack.values[k]);
}

template <int N, typename T> __device__ inline void store(T* to, const float (&from)[N]) {
    Pack<T, N> pack;
#pragma unroll
    for (int k = 0; k < N; k++) pack.values[k] = from_float<T>(from[k]);
    *reinterpret_cast<Pack<T, N>*>(to) = pack;
}

// Whether packs may be used at an address; null is never read.
inline bool is_aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

constexpr unsigned THREADS = 256;
constexpr int64_t MAX_BLOCKS = 65536;  // enough to fill any GPU

// The items of one thread: every item of the grid's whole stride. Fewer than 2^31 items, so that sums do not overflow.
#define FOR_ITEMS(i, count) \
    for (unsigned i = blockIdx.x * THREADS + threadIdx.x; i < (count); i += gridDim.x * THREADS)

// Queues a kernel over items. Returns 0 or the number of a CUDA error.
template <typename Job> int launch(void (*kernel)(Job), int64_t items, const Job& job, void* stream) {
    if (items == 0) return 0;
    const int64_t blocks = (items + THREADS - 1) / THREADS;
    cudaLaunchConfig_t config{};
    config.gridDim = static_cast<unsigned>(blocks < MAX_BLOCKS ? blocks : MAX_BLOCKS);
    config.blockDim = THREADS;
    config.stream = static_cast<cudaStream_t>(stream);
    return cudaLaunchKernelEx(&config, kernel, job);
}
