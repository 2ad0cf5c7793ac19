// As much of CUDA as our kernels use, for a C++ compiler: one thread after the other, so that arithmetic and indices
// can be tested without a GPU. Races between threads are not seen.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#define __global__
#define __device__
#define __grid_constant__

struct Index {
    unsigned x;
    Index& operator=(unsigned value) { x = value; return *this; }
};
static thread_local Index blockIdx, threadIdx, gridDim;

inline void atomicAdd(float* to, float value) { *to += value; }

using cudaStream_t = void*;
enum cudaError_t { cudaErrorInvalidValue = 1 };
inline const char* cudaGetErrorString(cudaError_t number) { return number ? "invalid argument" : "no error"; }
struct cudaLaunchConfig_t { Index gridDim, blockDim; cudaStream_t stream; };

template <typename Job> int cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Job), const Job& job) {
    gridDim.x = config->gridDim.x < 3 ? config->gridDim.x : 3;  // few, so that threads have several items
    for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++)
        for (threadIdx.x = 0; threadIdx.x < config->blockDim.x; threadIdx.x++) kernel(job);
    return 0;
}

// Number formats of 16 bits, rounded to the nearest, ties to even.
struct __nv_bfloat16 { uint16_t bits; };
struct __half { uint16_t bits; };

inline float __bfloat162float(__nv_bfloat16 v) {
    const uint32_t bits = uint32_t(v.bits) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

inline __nv_bfloat16 __float2bfloat16_rn(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    if (value != value) return {0x7fc0};
    return {uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

inline float __half2float(__half v) {
    const int exponent = v.bits >> 10 & 31, mantissa = v.bits & 1023;
    float value = exponent ? std::ldexp(float(mantissa + 1024), exponent - 25) : std::ldexp(float(mantissa), -24);
    if (exponent == 31) value = mantissa ? NAN : INFINITY;
    return v.bits >> 15 ? -value : value;
}

inline __half __float2half_rn(float value) {
    const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
    const float size = std::fabs(value);
    if (size != size) return {uint16_t(sign | 0x7e00)};
    if (size >= 65520) return {uint16_t(sign | 0x7c00)};
    const int exponent = size < 6.103515625e-5f ? -14 : std::ilogb(size);
    const int mantissa = int(std::nearbyint(std::ldexp(size, 10 - exponent)));
    return {uint16_t(sign | (((exponent + 14) << 10) + mantissa))};
}
